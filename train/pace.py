"""How many steps form a chunk."""

import time

# Seconds that a chunk of steps takes, about; a signal does not wait longer.
CHUNK_SECONDS = 1.0
# The weight of the earlier chunks compared with the newest. The newest alone is misleading: its metrics are
# read while the next one computes, so its time includes a part of that one's.
KEPT = 0.6


class Pace:
    """The length of the next chunk of steps, at most `log_every`, from how long the last ones took.

    With `fixed` it is always `log_every`: several processes must form the same chunks, and their clocks
    differ. `steps_per_second` is the pace of the last chunks, without the first one, which compiles.
    """

    def __init__(self, log_every: int, *, fixed: bool):
        self.log_every, self.fixed = log_every, fixed
        self.chunk = log_every if fixed else 1
        self.laps = 0
        self.steps = self.seconds = 0.0
        self.start()

    def start(self) -> None:
        """Starts the clock; what came before (an evaluation, a checkpoint) does not count as training."""
        self.since = time.monotonic()

    def next(self, step: int) -> int:
        """Where the chunk that begins at `step` ends, at the latest."""
        return min(step + self.chunk, (step // self.log_every + 1) * self.log_every)

    def lap(self, steps: int) -> float:
        """Seconds since the start or the last lap, for `steps` steps, whose metrics are here now."""
        now = time.monotonic()
        seconds, self.since = now - self.since, now
        # The first chunk compiles, so it is not counted after it.
        kept = KEPT if self.laps > 1 else 0.0
        self.steps, self.seconds = kept * self.steps + steps, kept * self.seconds + seconds
        self.laps += 1
        if not self.fixed:
            wanted = min(int(CHUNK_SECONDS * self.steps_per_second), 2 * self.chunk)
            self.chunk = min(max(wanted, 1), self.log_every)
        return seconds

    @property
    def steps_per_second(self) -> float:
        """Over the last chunks, the newest weighing most."""
        return self.steps / max(self.seconds, 1e-6)
