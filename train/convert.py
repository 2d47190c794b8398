"""Converts weights between PyTorch files, safetensors and runs: `python -m train.convert --help`."""

import copy
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from flaxnets.errors import NoTorchMap, UserError
from train import arguments, cli, config_flags
from train.arguments import Parser
from train.progress import shown

FILES = {'.pt', '.pth', '.safetensors'}
EXAMPLES = """
  python -m train.convert --from model.pt --to runs/mine --config configs/branching_attn.py
  python -m train.evaluate --workdir runs/mine
  python -m train.convert --from runs/mine --to model.safetensors
  python -m train.convert --from theirs.pt --to ours.pt --config configs/vgg16.py --rename 'fc.=classifier.'
  python -m train.convert --table vgg16

What --config says of the model must fit the weights; --config.KEY=VALUE changes it. Without --config the
model card that travels with the weights of flaxnets says what they are. No image is read: the number of
classes and the size of the images are those of the config's data set, or of --classes,
--config.data.image_size and --config.data.channels.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the flags and converts."""
    parser = Parser('train.convert', 'Convert weights between PyTorch files, safetensors and runs.', EXAMPLES)
    parser.add_argument('--from', dest='source', metavar='PATH', help='.pt, .pth, .safetensors or a run')
    parser.add_argument('--to', metavar='PATH', help='.pt, .pth, .safetensors, or a folder for a run')
    arguments.add_checkpoint(parser)
    parser.add_argument(
        '--skip', default='', help='values that are not loaded: key, path or regular expression'
    )
    parser.add_argument(
        '--rename', default='', metavar="'OLD=NEW ...'", help='each key becomes re.sub(OLD, NEW, key)'
    )
    parser.add_argument('--classes', default='', metavar='N', help='how many, or NAME,NAME,...')
    parser.add_argument(
        '--optimizer',
        action='store_true',
        help="to a run: also convert the moments and the step of PyTorch's optimiser",
    )
    parser.add_argument(
        '--without_unused',
        action='store_true',
        help='leave out parameters that the published code never uses; by default they are zeros',
    )
    arguments.add_model(parser)
    parser.add_argument('--table', metavar='MODEL', help="print a model's map between PyTorch and flaxnets")
    args, rest = parser.parse_known_args(argv[1:])
    if args.table:
        print(table(args.table))
        return
    if args.source is None or args.to is None:
        raise UserError('expected --from PATH and --to PATH; see --help')
    config = None
    if any(arg.lstrip('-').startswith('config') for arg in rest):
        config, _ = config_flags.parse([argv[0], *rest])
    elif rest:
        raise UserError(f'command line: {rest[0]!r} is not expected; see --help')
    given = {key: value for key, value in vars(args).items() if key not in ('source', 'to', 'table')}
    given['classes'] = classes(args.classes)
    with shown() as progress:
        said = convert(args.source, args.to, config, stage=progress, **given)
    print(said)


def classes(text: str) -> int | tuple[str, ...]:
    """`'10'` as a number, `'cat,dog'` as names, `''` as none given."""
    if not text:
        return ()
    found = int(text) if text.isdigit() else tuple(filter(None, text.split(',')))
    if not found or found == 1 or (not isinstance(found, int) and len(set(found)) < max(2, len(found))):
        raise UserError(f'--classes: expected their number, or two different names or more, got {text!r}')
    return found


def table(name: str) -> str:
    """The map of a registered model with its usual options."""
    from flax import nnx

    import flaxnets
    from flaxnets.interop import conversion

    return conversion.table(nnx.eval_shape(lambda: flaxnets.create_model(name, rngs=nnx.Rngs(0))))


def convert(
    source: str | pathlib.Path,
    to: str | pathlib.Path,
    config: Any = None,
    *,
    checkpoint: str = 'best',
    skip: str = '',
    rename: str = '',
    classes: int | Sequence[str] = (),
    optimizer: bool = False,
    without_unused: bool = False,
    model: str | None = None,
    stage: Callable[[str], None] = lambda what: None,
) -> str:
    """Reads weights, checks that they fit their model, writes them; returns a report of lines.

    Args:
        source: `.pt`, `.pth`, `.safetensors` or a run's workdir.
        to: the same; as a workdir, one without a run.
        config: a training config that describes the model; None: the source's model card does.
        checkpoint: which of a run's.
        skip: values that are not loaded (`config.init_from.skip`), into a run; keys that only the source has.
        rename: rules for keys (`config.init_from.rename`).
        classes: their number or names, where the config's data set is not known to have others.
        optimizer: also convert the moments and the step of PyTorch's optimiser, into a run.
        without_unused: leave out parameters that the published code has and never uses.
        model: 'module:builder', where the source names it as its own model: its code may be run.
        stage: is told what is being done.

    Raises:
        UserError: weights that do not fit, no description of the model, a target that cannot be written.
    """
    from flax import nnx

    from flaxnets import count_parameters, registry
    from train import build, experiment
    from train.checkpointing import init_from

    is_file = _is_file(to)
    source, to = (pathlib.Path(path).expanduser() for path in (source, to))
    if not is_file and (to / 'config.json').exists():
        raise UserError(f'--to: there is a run in {to} already; choose another folder')
    if is_file and optimizer:
        raise UserError('--optimizer: expected --to with a folder; a file contains only weights')
    if model is not None:
        registry.entry(model)
    stage(f'reading {source}')
    weights = init_from.read(source, checkpoint)
    config = _config(config, weights.card, source, is_file)
    if config is None:
        assert weights.card is not None  # or `_config` has said so
        if classes:
            raise UserError('--classes: expected --config with it; without one the model card decides')
        shapes, card = nnx.eval_shape(weights.card.create_model), weights.card
    else:
        images = _images(config, weights.card, classes)
        with experiment.precision(config):
            shapes = build.abstract_model(config, images)
        card = build.model_card(config, shapes, images)
    match = weights.match(shapes, skip=skip, rename=rename)
    stage(f'writing {to}')
    if is_file:
        lines = _to_file(weights, match, shapes, to, card, unused=not without_unused)
    else:
        lines = _to_run(weights, match, config, images, to, card, optimizer=optimizer)
    lines += [
        f'{weights.what}: {init_from.described(match)}',
        f'{to}: {count_parameters(shapes):,} parameters',
    ]
    return '\n'.join(lines)


