"""Progress on a terminal, of a job or of rows that are answered; silence everywhere else.

It knows events and rich, and asks the server nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from inhouse.client.job import Job, JobEvent
    from inhouse.client.replies import Summary

_WORDS = {
    "validating_files": "checking",
    "queued": "waiting",
    "running": "tuning",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


def show(job: Job, *, enabled: bool = True, console: Console | None = None) -> None:
    """Follow a job to its end; draws a bar when enabled and the console is a terminal."""
    console = console or Console(stderr=True, emoji=False)
    if not enabled or not console.is_terminal:
        for _ in job.events(follow=True):
            pass
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        refresh_per_second=8,
    ) as bar:
        task = bar.add_task(_WORDS["queued"], total=None, loss="", left="")
        for event in job.events(follow=True):
            bar.update(task, description=_WORDS.get(job.state, job.state))
            if event.type == "metrics":
                bar.update(task, **_numbers(event))
            else:
                style = {"warn": "yellow", "error": "red"}.get(event.level, "dim")
                bar.console.print(event.message, style=style, markup=False, highlight=False)
        bar.update(task, description=_WORDS.get(job.state, job.state), left="")


@contextmanager
def rows_bar(
    count: Callable[[], int | None], *, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[Summary], None]]:
    """What to call as rows are answered; it draws a bar when enabled and the console is a terminal.

    `count` tells how many rows there are, where that is known; it is asked only for a bar.
    """
    console = console or Console(stderr=True, emoji=False)
    if not enabled or not console.is_terminal:
        yield lambda made: None
        return
    with Progress(
        TextColumn("answering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[errors]}", style="yellow"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    ) as bar:
        task = bar.add_task("", total=count(), speed="", errors="")

        def show(made: Summary) -> None:
            speed = f"{made.tokens_per_second:,.0f} tokens/s" if made.completion_tokens else ""
            errors = f"{made.errors:,} without a reply" if made.errors else ""
            bar.update(task, completed=made.rows, speed=speed, errors=errors)

        yield show


def facts(event: JobEvent) -> dict[str, str]:
    """A training step in words, for a page that does not move."""
    numbers = _numbers(event)
    if "completed" in numbers and "total" in numbers:
        numbers["step"] = f"{numbers['completed']} of {numbers['total']}"
    return {name: numbers[name] for name in ("step", "loss", "left") if name in numbers}


def _numbers(event: JobEvent) -> dict[str, Any]:
    """What of an event the bar shows. A metric that is missing leaves its place as it was."""
    numbers: dict[str, Any] = {}
    data = event.data
    if isinstance(step := data.get("step"), int):
        numbers["completed"] = step
    if isinstance(total := data.get("total_steps"), int):
        numbers["total"] = total
    if isinstance(loss := data.get("train_loss"), (int, float)):
        numbers["loss"] = f"loss {loss:.3f}"
    if isinstance(recall := data.get("recall"), (int, float)):  # a memory's: the share of facts it gives back
        numbers["loss"] = f"{numbers.get('loss', '')} recall {100 * recall:.1f} %".strip()
    if isinstance(left_s := data.get("seconds_left"), (int, float)):
        numbers["left"] = f"{duration(left_s)} left"
    return numbers


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
