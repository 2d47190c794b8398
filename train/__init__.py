"""The training program: `python -m train --config configs/branching_attn.py`, or `train.run(config)`."""

from typing import Any


def run(config: Any, workdir: str | None = None) -> dict[str, Any]:
    """Trains as `python -m train` does and returns the summary; see `train.loop.run`."""
    import train.loop  # JAX starts here, not when the package is imported

    return train.loop.run(config, workdir)


def load(workdir: Any, *, checkpoint: str = 'best') -> Any:
    """A trained model with its preprocessing and class names; see `train.classifier.load`."""
    import train.classifier

    return train.classifier.load(workdir, checkpoint=checkpoint)
