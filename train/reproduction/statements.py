"""What the documents conclude, each statement with the check that decides it.

A check returns whether our records confirm the statement, with the figures; it raises `Missing` if
a record that it needs does not exist yet.
"""

from collections.abc import Callable, Mapping

from train.reproduction.findings import Finding, Missing, Runs
from train.reproduction.suites import CONVNN

NEAR_CHANCE = 15.0  # percent; chance is 10


def _chance(runs: Runs) -> tuple[bool, str]:
    deep = {n: runs.mean(f'block_cnn/{n}') for n in (6, 8, 10)}
    return max(deep.values()) < NEAR_CHANCE, _listed({f'{n} blocks': v for n, v in deep.items()})


def _two_blocks(runs: Runs) -> tuple[bool, str]:
    plain = {f'{n} blocks': runs.mean(f'block_cnn/{n}') for n in (2, 4, 6, 8, 10)}
    return plain['2 blocks'] == max(plain.values()), _listed(plain)


def _four_blocks(runs: Runs) -> tuple[bool, str]:
    name = 'block_cnn/4'
    curve = runs.curve(name, 'test_accuracy')
    last = max((epoch for epoch, value in enumerate(curve, 1) if value < NEAR_CHANCE), default=0)
    figures = (
        f'last epoch below {NEAR_CHANCE:g}%: {last}; final {curve[-1]:.2f}%; published: last below at 21'
    )
    return 15 <= last <= 30 and curve[-1] > NEAR_CHANCE, figures


def _batch_norm(runs: Runs) -> tuple[bool, str]:
    with_it, without = runs.mean('block_cnn/10-batch-norm'), runs.mean('block_cnn/10')
    return with_it > 40 and without < NEAR_CHANCE, f'with {with_it:.2f}%, without {without:.2f}%'


ACTIVATIONS = ('relu', 'tanh', 'gelu')


def _learned_better(runs: Runs) -> tuple[bool, str]:
    pairs = {a: (runs.mean(f'vit/learned-{a}'), runs.mean(f'vit/cosine-{a}')) for a in ACTIVATIONS}
    return all(learned > cosine for learned, cosine in pairs.values()), _paired(pairs, '%')


def _learned_faster(runs: Runs) -> tuple[bool, str]:
    seconds = {
        a: tuple(runs.mean(f'vit/{position}-{a}', 'seconds_per_epoch') for position in ('learned', 'cosine'))
        for a in ACTIVATIONS
    }
    return all(learned < cosine for learned, cosine in seconds.values()), _paired(seconds, ' s an epoch')


def _activation(position: str, winner: str) -> Callable[[Runs], tuple[bool, str]]:
    def check(runs: Runs) -> tuple[bool, str]:
        scores = {a: runs.mean(f'vit/{position}-{a}') for a in ACTIVATIONS}
        return max(scores, key=scores.__getitem__) == winner, _listed(scores)

    return check


LAYERS = (2, 4, 8)


def _attention(runs: Runs) -> tuple[bool, str]:
    pairs = {
        f'{n} layers': (runs.mean(f'convnn/attention-{n}'), runs.mean(f'convnn/cnn-{n}')) for n in LAYERS
    }
    return all(attention < cnn for attention, cnn in pairs.values()), _paired(pairs, '%')


def _branching(runs: Runs) -> tuple[bool, str]:
    models = list(dict.fromkeys(e.name.partition('/')[2].rpartition('-')[0] for e in CONVNN))
    best = {}
    for layers in (2, 8):
        scores = {m: runs.mean(f'convnn/{m}-{layers}', 'best_test_accuracy') for m in models}
        best[layers] = sorted(scores.items(), key=lambda item: -item[1])[:2]
    figures = '; '.join(f'{n} layers: {_listed(dict(top))}' for n, top in best.items())
    return all(top[0][0] == 'branching_attn' for top in best.values()), figures


def _pool_first(runs: Runs) -> tuple[bool, str]:
    one, other = ({r['seed']: r for r in runs.of(f'mnist/{n}')} for n in ('2', '3a'))
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        raise Missing('mnist/2 and mnist/3a with one seed')
    scores = {seed: (one[seed]['scores'], other[seed]['scores']) for seed in seeds}
    keys = ('train_loss', 'test_loss', 'confusion')
    figures = '; '.join(f'test loss {a["test_loss"]!r} and {b["test_loss"]!r}' for a, b in scores.values())
    return all(a[key] == b[key] for a, b in scores.values() for key in keys), figures


