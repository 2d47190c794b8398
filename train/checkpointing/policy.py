"""When a checkpoint is due: `checkpoint.every`."""

import time

from train import config as options
from train.distributed import processes


class SavePolicy:
    """`every` N epochs, steps or minutes, and at the end of the run.

    `step` is the last one that is saved. The loop saves the best epoch too, and when a signal comes.
    """

    def __init__(self, every: str, *, steps_per_epoch: int, total: int, step: int):
        amount, unit = options.every(every)
        self.total = total
        self.minutes = amount if unit == 'minute' else 0
        self.steps = 0 if unit == 'minute' else int(amount) * (steps_per_epoch if unit == 'epoch' else 1)
        self.saved(step)

    def saved(self, step: int) -> None:
        """Notes that there is a checkpoint of `step`."""
        self.step, self.time = step, time.monotonic()

    def next(self, step: int) -> int:
        """The first step after `step` at which a checkpoint is known to be due: a chunk ends there."""
        return min(self.total, (step // self.steps + 1) * self.steps) if self.steps else self.total

    def due(self, step: int) -> bool:
        """Whether to save at `step`. By minutes the processes must agree: all ask at the same steps."""
        if step >= self.total:
            return True
        if self.minutes:
            return bool(processes.largest(time.monotonic() - self.time >= 60 * self.minutes))
        return step % self.steps == 0
