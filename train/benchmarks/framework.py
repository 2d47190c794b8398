"""The framework's networks beside their published formulation: `python -m train.benchmarks.framework`.

A training step (forward, loss, backward, AdamW) in one process, both sides in turns; then the memory of each
in a process of its own: what a step needs beyond parameters and moments, which both sides have.
"""

import ctypes
import dataclasses
import datetime
import gc
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import flaxnets
from flaxnets.errors import UserError
from flaxnets.layers import init, onednn
from flaxnets.layers.framework.branching2d import Branching2d
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.pooling import max_pool
from train import cli, memory, provenance
from train.arguments import Parser
from train.benchmarks import timing, training_tables
from train.benchmarks.training import spread
from train.distributed.convolutions import compiler

EXAMPLES = """
  python -m train.benchmarks.framework --rounds 7
  python -m train.benchmarks.framework --case vit_tiny --into docs/neighbours.md
"""
MARK = 'benchmark framework'
RATE, DECAY = 1e-4, 0.01  # the published recipe
# VGG-11: channels, and P for a pool.
VGG11: tuple[int | str, ...] = (64, 'P', 128, 'P', 256, 256, 'P', 512, 512, 'P', 512, 512, 'P')


class Layers(nnx.Module):
    """VGG-11's eight layers as branching layers, ReLU and pools, and a linear layer over the mean."""

    def __init__(self, widths: Sequence[int | str], size: int, **options: Any):
        rngs = nnx.Rngs(0)
        self.layers: Any = nnx.List([])
        channels, side = 3, size
        self.widths = tuple(widths)
        for width in widths:
            if isinstance(width, str):
                side //= 2
                continue
            shape = (side, side)
            made = Branching2d(channels, width, shape, 0.5, ConvNN2dOptions(**options), rngs=rngs)
            self.layers.append(made)
            channels = width
        self.head = init.linear(channels, 10, rngs=rngs)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        layers = iter(self.layers)
        for width in self.widths:
            x = max_pool(x, 2) if isinstance(width, str) else jax.nn.relu(next(layers)(x))
        return self.head(x.mean((1, 2)))


def layers_in_torch(widths: Sequence[int | str], **options: Any) -> Any:
    """The same in PyTorch."""
    from torch import nn

    from train.torch_reference import framework, framework_layers

    channels, layers = 3, []
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        given = framework.IMAGE_LAYER | {'ratio': 0.5} | options
        made = framework_layers.Branching2d(channels, width, given, framework_layers.ConvNN2d)
        layers += [made, nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared: our model, its twin, and the images' side."""

    title: str
    ours: Callable[[], nnx.Module]
    theirs: Callable[[], Any]
    side: int
    batch: int = 32

    def images(self) -> np.ndarray:
        """[batch, side, side, 3] at random."""
        return np.random.default_rng(0).standard_normal((self.batch, self.side, self.side, 3), np.float32)


def registered(title: str, name: str, side: int, **options: Any) -> Case:
    """A registered model."""

    def theirs() -> Any:
        from train.torch_reference import networks

        return networks.create(name, image_shape=(side, side, 3), **options)

    def ours() -> nnx.Module:
        shape = (side, side, 3)
        return flaxnets.create_model(name, image_shape=shape, rngs=nnx.Rngs(0), **options)

    return Case(title, ours, theirs, side)


CASES = {
    'layers': Case(
        "VGG-11's eight layers, branching, r = 0.5",
        lambda: Layers(VGG11, 32),
        lambda: layers_in_torch(VGG11),
        32,
    ),
    'vit_tiny': registered('ViT-Tiny, ConvNN, K = 9', 'vit_tiny', 224, layer='convnn_attention'),
}


class Ours:
    """Our training step. `parameters`: how many values it trains."""

    def __init__(self, case: Case):
        model = case.ours()
        model.train()
        self.parameters = flaxnets.count_parameters(model)
        graph, *states = nnx.split(model, nnx.Param, ...)
        params, rest = states
        images, labels = jnp.asarray(case.images()), jnp.arange(case.batch) % 10
        rule = optax.adamw(RATE, weight_decay=DECAY)

        def loss(params: Any) -> jax.Array:
            logits = nnx.merge(graph, params, rest, copy=True)(images, rngs=nnx.Rngs(0))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(params: Any, moments: Any) -> Any:
            updates, moments = rule.update(jax.grad(loss)(params), moments, params)
            return optax.apply_updates(params, updates), moments

        self.state = params, rule.init(params)
        jit = compiler(jax.jit, onednn.available())
        self.compiled: Any = jit(step, donate_argnums=(0, 1)).lower(*self.state).compile()

    def __call__(self) -> None:
        self.state = jax.block_until_ready(self.compiled(*self.state))

    def temporary(self) -> int:
        """Bytes of a step beyond its arguments, by XLA's own account."""
        analysis: Any = self.compiled.memory_analysis()
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes


class Theirs:
    """The published formulation's training step in PyTorch."""

    def __init__(self, case: Case):
        import torch

        torch.set_num_threads(timing.cores())
        self.model = case.theirs().train()
        self.images = torch.from_numpy(case.images().transpose(0, 3, 1, 2).copy())
        self.labels = torch.arange(case.batch) % 10
        self.rule = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=DECAY)

    def __call__(self) -> None:
        from torch.nn import functional

        self.rule.zero_grad(set_to_none=True)
        functional.cross_entropy(self.model(self.images), self.labels).backward()
        self.rule.step()


