"""Progress bars on a terminal, silence elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]  # what, done, in all (0: not known)


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """A function that shows one bar for each `what` it is told of."""
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    columns = (
        rich.progress.TextColumn('{task.description}'),
        rich.progress.BarColumn(),
        rich.progress.TextColumn('{task.completed:,.0f}'),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        tasks: dict[str, rich.progress.TaskID] = {}

        def report(what: str, done: int, size: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=size or None)
            shown.update(tasks[what], completed=done)

        yield report
