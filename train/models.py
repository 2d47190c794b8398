"""Lists the models, or one model's options: `python -m train.models [NAME [OPTION=VALUE ...]]`."""

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flaxnets.errors import UserError
from train import cli
from train.arguments import Parser
from train.terminal import terminal

EXAMPLES = """
  python -m train.models
  python -m train.models vit
  python -m train.models vit blocks=4 heads=6 width=12 position=learned
  python -m train.models mnist_cnn 'widths=(4,8,16)' --tabulate

Multiply-adds are of one image, in evaluation; the description of one model also says what choosing
neighbours costs. The documents' parameter counts include those that their code allocates and never uses;
ours leave them out.
"""


def main(argv: Sequence[str]) -> None:
    """Prints the table, or one model."""
    parser = Parser('train.models', 'List the models, or the options of one.', EXAMPLES)
    parser.add_argument('name', nargs='?', metavar='NAME', help='a model')
    parser.add_argument('options', nargs='*', metavar='OPTION=VALUE', help='options of the model')
    parser.add_argument('--tabulate', action='store_true', help='its modules with shapes and parameters')
    args = parser.parse_intermixed_args(argv[1:])
    console = terminal()
    if args.name is None:
        if args.tabulate:
            raise UserError('--tabulate: expected the name of a model before it. See --help')
        console.print(list_of_models(), soft_wrap=False)
    else:
        options = parse(args.name, args.options)
        for part in one_model(args.name, options):
            console.print(part, soft_wrap=False)
        if args.tabulate:
            print(modules(args.name, options, console))


def list_of_models() -> Table:
    """Every registered model at its defaults."""
    from flaxnets.registry import MODELS

    table = Table(box=None, pad_edge=False)
    table.add_column('model')
    table.add_column('document')
    for title in ('parameters', 'published', 'multiply-adds', 'input'):
        table.add_column(title, justify='right')
    table.add_column('meaning')
    for name, entry in MODELS.items():
        ours, published, counted, shape = sizes(name, {})
        table.add_row(
            name,
            entry.document,
            f'{ours:,}',
            f'{published:,}',
            f'{counted.multiply_adds:,}',
            times(shape),
            entry.meaning,
        )
    return table


def one_model(name: str, options: dict[str, Any]) -> Iterator[Any]:
    """A description of the model, and its options."""
    from flaxnets import registry

    entry = registry.entry(name)
    ours, published, counted, shape = sizes(name, options)
    yield f'{name} ({entry.document}): {entry.meaning}'
    also = '' if ours == published else f' ({published:,} with those the document never uses)'
    yield f'{ours:,} parameters{also}, {counted.multiply_adds:,} multiply-adds for {times(shape)} pixels'
    if counted.comparisons:
        yield (
            f'choosing neighbours: {counted.between_tokens:,} of the multiply-adds, and '
            f'{counted.comparisons:,} comparisons; {counted.gathered:,} values gathered'
        )
    yield ''
    about, _, _ = (inspect.getdoc(entry.recipe.build) or '').partition('\n\n')
    yield f'{about}\n'
    table = Table(box=None, pad_edge=False)
    for title in ('option', 'default', 'here', 'meaning'):
        table.add_column(title)
    for option, declared in entry.options().items():
        here = shown(options[option]) if option in options else ''
        meaning = ' or '.join(declared.choices)
        meaning += f'{": " if meaning and declared.meaning else ""}{declared.meaning}'
        table.add_row(option, shown(declared.default), here, meaning)
    yield table


def parse(name: str, given: Sequence[str]) -> dict[str, Any]:
    """`['blocks=4', 'position=learned']` as options of the model, checked like a config's."""
    from flaxnets import registry
    from train import config

    known = registry.entry(name).options()
    options = {}
    for argument in given:
        option, equals, text = argument.partition('=')
        if not equals:
            raise UserError(f'command line: expected OPTION=VALUE, got {argument!r}. See --help')
        if option not in known:
            raise UserError(f'model.{option}: {name} has no such option. {registry.near(option, known)}')
        options[option] = config.check_model_option(f'model.{option}', literal(text), known[option])
    return options


def literal(text: str) -> Any:
    """A Python value, or the word itself; true and false in small letters too."""
    try:
        return ast.literal_eval({'true': 'True', 'false': 'False', 'none': 'None'}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def shown(value: Any) -> str:
    """A default as a user writes it."""
    if inspect.isclass(value):
        return value.__name__
    return value if isinstance(value, str) else f'{value}'


def times(shape: Sequence[int]) -> str:
    """32 x 32 x 3."""
    return ' x '.join(map(str, shape))


def abstract(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The model in evaluation mode without its values, and one image for it."""
    import jax
    from flax import nnx

    import flaxnets
    from flaxnets import registry

    declared = registry.entry(name).options()
    try:
        model = nnx.eval_shape(lambda: flaxnets.create_model(name, **options, rngs=nnx.Rngs(0)))
    except (TypeError, AttributeError) as error:  # a value of the wrong kind, such as a word for a pair
        raise UserError(f'model: {name} cannot be built with {options}: {error}') from error
    model.eval()
    shape = options.get('image_shape') or declared['image_shape'].default
    return model, jax.ShapeDtypeStruct((1, *shape), 'float32')


def sizes(name: str, options: dict[str, Any]) -> tuple[int, int, Any, tuple[int, ...]]:
    """Parameters, ours and published, `Arithmetic`, and the image they are for."""
    from flax import nnx

    import flaxnets
    from train.benchmarks.arithmetic import arithmetic

    model, image = abstract(name, options)
    graph, state = nnx.split(model)
    counted = arithmetic(lambda s, x: nnx.merge(graph, s)(x, rngs=nnx.Rngs(0)), state, image)
    ours = flaxnets.count_parameters(model)
    return ours, flaxnets.count_parameters(model, published=True), counted, image.shape[1:]


def modules(name: str, options: dict[str, Any], console: Console) -> str:
    """`nnx.tabulate` of the model, traced: no parameter is drawn."""
    import jax
    from flax import nnx

    model, image = abstract(name, options)
    graph, state = nnx.split(model)
    draws = any(getattr(module, 'draws_candidates', False) for _, module in nnx.iter_modules(model))
    looks: dict[str, Any] = {'force_terminal': console.is_terminal, 'width': console.width}
    tables = []

    def trace(state: nnx.State, image: jax.Array) -> None:
        rngs: dict[str, Any] = {'rngs': nnx.Rngs(0)} if draws else {}
        tables.append(nnx.tabulate(nnx.merge(graph, state), image, console_kwargs=looks, **rngs))

    jax.eval_shape(trace, state, image)
    return tables[0]


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
