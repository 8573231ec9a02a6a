"""What a command shows while it works: lines and progress bars that do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Screen:
    """Lines and bars on one terminal; plain lines where the output is none.

    Everything goes to standard error, so that standard output holds results alone.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(line, markup=False, highlight=False)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar of ``total`` images on a terminal; 0 shows a count without an end."""
        if not self._console.is_terminal:
            yield lambda images: None
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description:>18}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("images"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console) as bars:
            task = bars.add_task(label, total=total or None)
            yield lambda images: bars.advance(task, images)
