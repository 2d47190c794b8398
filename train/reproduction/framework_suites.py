"""The framework's experiments (arXiv 2511.14137): the logged runs, and a small network of our own.

The logs state the best test accuracy over epochs, so best is compared with best. Runs of one configuration
are one experiment, whose published figures are their means.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from train import published
from train.reproduction.experiment import Experiment

Facts = dict[str, Any]
OF = {'Col': 'features', 'Loc': 'position', 'Loc_Col': 'both'}
SAMPLING = {'all': 'all', 'random': 'random', 'spatial': 'grid'}
LAYERS = {'Attention': 'attention', 'ConvNNAttention': 'convnn_attention', 'KvtAttention': 'knn_attention'}
FIGURES = ('best_test_accuracy', 'test_accuracy', 'seconds_per_epoch', 'parameters')


def logged(groups: Iterable[str]) -> Iterator[Facts]:
    """The runs of these groups in our words: facts, and figures as `published.figures` names them."""
    document = published.document(published.FRAMEWORK)
    for group in groups:
        table = document['groups'][group]
        for values in table['runs']:
            run = table['same'] | dict(zip(table['columns'], values, strict=True))
            yield run | {
                'sampling': SAMPLING[run['sampling_type']],
                'layer': LAYERS.get(run['layer'], 'branching'),
                'ratio': f'{run.get("branch_ratio", 0):g}',
                'test_accuracy': run['last_test_accuracy'],
            }


def experiments(
    suite: str, config: str, groups: Iterable[str], described: Callable[[Facts], tuple[str, Facts]]
) -> list[Experiment]:
    """An experiment for each configuration; `described` gives its name and what its config takes."""
    found: dict[str, tuple[Facts, list[Facts]]] = {}
    for run in logged(groups):
        name, arguments = described(run)
        found.setdefault(name, (arguments, []))[1].append(run)
    made = []
    for name, (arguments, runs) in found.items():
        figures: Facts = {key: round(statistics.fmean(run[key] for run in runs), 4) for key in FIGURES}
        figures |= {'parameters': int(figures['parameters']), 'curve': {}}
        epochs = runs[0]['epochs']
        figures['seconds'] = figures['seconds_per_epoch'] * epochs
        argument = ','.join(f'{key}={value}' for key, value in arguments.items())
        made.append(
            Experiment(
                f'{suite}/{name}',
                f'configs/{config}.py:{argument}',
                figures | ({'runs': len(runs)} if len(runs) > 1 else {}),
                {} if epochs == 150 else {'epochs': epochs},
                compares='best_test_accuracy',
            )
        )
    return made


def ratio(run: Facts) -> tuple[str, Facts]:
    """By branching ratio."""
    kinds = {
        'similarity': run['magnitude_type'],
        'similarity_of': OF[run['similarity_type']],
        'aggregation': OF[run['aggregation_type']],
    }
    name = '-'.join([run['dataset'], *kinds.values(), f'r{run["ratio"]}'])
    return name, {'ratio': run['ratio'], **kinds, 'data': run['dataset']}


def neighbors(run: Facts) -> tuple[str, Facts]:
    """By the number of neighbours."""
    kinds = {'ratio': run['ratio'], 'similarity': run['magnitude_type']}
    name = f'{run["dataset"]}-{kinds["similarity"]}-r{kinds["ratio"]}-K{run["K"]}'
    return name, {**kinds, 'num_neighbors': run['K'], 'data': run['dataset']}


def samples(run: Facts) -> tuple[str, Facts]:
    """By the number of candidates."""
    kinds = {'ratio': run['ratio'], 'similarity': run['magnitude_type'], 'sampling': run['sampling']}
    name = '-'.join([run['dataset'], kinds['similarity'], f'r{kinds["ratio"]}', kinds['sampling']])
    return f'{name}-N{run["num_samples"]}', {
        **kinds,
        'num_samples': run['num_samples'],
        'data': run['dataset'],
    }


def vit(run: Facts) -> tuple[str, Facts]:
    """ViT-Tiny by layer, heads, neighbours, candidates and convolution."""
    layer = {'layer': run['layer'], 'data': run['dataset']}
    name = f'{run["dataset"]}-{run["layer"]}'
    if run['layer'] == 'attention':
        return f'{name}-heads{run["num_heads"]}', layer | {'heads': run['num_heads']}
    layer['num_neighbors'] = run['K']
    if run['layer'] == 'knn_attention':
        return f'{name}-K{run["K"]}', layer
    layer |= {'convolution': run['convolution_type'], 'sampling': run['sampling']}
    among = run['sampling']
    if among != 'all':
        layer['num_samples'] = run['num_samples']
        among += f'-N{run["num_samples"]}'
    return f'{name}-{run["convolution_type"]}-{among}-K{run["K"]}', layer


SMALL_RATIOS = ('0.5', '0', '1')
# The order of the suites' pages; the last one is ours.
SUITES: dict[str, list[Experiment]] = {
    'framework_ratio': experiments(
        'framework_ratio', 'framework_vgg', ('BR_test_cos', 'BR_test_eucl'), ratio
    ),
    'framework_neighbors': experiments(
        'framework_neighbors', 'framework_vgg', [f'K_test{i}_eucl' for i in (1, 2, 3)], neighbors
    ),
    'framework_samples': experiments(
        'framework_samples', 'framework_vgg', ('N_test_cos', 'N_test_eucl'), samples
    ),
    'framework_vit': experiments(
        'framework_vit',
        'framework_vit',
        ('Baseline_Test', 'Conv_test', 'K_test_correct', 'N_test_correct'),
        vit,
    ),
    'framework_small': [
        Experiment(
            f'framework_small/ratio-{share}',
            f'configs/framework_vgg.py:small,ratio={share}',
            {'curve': {}},
            compares='best_test_accuracy',
        )
        for share in SMALL_RATIOS
    ],
}
