"""Single layers and PyTorch's, forward and with the backward pass: `python -m train.benchmarks.layers`.

They show what a network of such layers can reach. Both sides run in one process, in turns.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxnets
from flaxnets.layers import onednn
from flaxnets.layers.attention import TokenAttention
from flaxnets.layers.conv import Conv
from flaxnets.layers.norm import BatchNorm
from train import cli
from train.arguments import Parser
from train.benchmarks import timing, training_tables
from train.distributed.convolutions import compiler

EXAMPLES = """
  python -m train.benchmarks.layers --rounds 9
"""
CALLS = 5  # in a round
TITLES = ['layer', 'input', 'forward, ms', 'PyTorch', 'ratio', 'with backward, ms', 'PyTorch', 'ratio']


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of ours and its twin. `learns`: its input has a gradient, which a first layer's has not."""

    name: str
    shape: tuple[int, ...]
    ours: Callable[[], nnx.Module]
    twin: Callable[[Any], Any]
    learns: bool = True


def convolution(batch: int, side: int, going_in: int, out: int, size: int = 3) -> Layer:
    """One that keeps the image's size."""
    return Layer(
        f'convolution {size}x{size}, {going_in} to {out}',
        (batch, side, side, going_in),
        lambda: Conv(going_in, out, size, rngs=nnx.Rngs(0)),
        lambda nn: nn.Conv2d(going_in, out, size, padding=size // 2),
        learns=going_in > 3,
    )


LAYERS = [
    convolution(64, 32, 3, 16),
    convolution(64, 32, 16, 16),
    convolution(64, 32, 32, 16, size=1),
    convolution(128, 12, 8, 8),
    convolution(128, 28, 1, 8),
    convolution(128, 14, 8, 16),
    convolution(32, 16, 32, 64),
    convolution(32, 8, 64, 128),
    convolution(32, 4, 128, 256),
    convolution(16, 32, 64, 64),
    Layer(
        'batch normalisation',
        (128, 12, 12, 8),
        lambda: BatchNorm(8),
        lambda nn: nn.BatchNorm2d(8),
    ),
    Layer(
        'attention, 1 head',
        (64, 256, 64),
        lambda: TokenAttention(64, rngs=nnx.Rngs(0)),
        lambda nn: nn.MultiheadAttention(64, 1, batch_first=True),
    ),
]


def measure(layer: Layer, rounds: int, fast: bool) -> dict[str, list[float]]:
    """Seconds of each round: ours, `fast` with oneDNN's convolutions, and PyTorch's; forward and with the
    backward pass."""
    import torch

    values = np.random.default_rng(0).standard_normal(layer.shape, np.float32)
    graph, *states = nnx.split(layer.ours(), nnx.Param, ...)
    params, rest = states

    def forward(params: Any, x: Any) -> Any:
        return nnx.merge(graph, params, rest, copy=True)(x)

    def both(params: Any, x: Any, gradient: Any) -> Any:
        if layer.learns:
            y, back = jax.vjp(forward, params, x)
        else:
            y, back = jax.vjp(lambda p: forward(p, x), params)
        return y, back(gradient)

    x = jnp.asarray(values)
    gradient = jnp.ones_like(forward(params, x))
    jit = compiler(jax.jit, fast)
    compiled = jit(forward), jit(both)

    twin = layer.twin(torch.nn)
    image = len(layer.shape) == 4
    given = torch.tensor(np.moveaxis(values, -1, 1).copy() if image else values, requires_grad=layer.learns)

    def call() -> Any:
        return twin(given) if image else twin(given, given, given, need_weights=False)[0]

    def back() -> None:
        twin.zero_grad()
        given.grad = None
        y = call()
        y.backward(torch.ones_like(y))

    functions: dict[str, Callable[[], Any]] = {
        'forward': lambda: jax.block_until_ready(compiled[0](params, x)),
        'forward twin': torch.no_grad()(call),
        'both': lambda: jax.block_until_ready(compiled[1](params, x, gradient)),
        'both twin': back,
    }
    return timing.alternate({name: repeated(function) for name, function in functions.items()}, rounds)


def parameters(layer: Layer) -> int:
    """How many values the layer learns."""
    return flaxnets.count_parameters(nnx.eval_shape(layer.ours))


def repeated(function: Callable[[], Any], times: int = CALLS) -> Callable[[], None]:
    """`function`, called `times` times."""

    def run() -> None:
        for _ in range(times):
            function()

    return run


def row(layer: Layer, seconds: dict[str, list[float]]) -> list[str]:
    """A row of the table."""
    ms = {name: 1000 / CALLS * statistics.median(values) for name, values in seconds.items()}
    cells = [layer.name, ' x '.join(map(str, layer.shape))]
    for name in ('forward', 'both'):
        ours, torch = ms[name], ms[f'{name} twin']
        cells += [f'{ours:.3g}', f'{torch:.3g}', f'{torch / ours:.2g}']
    return cells


def main(argv: Sequence[str]) -> None:
    """Measures and prints a Markdown table."""
    parser = Parser('train.benchmarks.layers', str(__doc__), EXAMPLES)
    parser.add_argument('--rounds', type=int, default=5, help='(default 5)')
    parser.add_argument(
        '--convolution', choices=['auto', 'xla'], default='auto', help="(default auto: oneDNN's)"
    )
    args = parser.parse_args(argv[1:])
    rounds, fast = args.rounds, args.convolution == 'auto' and onednn.available()
    import torch

    torch.set_num_threads(timing.cores())
    of = timing.hardware()
    print(
        f'{of["processor"]}, {of["cores"]} cores, load {of["load_average"]:.1f} at the start; '
        f'jax {of["versions"]["jax"]}, PyTorch {timing.torch_version()}; medians of {rounds} rounds; '
        f'convolutions: {"oneDNN" if fast else "XLA"}\n'
    )
    print(training_tables.table([TITLES, *(row(layer, measure(layer, rounds, fast)) for layer in LAYERS)]))


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
