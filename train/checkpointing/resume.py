"""What a run must match to continue from its checkpoints: the config, and the images."""

import pathlib
from typing import Any

from flaxnets.errors import UserError
from train import config as options
from train.checkpointing.checkpoints import read_config, versions
from train.data import ImageSet


def match(workdir: pathlib.Path, config: options.ConfigDict) -> list[str]:
    """Refuses to continue a run under a config that changes what it computes.

    Returns what has changed that may change, to be said.
    """
    there = read_config(workdir)
    if there is None:
        return []
    old, new = options.flatten(there), options.flatten(config)
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
            f'{workdir} holds a run with another config: {listed[0]}{may}. Change it back, choose another '
            f'--workdir, or start there from these weights with --config.init_from.path={workdir}'
        )
    notes = [f'changed since: {listed[1]}'] if allowed else []
    if 'epochs' in allowed and config.schedule.name in ('cosine', 'one_cycle'):
        notes.append(
            f'the {config.schedule.name} schedule now spans {config.epochs} epochs: '
            'from here on the learning rate is what a run of that length has'
        )
    return notes


def match_data(meta: dict[str, Any], sets: dict[str, ImageSet], step: int) -> list[str]:
    """Refuses to continue from a checkpoint on other images; returns changed package versions, to be said."""
    there = meta['data']
    changed = [split for split in sets if split in there and not sets[split].matches(there[split])]
    if changed:
        listed = ', '.join(
            f'{split} ({there[split]} there, {sets[split].fingerprint} now)' for split in changed
        )
        first = ''
        if meta['config']['data'].get('limit') and not any(':' in there[split] for split in changed):
            first = 'data.limit took the first images then, and takes some of every class now; '
        raise UserError(
            f'the images have changed since checkpoint {step}: {listed}; {first}'
            'bring the old ones back or choose another --workdir'
        )
    now = versions()
    newer = [f'{k} {v} there, {now.get(k)} now' for k, v in meta['versions'].items() if now.get(k) != v]
    return [f'other versions: {", ".join(newer)}: the same bits are not promised'] if newer else []
