"""`inhouse projects`: walls between teams, and what each may use. It knows the client's Admin and words for people."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, speaks_json, table, told, when

app = typer.Typer(
    name="projects", help="Projects: list them, make one, limit one, end one.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Its name or id.")]


@app.command("list")
@told
def list_projects(
    every: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False, as_json: Json = False
) -> None:
    """Every project, and the limits that were chosen for it."""
    with connect() as client:
        found = client.admin.projects(archived=every)
    if speaks_json(as_json):
        for project in found:
            json_line(dataclasses.asdict(project))
        return
    rows = (
        [
            p.id,
            p.name,
            when(p.created_at),
            ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in p.limits.items()),
            "archived" if p.archived_at else "active",
        ]
        for p in found
    )
    table(("project", "name", "since", "limits", "state"), rows)


@app.command()
@told
def create(name: Annotated[str, typer.Argument(help="What to call it.")], as_json: Json = False) -> None:
    """Make a project. `inhouse keys create NAME --project PROJECT` gives it a key."""
    with connect() as client:
        made = client.admin.create_project(name)
    if speaks_json(as_json):
        json_line(dataclasses.asdict(made))
    else:
        err.print(f"{made.name} is made: {made.id}", markup=False, soft_wrap=True)


@app.command()
@told
def limits(
    name: Name,
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="0 takes it back.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="Of prompts and answers.")] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=0, help="Under way at once.")] = None,
    tokens_per_month: Annotated[int | None, typer.Option(min=0, help="A quota for each month (UTC).")] = None,
    as_json: Json = False,
) -> None:
    """Show what a project may use, or choose it. Changes hold within a second."""
    asked = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent_requests,
        "tokens_per_month": tokens_per_month,
    }
    chosen = {limit: number for limit, number in asked.items() if number is not None}
    with connect() as client:
        holds = client.admin.set_limits(name, **chosen) if chosen else client.admin.limits(name)
    if speaks_json(as_json):
        json_line(holds)
        return
    rows = (
        [limit.replace("_", " "), "none" if number is None else f"{number:,}"]
        for limit, number in holds.items()
    )
    table(("limit", "holds"), rows)


@app.command()
@told
def archive(name: Name) -> None:
    """End a project for good: its keys are of no use within a second, what it holds stays."""
    with connect() as client:
        archived = client.admin.archive_project(name)
    err.print(f"{archived.name} is archived; its keys are of no use any more.", markup=False, soft_wrap=True)
