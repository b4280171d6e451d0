"""`inhouse usage`: tokens by day, project, key and model. It knows the client's Admin and words for people."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from inhouse.cli.terminal import Json, connect, json_line, one_of, speaks_json, table, told, write
from inhouse.client.admin import KINDS, By, Used
from inhouse.errors import InvalidRequest

BY: tuple[By, ...] = ("day", "project", "key", "model")
USUAL_DAYS = 30


@told
def usage(
    by: Annotated[
        str, typer.Option(help="day, project, key or model, or several with commas between.")
    ] = "project,model",
    since: Annotated[
        str | None,
        typer.Option(help=f"First day, as 2027-01-31 (UTC). Default: {USUAL_DAYS} days before the last."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day. Default: today.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="completions or embeddings alone. Default: both together.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Tokens that were used, exact to the token. Days are UTC's. Needs an admin key."""
    one_of("--kind", kind, KINDS)
    groups = [_group(name.strip()) for name in by.split(",") if name.strip()]
    end = None if until is None else _day("--until", until) + timedelta(days=1)
    start = _day("--since", since) if since else min(end or _today(), _today()) - timedelta(days=USUAL_DAYS)
    if start >= (end or _today() + timedelta(days=1)):
        raise InvalidRequest(
            f"--since {since} is after {f'--until {until}' if until else 'today'}.", param="since"
        )
    with connect() as client:
        found = client.admin.usage(
            since=start.timestamp(),
            until=None if end is None else min(end.timestamp(), time.time() + 1),
            by=groups,
            kinds=[one for one in KINDS if kind in (None, one)],
        )
        projects = {one.id: one.name for one in client.admin.projects(archived=True)}
        keys = {one.id: one.name for one in client.admin.api_keys()}
    rows = [_line(used, groups, projects, keys) for used in found]
    rows.sort(key=lambda row: [str(row[name]) for name in groups])
    if as_csv:
        write(_csv(rows, groups))
    elif speaks_json(as_json):
        for row in rows:
            json_line(row)
    else:
        shown = [*groups, "requests", "input tokens", "of them cached", "output tokens"]
        cells = [[_cell(row[name]) for name in _columns(groups)] for row in rows]
        sums = [sum(int(row[name]) for row in rows) for name in _COUNTS]
        cells.append(["all", *[""] * (len(groups) - 1), *map(_cell, sums)] if groups else [*map(_cell, sums)])
        table(shown, cells)


_COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens")


def _group(name: str) -> By:
    for known in BY:
        if name == known:
            return known
    raise InvalidRequest(f"--by {name} is none of {', '.join(BY)}.", param="by")


def _columns(groups: Sequence[By]) -> list[str]:
    return [*groups, *_COUNTS]


def _line(used: Used, groups: Sequence[By], projects: dict[str, str], keys: dict[str, str]) -> dict[str, Any]:
    """What was asked to be told apart, by the names that people know, and the counts."""
    known = {
        "day": datetime.fromtimestamp(used.day or 0, UTC).date().isoformat(),
        "project": projects.get(used.project or "", used.project),
        "key": used.key if used.key not in keys else f"{keys[used.key]} ({used.key})",
        "model": used.model,
    }
    return {name: known[name] for name in groups} | {name: getattr(used, name) for name in _COUNTS}


def _csv(rows: list[dict[str, Any]], groups: Sequence[By]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(groups), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _day(option: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest(
            f"{option} {text} is no day. Write 2027-01-31.", param=option.lstrip("-")
        ) from None
