"""`inhouse audit`: who did what, whether the log is what was written, and a copy of it.

It knows the client's Admin and words for people; a copy of the log is read by exported.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, out, speaks_json, table, told, when
from inhouse.errors import InvalidRequest

app = typer.Typer(name="audit", help="The log of administrative acts.", no_args_is_help=True)


@app.command("list")
@told
def list_acts(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    project: Annotated[str | None, typer.Option(help="Of this project only, by name or id.")] = None,
    type: Annotated[list[str] | None, typer.Option(help="Such as api_key.created, once for each.")] = None,
    actor: Annotated[str | None, typer.Option(help="What this key did.")] = None,
    target: Annotated[str | None, typer.Option(help="What was done to this id.")] = None,
    as_json: Json = False,
) -> None:
    """What was done, by which key, to what."""
    with connect() as client:
        admin = client.admin
        found = admin.audit(
            limit=limit,
            project_ids=[admin.project(project).id] if project else [],
            event_types=type or [],
            actor_ids=[actor] if actor else [],
            resource_ids=[target] if target else [],
        )
        acts = [_shown(act) for act in found]
    if speaks_json(as_json):
        for act in acts:
            json_line(act)
        return
    rows = (
        [
            str(a["seq"]),
            when(a["at"]),
            a["type"],
            a["target"],
            a["project"],
            a["actor"],
            _details(a["details"]),
        ]
        for a in acts
    )
    table(("act", "at", "what", "to", "project", "by", "details"), rows)


@app.command()
@told
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export, checked here. Without it: the server's own log.")
    ] = None,
    noted: Annotated[
        str | None, typer.Option(help="A head from an earlier look, which the log must still hold.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether each act is what was written, and none is missing. Ends with 1 where one is not."""
    if file is None:
        with connect() as client:
            found = client.admin.verify_audit(noted)
    else:
        from inhouse.cli.exported import verify_file

        found = verify_file(file, noted)
    if speaks_json(as_json):
        json_line({"intact": found.intact, "acts": found.acts, "head": found.head, "breaks": [*found.breaks]})
    else:
        for broken in found.breaks:
            named = f"act {broken['seq']}" + (f" ({broken['id']})" if broken["id"] else "")
            out.print(f"{named}: {broken['reason']}", style="red", markup=False, soft_wrap=True)
        if found.intact:
            out.print(f"All {found.acts:,} acts are what was written.", style="green")
        out.print(f"Head: {found.head}", markup=False, soft_wrap=True)
        if found.intact and noted is None:
            out.print(
                "Note the head where this server cannot write, and give it to --noted next time: somebody who may "
                "change the whole database can forge a log that fits itself.",
                style="dim",
                soft_wrap=True,
            )
    if not found.intact:
        raise typer.Exit(1)


@app.command()
@told
def export(
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("audit.jsonl"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the whole log to a JSONL file, which `inhouse audit verify FILE` checks anywhere."""
    if to.exists() and not force:
        raise InvalidRequest(f"{to} is there already. Name another with --out, or add --force.", param="out")
    if not to.absolute().parent.is_dir():
        raise InvalidRequest(
            f"There is no folder {to.parent}. Make it, or name another with --out.", param="out"
        )
    with connect() as client:
        head = client.admin.export_audit(to)
    if speaks_json(as_json):
        json_line({"file": str(to), "head": head})
    else:
        err.print(f"The log is in {to}. Head: {head}", markup=False, soft_wrap=True)


def _shown(told: Any) -> dict[str, Any]:
    return {
        "seq": told["x_seq"],
        "id": told["id"],
        "at": told["effective_at"],
        "type": told["type"],
        "target": told["x_target"],
        "project": told.get("project", {}).get("name", ""),
        "actor": told["x_actor"],
        "details": told["x_details"],
        "hash": told["x_hash"],
    }


def _details(details: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in details.items() if value not in (None, [], {}, ""))
