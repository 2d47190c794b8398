"""Makes glibc's malloc keep the memory that a step frees.

XLA on CPU allocates its temporary arrays again at every call. glibc takes blocks above 32 MiB from the system
and returns them, and so blocks above 64 MiB of threads other than the main one; the system fills each page
with zeros when it is used again, half a millisecond for a MiB. A training step of the ViT took 2.2 times as
long, one of `branching_attn` 1.2 times (docs/speed.md). In exchange the process keeps its largest size, a few
hundred MB more than it would need.

The environment variables MALLOC_ARENA_MAX=1, MALLOC_MMAP_THRESHOLD_=1073741824 and
MALLOC_TRIM_THRESHOLD_=1073741824 do the same; where one of them is set, it is used.
"""

import ctypes
import os
import sys

GIB = 2**30
# glibc's <malloc.h>: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX.
SETTINGS = {'TRIM_THRESHOLD_': (-1, GIB), 'MMAP_THRESHOLD_': (-3, GIB), 'ARENA_MAX': (-8, 1)}


def keep_memory() -> bool:
    """Whether it took effect: on Linux with glibc. To be called before JAX starts its threads."""
    if sys.platform != 'linux':
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None or 'GLIBC_TUNABLES' in os.environ:
        return False
    for name, (option, value) in SETTINGS.items():
        if f'MALLOC_{name}' not in os.environ:
            mallopt(option, value)
    return True
