"""How many steps are started at once."""

import time

# A chunk of steps takes about so many seconds, so that a signal does not wait for more.
CHUNK_SECONDS = 1.0


class Pace:
    """The length of the next chunk of steps, at most `log_every`, from how long the last ones took.

    With `fixed` it is always `log_every`: several processes must cut their steps alike, and their clocks
    differ.
    """

    def __init__(self, log_every: int, *, fixed: bool):
        self.log_every, self.fixed = log_every, fixed
        self.chunk = log_every if fixed else 1
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
        if not self.fixed:
            wanted = int(CHUNK_SECONDS * steps / max(seconds, 1e-6))
            self.chunk = min(max(wanted, 1), self.log_every)
        return seconds