def _tanh(runs: Runs) -> tuple[bool, str]:
    relu, tanh = runs.first('mnist/2', 98), runs.first('mnist/3b', 98)
    figures = f'ReLU {relu or "never"}, tanh {tanh or "never"}; published about 20 and 50'
    return relu is not None and (tanh is None or tanh > relu), figures


def _adam(runs: Runs) -> tuple[bool, str]:
    first = runs.first('mnist/4', 99)
    loss, accuracy = runs.curve('mnist/4', 'test_loss'), runs.curve('mnist/4', 'test_accuracy')
    rises, falls = loss[-1] / min(loss), max(accuracy) - accuracy[-1]
    figures = (
        f'99% first at epoch {first or "never"}; test loss {min(loss):.4f} at epoch '
        f'{loss.index(min(loss)) + 1}, {loss[-1]:.4f} at the end; accuracy {max(accuracy):.2f}% at best, '
        f'{accuracy[-1]:.2f}% at the end'
    )
    return first is not None and first <= 10 and rises > 1.5 and falls < 0.5, figures


def _residual(runs: Runs) -> tuple[bool, str]:
    with_, without = runs.mean('mnist/5'), runs.mean('mnist/5b')
    return with_ > 98 and without < 20, f'with residuals {with_:.2f}%, plain {without:.2f}%'


def _best_of_ten(runs: Runs) -> tuple[bool, str]:
    names = ('1', '2', '3a', '3b', '4', '5', '5b', '6a', '6b', '6c')
    scores = {n: runs.mean(f'mnist/{n}') for n in names}
    top = dict(sorted(scores.items(), key=lambda item: -item[1])[:3])
    return next(iter(top)) == '6a', _listed(top)


def _pruned(model: str, equal: bool) -> Callable[[Runs], tuple[bool, str]]:
    def check(runs: Runs) -> tuple[bool, str]:
        whole, pruned = f'profiled/{model}', f'profiled/{model}-pruned'
        lost = runs.mean(whole) - runs.mean(pruned)
        times = [runs.mean(name, 'seconds_per_epoch') for name in (whole, pruned)]
        figures = f'{lost:.2f} points lost; {times[0]:.1f} and {times[1]:.1f} s an epoch'
        return times[1] < times[0] and (abs(lost) <= 1 if equal else lost > 1), figures

    return check


def _numpy(runs: Runs) -> tuple[bool, str]:
    seconds = runs.mean('mnist/1', 'seconds')
    return (
        seconds < 139,
        f'ours {seconds:.0f} s on {runs.of("mnist/1")[0]["hardware"]["processor"]}, other hardware',
    )


def _paired(pairs: Mapping[str, tuple[float, ...]], unit: str) -> str:
    return '; '.join(f'{name} {one:.2f} against {other:.2f}{unit}' for name, (one, other) in pairs.items())


def _listed(values: dict[str, float]) -> str:
    return ', '.join(f'{name} {value:.2f}%' for name, value in values.items())


FINDINGS = (
    Finding('Without batch normalisation, 6 blocks and more stay near chance', '001', _chance),
    Finding('Without it, 2 blocks learn best', '001', _two_blocks),
    Finding('Without it, 4 blocks leave chance only after about 20 epochs', '001', _four_blocks),
    Finding('With batch normalisation, 10 blocks train', '001', _batch_norm),
    Finding('Learned positions are better than the cosine table', '003', _learned_better),
    Finding('The ViTs with learned positions, which have fewer blocks, train faster', '003', _learned_faster),
    Finding('With the cosine table, ReLU is best', '003', _activation('cosine', 'relu')),
    Finding('With learned positions, GELU is best', '003', _activation('learned', 'gelu')),
    Finding('Attention alone is worse than the CNN', '000', _attention),
    Finding('Branching attention is best at 2 and 8 layers (best epoch)', '000', _branching),
    Finding('Pooling before ReLU equals ReLU before pooling, to the bit', '004', _pool_first),
    Finding('Tanh needs more epochs to 98% than ReLU', '004', _tanh),
    Finding(
        'Adam reaches 99% within 10 epochs, then over-fits: test loss rises, accuracy stays', '004', _adam
    ),
    Finding(
        'With residuals the deep MNIST net trains; the plain one (with the oversight) does not',
        '004',
        _residual,
    ),
    Finding('Batch normalisation with residuals (6a) is the best of the ten', '004', _best_of_ten),
    Finding('Pruning the profiled CNN saves time at equal accuracy', '003', _pruned('profiled_cnn', True)),
    Finding('Pruning VGG16 saves time and costs points', '003', _pruned('vgg16', False)),
    Finding("The MLP's 150 epochs: NumPy 139 s, PyTorch 199 s; ours is faster than both", '004', _numpy),
)
