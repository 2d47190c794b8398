"""Makes glibc's malloc take a step's temporary arrays in huge pages, or keep them.

XLA on CPU allocates its temporary arrays again at every call, all of them as one block. glibc takes a block
above 64 MiB from the system and returns it afterwards, and the system fills each page with zeros when it is
used again. Pages of 4 KiB cost half a millisecond for a MiB, a third of a step of VGG16. Huge pages of 2 MiB
cost little, but glibc asks for them only when it is told to before the process starts. So `restart` starts
the command again, once, in some 50 ms.

Where there are no huge pages, `keep_memory` makes malloc keep what a step frees. That needs one arena for all
threads, which small networks' steps wait for: they take up to 1.5 times as long (docs/speed.md).

Where the user has set GLIBC_TUNABLES or a variable MALLOC_*, nothing is changed.
"""

import ctypes
import os
import pathlib
import sys

GIB = 2**30
# Ask the system for huge pages; and return blocks, or the end of the heap, only above a GiB.
TUNABLES = f'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={GIB}:glibc.malloc.trim_threshold={GIB}'
HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
# glibc's <malloc.h>: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX.
OPTIONS = [(-1, GIB), (-3, GIB), (-8, 1)]


def restart() -> None:
    """Starts this command again with huge pages, in this process, where the system has them.

    To be called first of all, while Python's `-m` imports the command's package.
    """
    if is_free() and huge_pages() and sys.executable:
        os.environ['GLIBC_TUNABLES'] = TUNABLES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def keep_memory() -> bool:
    """Whether malloc keeps memory from now on: on Linux with glibc.

    To be called before JAX starts its threads.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if is_free() else None
    if mallopt is None:
        return False
    for option, value in OPTIONS:
        mallopt(option, value)
    return True


def is_free() -> bool:
    """Whether this is Linux, and nobody has set up malloc yet."""
    names = [name for name in os.environ if name == 'GLIBC_TUNABLES' or name.startswith('MALLOC_')]
    return sys.platform == 'linux' and not names


def huge_pages() -> bool:
    """Whether glibc (2.35 or later) can ask for huge pages, and the system gives them."""
    try:
        name, version = os.confstr('CS_GNU_LIBC_VERSION').split()  # type: ignore[union-attr]
        at_least = tuple(int(part) for part in version.split('.')) >= (2, 35)
        return name == 'glibc' and at_least and '[never]' not in HUGE_PAGES.read_text()
    except (ValueError, OSError, AttributeError):
        return False
