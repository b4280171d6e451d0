"""`inhouse models`: those that may be asked, removing one, pinning one, and whether one does what it says.

It knows the client's Model and words for people.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, out, speaks_json, table, told, when
from inhouse.client.model import Model

app = typer.Typer(
    name="models",
    help="The models you may ask; `verify NAME` looks whether one does what it says, `pin NAME` keeps it ready.",
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
    """The models you may ask; `verify NAME` looks whether one does what it says, `pin NAME` keeps it ready."""
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
                known = {"name": m.name, "kind": m.kind, "base": m.base, "created_at": m.created_at}
                json_line(known | {"pinned": [*m.pinned]})
            return
        rows = ([m.name, m.kind, m.base or "", when(m.created_at), _pinned(m)] for m in found)
        table(("model", "kind", "base", "since", "pinned"), rows)


@app.command()
@told
def pin(
    name: Annotated[
        str,
        typer.Argument(help="A tuned model; without the last part of its name, its newest version always."),
    ],
) -> None:
    """Keep NAME's adapter on the device, however long nobody asks it."""
    with connect() as client:
        model = client.pin(name)
    newest = (
        ""
        if model.name == name
        else ": it is the newest version. The next one that is published takes the pin over"
    )
    err.print(f"{model.name} is pinned{newest}.", markup=False, soft_wrap=True)


@app.command()
@told
def unpin(name: Annotated[str, typer.Argument(help="The name that was pinned.")]) -> None:
    """Let what was pinned by NAME make room again."""
    with connect() as client:
        left = client.unpin(name)
    held = f" by this name, and still pinned as {' and '.join(left)}" if left else ""
    err.print(f"{name} is pinned no more{held}.", markup=False, soft_wrap=True)


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


def _pinned(model: Model) -> str:
    """How pins are drawn: by which name, where that is not the model's own."""
    return ", ".join("yes" if name == model.name else f"as {name}" for name in model.pinned)
