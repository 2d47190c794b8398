"""Where a run begins: at its newest checkpoint, which must be of the same config and images, or at step 0."""

import dataclasses
import pathlib
from collections.abc import Mapping

from flax import nnx

from flaxnets.errors import UserError
from train import config as options
from train.checkpointing import init_from
from train.checkpointing.checkpoints import Checkpoints, read_config
from train.checkpointing.meta import Meta, versions
from train.data import ImageSet
from train.distributed import processes
from train.state import TrainState


def agree(workdir: pathlib.Path, config: options.ConfigDict) -> None:
    """Raises a `UserError` if processes were started with different configs, workdirs or versions."""
    places = ('data.data_dir', 'data.cache_dir')
    facts = {f'config.{key}': value for key, value in options.flatten(config).items() if key not in places}
    checkpoints = [path.name for path in sorted((workdir / 'checkpoints').glob('*'))]
    facts |= {'--workdir': workdir.resolve(), f'the checkpoints in {workdir}': checkpoints}
    processes.agree(facts | versions())


def with_measured(workdir: pathlib.Path, config: options.ConfigDict) -> options.ConfigDict:
    """The config; with `data.mean=auto`, the mean and deviation that the run in `workdir` measured."""
    if config.data.mean != options.AUTO or (earlier := read_config(workdir, builds=False)) is None:
        return config
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = earlier.data.mean, earlier.data.std
    return config


def match(workdir: pathlib.Path, config: options.ConfigDict) -> list[str]:
    """Raises a `UserError` if `config` would compute something else than the run in `workdir`.

    Returns lines to print about the options that have changed and are allowed to.
    """
    earlier = read_config(workdir, builds=False)
    if earlier is None:
        return []
    old, new = options.flatten(earlier), options.flatten(config)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    refused = [key for key in changed if not key.startswith(options.MUTABLE)]
    allowed = [key for key in changed if key.startswith(options.MUTABLE)]
    listed = [
        ', '.join(f'{k} ({old.get(k)!r} there, {new.get(k)!r} now)' for k in keys)
        for keys in (refused, allowed)
    ]
    if refused:
        may = f'; {listed[1]} may change' if allowed else ''
        raise UserError(
            f'{workdir} belongs to a run with another config: {listed[0]}{may}. Change it back, choose '
            f'another --workdir, or start there from these weights with --config.init_from.path={workdir}'
        )
    lines = [f'changed since: {listed[1]}'] if allowed else []
    if 'epochs' in allowed and config.schedule.name in ('cosine', 'one_cycle'):
        lines.append(
            f'the {config.schedule.name} schedule now spans {config.epochs} epochs: '
            'from here on the learning rate is what a run of that length has'
        )
    return lines


def too_few_epochs(workdir: pathlib.Path, config: options.ConfigDict, done: int) -> UserError:
    """The error for a run that has made more epochs than `config.epochs`."""
    return UserError(
        f'config.epochs: expected at least {done}, the epochs that the run in {workdir} has made, '
        f'got {config.epochs}; choose another --workdir, or evaluate an earlier checkpoint'
    )


def check_epochs(
    workdir: pathlib.Path, config: options.ConfigDict, meta: Meta, step: int, steps_per_epoch: int
) -> None:
    """Raises a `UserError` if the run in `workdir`, which is at `step`, leaves nothing to do for `config`."""
    begun = -(-step // steps_per_epoch)
    if begun > config.epochs:
        raise too_few_epochs(workdir, config, begun)
    if step and meta.epoch(step, steps_per_epoch) >= config.epochs and not meta.history:
        raise UserError(
            f'config.epochs: expected more than {config.epochs}, got {config.epochs}: the weights in '
            f'{workdir} were converted at step {step}, the end of epoch {begun}; evaluate them with '
            'train.evaluate'
        )


def match_data(earlier: Meta, sets: Mapping[str, ImageSet], step: int) -> list[str]:
    """Raises a `UserError` if the images are not those of the checkpoint of `step`, which says `earlier`.

    Returns lines to print about packages whose versions have changed.
    """
    data = earlier.data
    changed = [split for split in sets if split in data and not sets[split].matches(data[split])]
    if changed:
        listed = ', '.join(
            f'{split} ({data[split]} there, {sets[split].fingerprint} now)' for split in changed
        )
        limited = ''
        if earlier.config['data'].get('limit') and not any(':' in data[split] for split in changed):
            limited = 'data.limit took the first images then, and takes some of every class now; '
        raise UserError(
            f'the images have changed since checkpoint {step}: {listed}; {limited}'
            'restore the old images or choose another --workdir'
        )
    now = versions()
    newer = [f'{k} {v} there, {now.get(k)} now' for k, v in earlier.versions.items() if now.get(k) != v]
    return [f'other versions: {", ".join(newer)}: the results may differ in the last bits'] if newer else []


def start(
    checkpoints: Checkpoints,
    config: options.ConfigDict,
    sets: Mapping[str, ImageSet],
    model: nnx.Module,
    initial: TrainState,
    meta: Meta,
) -> tuple[TrainState, int, Meta, list[str]]:
    """(state, step, meta, lines to print) that the run begins with.

    They are the newest checkpoint's, with the config, images and versions of `meta`, which describes the
    run now. Without a checkpoint it begins at step 0 with `initial`, or the weights of `init_from`.
    """
    steps = checkpoints.steps()
    if not steps:
        workdir = checkpoints.folder.parent
        there = (workdir / 'metrics.jsonl').exists()
        lines = [f'{workdir} has no finished checkpoint: starting from step 0'] if there else []
        state, more, digest = init_from.start(config, model, initial)
        return state, 0, dataclasses.replace(meta, init_digest=digest), lines + more
    step = steps[-1]
    earlier = checkpoints.meta(step)
    lines = match_data(earlier, sets, step)
    state = checkpoints.restore(initial, step)
    kept = {key: getattr(earlier, key) for key in ('history', 'sums', 'best', 'init_digest')}
    meta = dataclasses.replace(meta, **kept)
    return state, step, meta, lines
