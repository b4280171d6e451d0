"""`inhouse migrate openai`: what OpenAI trained, trained here, and a report of what changed.

The client does it; here are its options, and how its progress is told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, one_of, out, speaks_json, table, told
from inhouse.errors import InvalidRequest

if TYPE_CHECKING:
    from inhouse.client.migrate import Migration

app = typer.Typer(name="migrate", help="Bring what was tuned elsewhere into the house.", no_args_is_help=True)


@app.callback()
def migrate() -> None:
    pass


@app.command()
@told
def openai(
    folder: Annotated[
        Path, typer.Argument(help="OpenAI's files, and its jobs as JSON. The report is written here.")
    ],
    base: Annotated[
        list[str] | None,
        typer.Option(help="What is tuned here: NAME, or OLD=NAME for one of OpenAI's models. Repeatable."),
    ] = None,
    from_api: Annotated[
        bool, typer.Option("--from-api", help="First bring jobs and files from OpenAI, with OPENAI_API_KEY.")
    ] = False,
    api: Annotated[str | None, typer.Option(help="Another address of OpenAI's API than its own.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and report; send nothing to the server here.")
    ] = False,
    job: Annotated[
        list[str] | None,
        typer.Option(help="OpenAI's id of a job to move. Repeatable. Default: all that have ended."),
    ] = None,
    rows: Annotated[
        str, typer.Option(help="Rows that cannot be trained: stop (their job is not started) or drop.")
    ] = "stop",
    hyperparameters: Annotated[
        str, typer.Option(help="keep: the job's own numbers. auto: what this house chooses for the base.")
    ] = "keep",
    wait: Annotated[bool, typer.Option(help="Wait until the jobs are over.")] = True,
    retry: Annotated[
        bool, typer.Option("--retry", help="Start again what failed or was cancelled here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start here the jobs that OpenAI ran: the same rows, the same settings, another base. Run again, it goes on."""
    one_of("--rows", rows, ("stop", "drop"))
    one_of("--hyperparameters", hyperparameters, ("keep", "auto"))
    default, bases = _bases(base or [])
    how_rows = cast(Literal["stop", "drop"], rows)
    how_numbers = cast(Literal["keep", "auto"], hyperparameters)
    brought = _bring(folder, api) if from_api else []
    if dry_run:
        from inhouse.client import migrate

        found = migrate.read_folder(folder)
        choices = migrate.Choices(default, bases, how_rows, how_numbers, frozenset(job or ()))
        made = migrate.Migration(found, migrate.plan(found, choices, on_file=_say_checks))
        made.write()
    else:
        with connect() as client:
            made = client.migrate_openai(
                folder,
                base=default,
                bases=bases,
                jobs=job or (),
                rows=how_rows,
                hyperparameters=how_numbers,
                retry=retry,
                wait=wait,
                on_news=_say,
            )
    _tell(made, brought, as_json)
    if dry_run:
        _say(
            "Nothing was sent, and no server was asked: whether it has the base is seen when the jobs start."
        )
    if brought or not made.is_whole:
        raise typer.Exit(1)


def _bring(folder: Path, api: str | None) -> list[str]:
    """Downloads; returns what could not be brought."""
    from inhouse.client.migrate import download
    from inhouse.client.migrate.download import OPENAI

    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise InvalidRequest(
            "--from-api needs a key of OpenAI's in OPENAI_API_KEY. Set it, or give a folder that holds the files.",
            param="from_api",
        )
    brought = download(folder, key, api=api or OPENAI, on_news=_say)
    _say(
        f"{brought.jobs} jobs, {brought.files} files brought ({brought.bytes:,} bytes), {brought.kept} were there"
    )
    return brought.problems


def _bases(given: list[str]) -> tuple[str | None, dict[str, str]]:
    """The base for all, and those for some of OpenAI's models."""
    some = dict(text.split("=", 1) for text in given if "=" in text)
    alone = [text for text in given if "=" not in text]
    if len(alone) > 1:
        raise InvalidRequest(
            f"--base {alone[1]}: {alone[0]} is already the base for all models. Write OLD={alone[1]} for one of them.",
            param="base",
        )
    return (alone[0] if alone else None), some


def _tell(made: Migration, brought: list[str], as_json: bool) -> None:
    from inhouse.client.migrate.report import REPORT

    report = made.folder.path / REPORT
    if speaks_json(as_json):
        json_line({"type": "migration", "report": str(report), "not_brought": brought, **made.to_object()})
        return
    lines = []
    for plan in made.plans:
        here = made.outcomes.get(plan.id)
        lines.append([plan.id, made.state(plan), (here.model or here.job if here else "") or ""])
    table(("job at OpenAI", "here", "model or job"), lines)
    for text in (*brought, *made.folder.problems):
        err.print(text, style="yellow", markup=False, soft_wrap=True)
    for plan in made.plans:
        if made.state(plan) in ("not started", "failed", "cancelled"):
            for text in made.why(plan):
                err.print(f"{plan.id}: {text}", style="yellow", markup=False, soft_wrap=True)
    out.print(f"Report: {report}", markup=False, soft_wrap=True)


def _say_checks(name: str) -> None:
    _say(f"checking {name}")


def _say(text: str) -> None:
    err.print(text, style="dim", markup=False, soft_wrap=True)
