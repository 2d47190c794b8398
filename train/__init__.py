"""The training program: `python -m train --config configs/branching_attn.py`, or `train.run(config)`."""

import importlib.util
import signal
import sys
from typing import Any

# Python's `-m` imports this before the command itself: the first moment to set up malloc, and the last to
# report a missing package.
if sys.argv[:1] == ['-m']:
    # Until the command handles it, Ctrl-C ends the process without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from train.runtime import allocator

    allocator.restart()
    for package in ('jax', 'flax', 'optax', 'orbax', 'absl', 'ml_collections'):
        if importlib.util.find_spec(package) is None:
            print(
                f'error: {sys.executable} has no package {package}; `make train` installs all into .venv: '
                'activate it with `. .venv/bin/activate`, or install them with `pip install .`',
                file=sys.stderr,
            )
            raise SystemExit(2)


def run(config: Any, workdir: str | None = None) -> dict[str, Any]:
    """Trains as `python -m train` does and returns the summary; see `train.loop.run`."""
    import train.loop  # JAX starts here, not when the package is imported

    return train.loop.run(config, workdir)


def load(workdir: Any, *, checkpoint: str = 'best', model: str | None = None) -> Any:
    """A trained model with its preprocessing and class names; see `train.classifier.load`."""
    import train.classifier

    return train.classifier.load(workdir, checkpoint=checkpoint, model=model)
