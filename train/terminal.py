"""The console that all commands print to: its colours, and its width where the output is no terminal."""

import sys

from rich.console import Console
from rich.theme import Theme

# rich's styles by the part of the output they colour; `python -m rich.theme` lists rich's own parts.
STYLES = {
    'heading': 'bold',
    'table.header': 'bold',
    'bar.complete': 'cyan',
    'bar.finished': 'green',
    'bar.back': 'grey30',
}
# Columns of a pipe or a file: wide enough for every table.
WIDE = 200


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """stdout, or stderr. Text is printed as it is, without wrapping.

    FORCE_COLOR asks for colours, not for a display in a file; a notebook gets plain text.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        quiet=quiet,
        theme=Theme(STYLES),
        markup=False,
        highlight=False,
        soft_wrap=True,
        width=None if stream.isatty() else WIDE,
        force_interactive=None if stream.isatty() else False,
        force_jupyter=False,
    )
