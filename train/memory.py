"""How much memory the machine has free, and the most that this process has used."""

import os
import pathlib
import resource
import sys

MEMINFO = pathlib.Path('/proc/meminfo')
STATUS = pathlib.Path('/proc/self/status')
# A container's limit and what it uses of it (control groups, version 2).
CGROUP = pathlib.Path('/sys/fs/cgroup')


def peak() -> int:
    """The most bytes of memory that this process has used."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == 'darwin' else 1024 * most
    # Linux's ru_maxrss includes the memory of the process that started this one.
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def available() -> int:
    """Bytes that can be allocated without swapping: Linux's own estimate, within the container's limit.

    Elsewhere half of what the machine has.
    """
    try:
        lines = dict(line.split(':') for line in MEMINFO.read_text().splitlines())
        free = int(lines['MemAvailable'].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    try:
        limit = int((CGROUP / 'memory.max').read_text())
        used = int((CGROUP / 'memory.current').read_text())
        # Cached files count as used, though the system drops them when memory is needed.
        stat = dict(line.split() for line in (CGROUP / 'memory.stat').read_text().splitlines())
        return min(free, limit - used + int(stat['inactive_file']))
    except (OSError, ValueError, KeyError):  # no group, or 'max': no limit
        return free


def megabytes(size: float) -> str:
    """Such as 0.092 MB, 184 MB or 12.3 GB."""
    return f'{size / 1e9:,.1f} GB' if size >= 1e9 else f'{size / 1e6:.3g} MB'
