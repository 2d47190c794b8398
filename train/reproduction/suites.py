"""The experiments: configs with overrides, and the published figures.

A suite is a list of experiments; 'all' are the suites of the documents. `--variations` runs those under
another choice too, and the tables show both.
"""

import dataclasses
import fnmatch

from flaxnets import registry
from flaxnets.errors import UserError
from train import published
from train.reproduction import framework_suites
from train.reproduction.experiment import Experiment

CONVNN = [
    Experiment(
        f'convnn/{run["model"]}-{run["num_layers"]}',
        f'configs/convnn.py:model={run["model"]},layers={run["num_layers"]}',
        published.figures(run, published.document('convnn_cifar10')['recipe']),
    )
    for run in published.document('convnn_cifar10')['runs']
]

_BATCH_NORM = published.find('block_cnn_cifar10', blocks=10, batch_norm=True)
_PLAIN = {
    blocks: published.find('block_cnn_cifar10', blocks=blocks, batch_norm=False)
    for blocks in (2, 4, 6, 8, 10)
}
BLOCK_CNN = [
    *(
        Experiment(f'block_cnn/{blocks}', f'configs/block_cnn.py:blocks={blocks}', run)
        for blocks, run in _PLAIN.items()
    ),
    Experiment('block_cnn/10-batch-norm', 'configs/block_cnn.py:blocks=10,batch_norm', _BATCH_NORM),
    *(
        Experiment(
            f'block_cnn/{name}-both-halves',
            f'configs/block_cnn.py:blocks={variation},both_halves',
            run,
            choice="both convolutions of a block work; in the document's code one does",
            variation_of=f'block_cnn/{name}',
        )
        for name, variation, run in (
            ('2', '2', _PLAIN[2]),
            ('6', '6', _PLAIN[6]),
            ('10-batch-norm', '10,batch_norm', _BATCH_NORM),
        )
    ),
]

EXPERT_CNN = [
    Experiment(
        'expert_cnn/8-blocks',
        'configs/expert_cnn.py',
        published.find('expert_cnn_cifar10'),
        choice='batch 128, crop with padding 4, flip: not stated',
    )
]

ACTIVATIONS = ('relu', 'tanh', 'gelu')
VIT = [
    Experiment(
        f'vit/{position}-{activation}',
        f'configs/vit.py:position={position},activation={activation}',
        published.find('vit_cifar10_even', position=position, activation=activation),
        choice='' if position == 'cosine' else 'the table starts normal, deviation 1: not stated',
    )
    for position in ('cosine', 'learned')
    for activation in ACTIVATIONS
]
_LEARNED = VIT[3:]
_NARROW = {'model.position_init': 'normal_0.02'}
_FROZEN = {'optimizer.freeze': 'positions'}
for _name, _activations, _overrides, _choice in (
    ('fixed', ACTIVATIONS, _FROZEN, 'the table keeps its initial values, normal with deviation 1'),
    ('normal-0.02', ACTIVATIONS, _NARROW, 'the table starts normal, deviation 0.02'),
    (
        'normal-0.02-fixed',
        ('gelu',),
        _NARROW | _FROZEN,
        'the table keeps its initial values, normal with deviation 0.02',
    ),
    (
        'uniform',
        ACTIVATIONS,
        {'model.position_init': 'uniform'},
        'the table starts uniform from 0 to 1, as the class token',
    ),
):
    VIT += [
        dataclasses.replace(
            experiment,
            name=f'{experiment.name}-{_name}',
            overrides=_overrides,
            choice=_choice,
            variation_of=experiment.name,
        )
        for activation, experiment in zip(ACTIVATIONS, _LEARNED, strict=True)
        if activation in _activations
    ]

_OPEN = 'Adam 1e-4, batch 32, crop without padding: not stated'
_PROFILED = [
    Experiment(
        f'profiled/{model}{"-pruned" if pruned else ""}',
        f'configs/{model}.py{":pruned" if pruned else ""}',
        published.find('profiled_cifar10', model=model, pruned=pruned),
        choice=_OPEN if model == 'profiled_cnn' else f'from ImageNet weights; {_OPEN}',
        needs_weights=model == 'vgg16',
    )
    for model in ('profiled_cnn', 'vgg16')
    for pruned in (False, True)
]
PROFILED = [
    *_PROFILED,
    *(
        dataclasses.replace(
            experiment,
            name=f'{experiment.name}-from-scratch',
            choice='from random values, where the document most likely starts from ImageNet weights',
            variation_of=experiment.name,
            needs_weights=False,
        )
        for experiment in _PROFILED
        if experiment.needs_weights
    ),
    Experiment(
        'profiled/profiled_cnn-padding-4',
        'configs/profiled_cnn.py:crop',
        _PROFILED[0].published,
        choice='crop with padding 4',
        variation_of='profiled/profiled_cnn',
    ),
    *(
        dataclasses.replace(
            experiment,
            name=f'{experiment.name}-no-flip',
            overrides={'data.augment.flip': False},
            choice='no flip',
            variation_of=experiment.name,
        )
        for experiment in _PROFILED
        if not experiment.needs_weights
    ),
]

MNIST = [
    Experiment(
        f'mnist/{run["exercise"]}',
        f'configs/mnist.py:exercise={run["exercise"]}',
        published.find('mnist', exercise=run['exercise']),
    )
    for run in published.document('mnist')['runs']
]

DOCUMENTS: dict[str, list[Experiment]] = {
    'convnn': CONVNN,
    'block_cnn': BLOCK_CNN,
    'expert_cnn': EXPERT_CNN,
    'vit': VIT,
    'profiled': PROFILED,
    'mnist': MNIST,
}
SUITES = DOCUMENTS | framework_suites.SUITES
EXPERIMENTS = {experiment.name: experiment for suite in SUITES.values() for experiment in suite}


def select(
    suite: str, only: str = '', *, variations: bool = False, weights: bool = False
) -> list[Experiment]:
    """A suite's experiments, or 'all' of the documents; `only` is a shell pattern for the part of a name
    after the suite's.

    Without `weights`, experiments that need them are replaced by their variations from random values.

    Raises:
        UserError: an unknown suite, or a pattern that matches nothing.
    """
    if suite != 'all' and suite not in SUITES:
        raise UserError(f'suite: there is no {suite!r}. {registry.near(suite, [*SUITES, "all"])}')
    there = [e for e in EXPERIMENTS.values() if e.suite == suite or (suite == 'all' and e.suite in DOCUMENTS)]
    instead = {e.name for e in there if e.needs_weights and not weights}
    there = [
        e
        for e in there
        if e.name not in instead and (variations or not e.variation_of or e.variation_of in instead)
    ]
    chosen = [e for e in there if fnmatch.fnmatchcase(e.short, only or '*')]
    if not chosen:
        names = [e.short for e in there]
        raise UserError(f'--only: {only!r} matches none of {suite}. {registry.near(only, names)}')
    return chosen
