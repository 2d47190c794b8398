"""Carries weights between PyTorch files, safetensors and runs: `python -m train.convert --help`."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli

FILES = {'.pt', '.pth', '.safetensors'}
EXAMPLES = """
  python -m train.convert --from model.pt --to runs/mine --config configs/branching_attn.py
  python -m train.evaluate --workdir runs/mine
  python -m train.convert --from runs/mine --to model.safetensors
  python -m train.convert --table vgg16

What --config says of the model must fit the weights; --config.KEY=VALUE changes it. Without --config the
model card that travels with the weights of flaxnets says what they are.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the flags and converts."""
    parser = argparse.ArgumentParser(
        'python -m train.convert',
        description='Carry weights between PyTorch files, safetensors and runs.',
        epilog='examples:' + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--from', dest='source', metavar='PATH', help='.pt, .pth, .safetensors or a run')
    parser.add_argument('--to', metavar='PATH', help='.pt, .pth, .safetensors, or a folder for a run')
    parser.add_argument('--checkpoint', default='best', help='of a run: best (default), last or a step')
    parser.add_argument('--skip', default='', help='values that stay fresh: key, path or regular expression')
    parser.add_argument(
        '--optimizer', action='store_true', help="to a run: take over PyTorch's moments and step too"
    )
    parser.add_argument('--table', metavar='MODEL', help="print a model's map between PyTorch and flaxnets")
    args, rest = parser.parse_known_args(argv[1:])
    if args.table:
        print(table(args.table))
        return
    if args.source is None or args.to is None:
        raise UserError('expected --from PATH and --to PATH; see --help')
    config = None
    if any(arg.lstrip('-').startswith('config') for arg in rest):
        config, _ = cli.parse([argv[0], *rest])
    elif rest:
        raise UserError(f'command line: {rest[0]!r} is not expected; see --help')
    report = convert(
        args.source,
        args.to,
        config,
        checkpoint=args.checkpoint,
        skip=args.skip,
        optimizer=args.optimizer,
    )
    print(report)


def table(name: str) -> str:
    """The map of a registered model with its usual options."""
    from flax import nnx

    import flaxnets
    from flaxnets.interop import state_dicts

    return state_dicts.table(nnx.eval_shape(lambda: flaxnets.create_model(name, rngs=nnx.Rngs(0))))


def convert(
    source: str | pathlib.Path,
    to: str | pathlib.Path,
    config: Any = None,
    *,
    checkpoint: str = 'best',
    skip: str = '',
    optimizer: bool = False,
) -> str:
    """Reads weights, checks them against their model, writes them; returns what went where.

    Args:
        source: `.pt`, `.pth`, `.safetensors` or a run's workdir.
        to: the same; a workdir that does not hold a run yet.
        config: a training config that describes the model; None: the source's model card does.
        checkpoint: which of a run's.
        skip: values that start fresh (`config.init_from.skip`); only into a run.
        optimizer: take the moments of PyTorch's optimiser, and its step, over into the run.

    Raises:
        UserError: weights that do not fit, no description of the model, a target that cannot be written.
    """
    from train import config as options
    from train.checkpointing import init_from

    source, to = (pathlib.Path(path).expanduser() for path in (source, to))
    if to.suffix not in FILES and (to / 'config.json').exists():
        raise UserError(f'--to: {to} holds a run already; choose another folder')
    if to.suffix in FILES and (skip or optimizer):
        raise UserError(
            '--skip and --optimizer: expected --to a folder beside them; a file holds weights alone'
        )
    weights = init_from.read(source, checkpoint)
    card = weights.card
    if config is not None:
        config = options.validate(config)
    elif card is None:
        raise UserError(f'{source}: no model card came with it; say what it is with --config configs/FILE.py')
    elif to.suffix not in FILES:
        if not card.config:
            raise UserError(f'{source}: its model card has no config; give one with --config configs/FILE.py')
        config = options.validate(card.config)
    if to.suffix in FILES:
        return _to_file(weights, to, config)
    return _to_run(weights, to, config, skip, optimizer)


def _to_file(weights: Any, to: pathlib.Path, config: Any) -> str:
    """Writes a file with published keys, in the dtypes the weights have, and a model card."""
    from flax import nnx

    from flaxnets import interop, registry
    from flaxnets.interop import state_dicts
    from train import data, experiment

    if config is None:
        described = weights.card
        model = nnx.eval_shape(described.create_model)
    else:
        images = data.load(config.data, 'test')
        with experiment.precision(config):
            model = nnx.eval_shape(lambda: experiment.create_model(config, images))
        described = experiment.model_card(config, model, images)
    match = weights.match(model)
    if weights.own:
        arrays = state_dicts.published(registry.torch_rows(model), weights.given)
    else:
        arrays = {key: weights.given[key] for row in match.loaded for key in row.torch}
    interop.save(to, arrays, described)
    return _report(weights, match, model, to)


def _to_run(weights: Any, to: pathlib.Path, config: Any, skip: str, optimizer: bool) -> str:
    """Writes a workdir whose only checkpoint holds the weights."""
    import jax.numpy as jnp
    from flax import nnx

    from flaxnets.interop import optimizer_state
    from flaxnets.interop.atomic import write_json
    from train import data, experiment, optim, state
    from train.checkpointing.checkpoints import Checkpoints
    from train.checkpointing.lock import WorkdirLock
    from train.checkpointing.meta import Meta

    images = data.load(config.data, 'test')
    with experiment.precision(config):
        create = lambda: experiment.create_model(config, images)  # noqa: E731
        model = create() if skip else nnx.eval_shape(create)
        match = weights.match(model, skip=skip)
        params, stats = weights.values(model, match, state.split(model)[1:])
        fixed = state.without_gradient(model) | experiment.frozen_parameters(config, model)
        rule, step = optim.create(config, steps_per_epoch=1, fixed=fixed), 0
        made = state.create(params, stats, rule, seed=config.seed, ema=bool(config.optimizer.ema))
        if optimizer:
            if config.optimizer.accumulate != 1:
                raise UserError('--optimizer: expected config.optimizer.accumulate=1 beside it')
            opt_state, step = weights.moments(model, match, made.opt_state)
            opt_state = optimizer_state.continue_schedule(opt_state, step)
            made = dataclasses.replace(made, step=jnp.full_like(made.step, step), opt_state=opt_state)
        meta = Meta(config=config.to_dict(), card=experiment.model_card(config, model, images))
        with WorkdirLock(to):
            checkpoints = Checkpoints(to, keep=config.checkpoint.keep, metric=config.checkpoint.metric)
            try:
                checkpoints.save(made, step, meta, None)
            finally:
                checkpoints.close()
            write_json(to / 'config.json', config.to_dict())
    return _report(weights, match, model, to)


def _report(weights: Any, match: Any, model: Any, to: pathlib.Path) -> str:
    from flaxnets import count_parameters
    from flaxnets.interop import state_dicts
    from train.checkpointing.init_from import described

    return (
        f'{state_dicts.table(model)}\n{weights.what}: {described(match)}\n'
        f'{to}: {count_parameters(model):,} parameters'
    )


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
