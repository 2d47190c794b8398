"""Compiled programs: kept on disk, and those that run once compiled quickly."""

import pathlib
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jaxlib.version

from flaxnets.layers import onednn

# JAX warns for every program that it cannot store or look up; one warning is enough.
OF_EACH_PROGRAM = 'Error (reading|writing) persistent compilation cache entry'


def keep(folder: pathlib.Path) -> None:
    """Keeps compiled programs in `folder`, so that the next start does not compile again;
    JAX_COMPILATION_CACHE_DIR, where set, decides instead. Warns if it cannot be written."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen is None:
        chosen = str(folder)
        jax.config.update('jax_compilation_cache_dir', chosen)
        jax.config.update('jax_compilation_cache_max_size', 2**30)
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    if '://' in chosen:  # a bucket
        return
    warnings.filterwarnings('ignore', OF_EACH_PROGRAM, UserWarning)
    try:
        pathlib.Path(chosen).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen) as file:
            file.write(b'0')
    except OSError as error:
        warnings.warn(
            f'compiled programs cannot be kept in {chosen} ({error.strerror}): each start compiles again',
            RuntimeWarning,
            stacklevel=2,
        )


def quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one program, for the start of a run: a program that runs once in milliseconds should not
    take seconds to compile, so on CPU XLA optimises it little. The bits are the same.

    The way to generate code that compiles in three quarters of the time is an option of XLA's that may go,
    so it is set only with versions that have it.
    """
    options: dict[str, bool | int] | None = None
    if jax.default_backend() == 'cpu':
        options = {'xla_backend_optimization_level': 1}
        if jaxlib.version.__version__ in onednn.JAXLIB:
            options['xla_cpu_use_fusion_emitters'] = False
    return jax.jit(function, compiler_options=options)
