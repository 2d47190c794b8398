"""Compiled programs, kept on disk."""

import pathlib
import tempfile
import warnings

import jax

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
