"""How the command speaks: tables and questions on a terminal, one JSON line for each thing elsewhere.

It knows terminals and errors, and no verb.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from inhouse import settings as settings_module
from inhouse.errors import MOST_PROBLEMS, BadRows, InhouseError, InvalidRequest

if TYPE_CHECKING:
    from inhouse.client.client import Client

P = ParamSpec("P")
R = TypeVar("R")

# Without emoji=False rich draws a plant in the middle of "ft:seedling:default:…".
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

FOLDED = 30
"""Characters that the widest column of a table needs."""

Json = Annotated[bool, typer.Option("--json", help="One JSON line for each event or item.")]


def told(verb: Callable[P, R]) -> Callable[P, R]:
    """Errors as one red line and exit code 1; Ctrl-C as a word on what goes on and exit code 130."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except InhouseError as e:
            for fault in faults(e):
                err.print(f"error: {fault}", style="red", markup=False, soft_wrap=True)
            for note in getattr(e, "__notes__", ()):
                err.print(note, style="dim", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as e:
            for note in getattr(e, "__notes__", ("Stopped. Nothing on the server has changed.",)):
                err.print(f"\n{note}", markup=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone: nobody is left to tell
            raise typer.Exit(1) from None

    return run


def faults(error: InhouseError) -> list[str]:
    """What is wrong, one thing a line: a file's rows may have many faults."""
    if not isinstance(error, BadRows):
        return [error.message]
    faults = [f"{error.name} {problem}" for problem in error.problems]
    is_cut = len(faults) == MOST_PROBLEMS
    return (
        [*faults, f"{error.name}: the first {MOST_PROBLEMS} problems; mend them first."] if is_cut else faults
    )


def speaks_json(as_json: bool) -> bool:
    """Whether to write JSON lines: when asked to, and wherever nobody reads along."""
    return as_json or not out.is_terminal


def json_line(value: dict[str, Any]) -> None:
    write(json.dumps(value, ensure_ascii=False) + "\n")


def write(text: str) -> None:
    """Text as it is; on a terminal without the control characters that could move its cursor or worse."""
    if out.is_terminal:
        text = _printable(text)
    sys.stdout.write(text)
    sys.stdout.flush()


def table(header: Iterable[str], rows: Iterable[list[str]]) -> None:
    """Rows below a header; on a terminal too narrow for them a line for each cell, and a blank one between rows.

    Cells are text as it is, without what could move a terminal's cursor or worse.
    """
    names = [*header]
    cells = [[_printable(cell).replace("[", r"\[") for cell in row] for row in rows]
    drawn = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        drawn.add_column(name, overflow="fold", no_wrap=i == 0)  # the first is what one copies
    for row in cells:
        drawn.add_row(*row)
    if _fits(names, cells):
        out.print(drawn)
        return
    for row in cells:
        record = Table(box=None, pad_edge=False, show_header=False)
        record.add_column(style="dim", width=max(map(len, names)))
        record.add_column(overflow="fold")
        for name, cell in zip(names, row, strict=True):
            if cell:
                record.add_row(name, cell)
        out.print(record, "")


def _fits(names: list[str], cells: list[list[str]]) -> bool:
    """Whether the columns stand beside one another when the widest of them is folded to FOLDED characters."""
    widths = sorted(max(map(len, column)) + 1 for column in zip(names, *cells, strict=True))
    return sum(widths[:-1]) + min(widths[-1], FOLDED) <= out.width


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M") if seconds else ""


def connect() -> Client:
    """A client of the server that the environment names, or of this machine's."""
    from inhouse.client import local
    from inhouse.client.client import Client

    if settings_module.client_url():
        return Client()
    if local.find(settings_module.load()) is None:
        err.print("Starting a server on this machine …", style="dim")
    return Client()


def one_of(option: str, value: str | None, choices: tuple[str, ...]) -> str | None:
    """The value, when it is one of the choices or None. Raises InvalidRequest."""
    if value is not None and value not in choices:
        raise InvalidRequest(f"{option} {value} is none of {', '.join(choices)}.", param=option.lstrip("-"))
    return value


def choose_conflict(*what: str) -> Literal["replace", "coexist"] | None:
    """Tell a conflict of facts and ask what is meant; None where nobody can be asked, or knows."""
    if not can_ask():
        return None
    for line in what:
        err.print(line, style="yellow", markup=False, soft_wrap=True)
    while True:
        said = ask("replace or coexist? (an empty line changes nothing)")
        for choice in ("replace", "coexist"):
            if said and choice.startswith(said):
                return choice
        if not said:
            return None


def can_ask() -> bool:
    """Whether somebody is there who can answer a question."""
    return err.is_terminal and sys.stdin.isatty()


def ask(question: str) -> str:
    """What is typed, in lower case; nothing at the end of the input."""
    try:
        return err.input(f"{question} ", markup=False).strip().lower()
    except EOFError:
        return ""
