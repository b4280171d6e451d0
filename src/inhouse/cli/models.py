"""`inhouse models`: those that may be asked, removing one, and whether one does what it says.

It knows the client's Model and words for people.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, out, speaks_json, table, told, when

app = typer.Typer(
    name="models", help="The models you may ask; `verify NAME` looks whether one does what it says."
)

MARKS = {True: ("ok", "green"), False: ("bad", "red"), None: ("-", "dim")}
"""How a check that passed, failed or could not be made is drawn."""


@app.callback(invoke_without_command=True)
@told
def models(
    context: typer.Context,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Remove a tuned model.")] = None,
    as_json: Json = False,
) -> None:
    """The models you may ask; `verify NAME` looks whether one does what it says."""
    if context.invoked_subcommand is not None:
        return
    with connect() as client:
        if delete is not None:
            client.model(delete).delete()
            err.print(f"{delete} is removed.", markup=False, soft_wrap=True)
            return
        found = client.models()
        if speaks_json(as_json):
            for m in found:
                json_line({"name": m.name, "kind": m.kind, "base": m.base, "created_at": m.created_at})
            return
        rows = ([m.name, m.kind, m.base or "", when(m.created_at)] for m in found)
        table(("model", "kind", "base", "since"), rows)


@app.command()
@told
def verify(
    name: Annotated[str, typer.Argument(help="A tuned model.")],
    as_json: Json = False,
) -> None:
    """Whether NAME's adapter fits its base, changes it, and is served as it should be. Exit code 1 where it is not."""
    with connect() as client:
        checks = client.model(name).verify()
    for check in checks:
        if speaks_json(as_json):
            json_line(dataclasses.asdict(check))
            continue
        mark, colour = MARKS[check.passed]
        out.print(f"{mark:>3}", style=colour, end="  ")
        out.print(f"{check.name}: {check.found}", markup=False, soft_wrap=True)
        for tensor in check.tensors:
            out.print(f"     {tensor}", style="dim", markup=False, soft_wrap=True)
    if any(check.passed is False for check in checks):
        raise typer.Exit(1)