SIDES: dict[str, Any] = {'ours': Ours, 'PyTorch': Theirs}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Seconds and bytes of a step of both sides."""
    case = CASES[name]
    steps = {side: build(case) for side, build in SIDES.items()}
    taken = timing.alternate(steps, rounds, before=steps)
    result: dict[str, Any] = {
        'case': case.title,
        'parameters': steps['ours'].parameters,
        'seconds': {side: spread(seconds) for side, seconds in taken.items()},
        'ratio': spread([t / o for t, o in zip(taken['PyTorch'], taken['ours'], strict=True)])
        | {'median': statistics.median(taken['PyTorch']) / statistics.median(taken['ours'])},
        'temporary': steps['ours'].temporary(),
    }
    del steps
    return result | {'resident': {side: alone(side, name) for side in SIDES}}


def alone(side: str, name: str) -> int:
    """What the memory of a process grows by in a step of one side."""
    command = [sys.executable, '-m', 'train.benchmarks.framework', '--side', side, '--case', name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f'{name}, {side}: expected a process that measures memory, got {done.stderr[-300:]}')
    return int(json.loads(done.stdout.splitlines()[-1]))


def growth(side: str, name: str) -> int:
    """That, in this process: the peak of the third step above what is in use between steps. Linux only."""
    step = SIDES[side](CASES[name])
    for _ in range(2):
        step()
    if side == 'PyTorch':
        step.rule.zero_grad(set_to_none=True)  # the gradients count as the step's
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak is now what is in use
    before = memory.peak()
    step()
    return memory.peak() - before


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    of = results['hardware']
    heads = ['network', 'parameters', 'ours, ms', 'PyTorch, ms', 'PyTorch / ours']
    heads += ['ours, MB', "by XLA's account", 'PyTorch, MB', 'ours / PyTorch']
    cells = [heads]
    for row in results['rows']:
        resident = row['resident']
        cells.append(
            [
                row['case'],
                f'{row["parameters"]:,}',
                *(training_tables.milliseconds(row['seconds'][side]) for side in SIDES),
                training_tables.ratio(row['ratio']),
                f'{resident["ours"] / 1e6:,.0f}',
                f'{row["temporary"] / 1e6:,.0f}',
                f'{resident["PyTorch"] / 1e6:,.0f}',
                f'{resident["ours"] / resident["PyTorch"]:.2f}',
            ]
        )
    return (
        f'Measured on {of["processor"]}, {of["cores"]} core{"s" * (of["cores"] > 1)}, load '
        f'{of["load_average"]:.1f} at the start; jax {of["versions"]["jax"]}, PyTorch '
        f'{timing.torch_version()}; batch 32, {results["rounds"]} rounds; {results["date"]}, commit '
        f'{results["commit"][:7]}{"-changed" * results["commit"].endswith("-changed")}.\n\n'
        + training_tables.table(cells)
    )


def main(argv: Sequence[str]) -> None:
    """Measures and prints a Markdown table."""
    args = parser().parse_args(argv[1:])
    if args.side:
        print(growth(args.side, args.case[0]))
        return
    if args.rounds < 1:
        raise UserError(f'--rounds: expected at least 1, got {args.rounds}')
    results: dict[str, Any] = {
        'hardware': timing.hardware(),
        'rounds': args.rounds,
        'date': datetime.date.today().isoformat(),
        'commit': provenance.commit(),
        'rows': [measure(name, args.rounds) for name in args.case or CASES],
    }
    made = table(results)
    print(made)
    if args.into:
        page = pathlib.Path(args.into)
        page.write_text(training_tables.between(page.read_text(), MARK, made))


def parser() -> Parser:
    """The flags."""
    made = Parser('train.benchmarks.framework', str(__doc__), EXAMPLES)
    made.add_argument('--case', action='append', choices=list(CASES), help='(default: all)')
    made.add_argument('--rounds', type=int, default=5, help='(default 5)')
    made.add_argument('--side', choices=list(SIDES), help='only the memory of this side, in this process')
    made.add_argument('--into', metavar='PAGE.md', help=f'write the table between the marks <!-- {MARK} -->')
    return made


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