def _is_file(to: str | pathlib.Path) -> bool:
    """Whether `to` is meant as a file.

    Raises:
        UserError: it looks like a file of a kind that cannot be written.
    """
    suffix = pathlib.Path(to).suffix
    if suffix in FILES or str(to).endswith('/') or pathlib.Path(to).expanduser().is_dir():
        return suffix in FILES
    if suffix[1:2].isalpha():
        raise UserError(
            f'--to: expected a name that ends in {", ".join(sorted(FILES))}, or a folder for a run, got '
            f'{to}; for a folder of this name write {to}/'
        )
    return False


def _config(config: Any, card: Any, source: pathlib.Path, is_file: bool) -> Any:
    """The checked config that describes the weights; None: their card does."""
    from train import config as options

    if config is not None:
        return options.validate(config)
    if card is None:
        raise UserError(f'{source}: no model card came with it; say what it is with --config configs/FILE.py')
    if is_file:
        return None
    if not card.config:
        raise UserError(f'{source}: its model card has no config; give one with --config configs/FILE.py')
    return options.validate_stored(card.config, str(source))


def _images(config: Any, card: Any, classes: int | Sequence[str]) -> Any:
    """What the config's images are like: as the config and `classes` say, else the weights' card, else, where
    they are on disk, as they are."""
    from train import data
    from train.data.locate import NotFound
    from train.data.spec import of_card, spec

    same = card is not None and card.config.get('data', {}).get('name') == config.data.name
    like = of_card(card) if same else None
    described = spec(config.data, classes=classes, like=like)
    if described is not None:
        return described
    local = copy.deepcopy(config.data)
    local.download = False
    try:
        return data.load(local, 'test')
    except NotFound as error:
        raise UserError(
            f'--classes: expected the number of classes of {config.data.name}, or their names, because its '
            f'images are not on this machine ({error.missing})'
        ) from None


def _to_file(weights: Any, match: Any, model: Any, to: pathlib.Path, card: Any, *, unused: bool) -> list[str]:
    """Writes the weights in the dtypes they have, and the model card; returns lines to print about it.

    They get published keys, or the model's own if it has no map.
    """
    from flaxnets import interop
    from flaxnets.interop import conversion

    if match.fresh:
        raise UserError(
            f'--skip: expected --to a folder; a file cannot leave {match.fresh[0].flax} to fresh values'
        )
    loaded = {key: match.given[key] for row in match.loaded for key in row.torch}
    try:
        written = conversion.published(model, loaded, unused=False) if weights.own else loaded
        lines = [conversion.table(model)]
    except NoTorchMap as error:
        if to.suffix != '.safetensors':
            raise
        interop.save(to, loaded, card, own=True)
        return [f'{str(error).partition(";")[0]}: written by our own names']
    zeros = conversion.unused_zeros(model, written) if unused else {}
    interop.save(to, written | {key: match.given.get(key, value) for key, value in zeros.items()}, card)
    if zeros:
        lines.append(
            f'with {len(zeros)} keys that the published code has and never uses, such as '
            f'{next(iter(zeros))}: zeros, unless the source has them; --without_unused leaves them out'
        )
    return lines


def _to_run(
    weights: Any, match: Any, config: Any, images: Any, to: pathlib.Path, card: Any, *, optimizer: bool
) -> list[str]:
    """Writes a workdir whose only checkpoint has the weights; returns lines to print about it."""
    import jax.numpy as jnp

    from flaxnets.interop import conversion, optimizer_state
    from flaxnets.interop.atomic import write_json
    from train import build, experiment, optim, state
    from train.checkpointing import init_from
    from train.checkpointing.checkpoints import Checkpoints
    from train.checkpointing.lock import WorkdirLock
    from train.checkpointing.meta import Meta

    with experiment.precision(config):
        model = (build.create_model if match.fresh else build.abstract_model)(config, images)
        params, stats = weights.values(model, match, state.split(model)[1:])
        fixed = state.without_gradient(model) | build.frozen_parameters(config, model)
        rule, step = optim.create(config, steps_per_epoch=1, fixed=fixed), 0
        made = state.create(params, stats, rule, seed=config.seed, ema=bool(config.optimizer.ema))
        lines = [] if weights.own else [conversion.table(model)]
        if optimizer:
            if config.optimizer.accumulate != 1:
                raise UserError('--optimizer: expected config.optimizer.accumulate=1 with it')
            opt_state, step = weights.moments(model, match, made.opt_state)
            lines.append(init_from.moments_described(step))
            opt_state = optimizer_state.continue_schedule(opt_state, step)
            made = dataclasses.replace(made, step=jnp.full_like(made.step, step), opt_state=opt_state)
        with WorkdirLock(to):
            checkpoints = Checkpoints(to, keep=config.checkpoint.keep, metric=config.checkpoint.metric)
            try:
                checkpoints.save(made, step, Meta(config=config.to_dict(), card=card), None)
            finally:
                checkpoints.close()
            write_json(to / 'config.json', config.to_dict())
    return lines


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
