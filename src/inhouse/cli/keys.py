"""`inhouse keys`: who may use the server, and for what. It knows the client's Admin and words for people."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Any

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, one_of, out, speaks_json, table, told, when
from inhouse.client.admin import Key
from inhouse.errors import InvalidRequest, NotFound

app = typer.Typer(name="keys", help="API keys: list them, make one, end one.", no_args_is_help=True)

UNITS_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


@app.command("list")
@told
def list_keys(
    every: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    as_json: Json = False,
) -> None:
    """Keys of every project, without their secrets."""
    with connect() as client:
        names = {project.id: project.name for project in client.admin.projects(archived=True)}
        found = [key for key in client.admin.api_keys() if every or _state(key) == "active"]
    if speaks_json(as_json):
        for key in found:
            json_line(_line(key, names))
        return
    header = ("key", "name", "project", "role", "scopes", "secret", "last used", "ends", "state")
    table(header, (_row(key, names) for key in found))


@app.command()
@told
def create(
    name: Annotated[str, typer.Argument(help="What to call it: the program or person that will hold it.")],
    project: Annotated[
        str | None, typer.Option(help="Its name. Default: the project of the key that asks.")
    ] = None,
    role: Annotated[str, typer.Option(help="member or admin.")] = "member",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do, once for each. Default: all that its role may."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it holds: 12h, 30d, 8w. Default: always.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Groups whose facts it may see, once for each.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Of this key alone.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_month: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is shown this once and kept nowhere."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent_requests,
        "tokens_per_month": tokens_per_month,
    }
    with connect() as client:
        made = client.admin.create_key(
            name,
            project=project,
            role=one_of("--role", role, ("member", "admin")) or "member",  # type: ignore[arg-type]
            scopes=scope or None,
            expires_at=None if expires is None else time.time() + _seconds(expires),
            groups=group or (),
            **{limit: number for limit, number in limits.items() if number is not None},
        )
        names = {one.id: one.name for one in client.admin.projects()}
    if speaks_json(as_json):
        json_line(_line(made.key, names) | {"secret": made.secret})
        return
    out.print(made.secret, style="bold yellow", markup=False, soft_wrap=True)
    ends = f", until {when(made.key.expires_at)}" if made.key.expires_at else ""
    said = f"{made.key.id} of the project {names[made.key.project]} may: {', '.join(made.key.scopes)}{ends}."
    err.print(f"{said} The secret is shown this once.", markup=False, soft_wrap=True)


@app.command()
@told
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="KEY…", help="As `inhouse keys list` shows them.")],
) -> None:
    """Make keys useless, within a second."""
    with connect() as client:
        for id in ids:
            try:
                client.admin.revoke_key(id)
            except NotFound as error:
                for key in client.admin.api_keys():
                    if key.name == id and key.revoked_at is None:
                        error.add_note(f"{id} is the name of {key.id}: inhouse keys revoke {key.id}")
                raise
            err.print(f"{id} is revoked.", markup=False, soft_wrap=True)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= time.time() else "active"


def _line(key: Key, projects: dict[str, str]) -> dict[str, Any]:
    named = {"project_name": projects.get(key.project, key.project), "state": _state(key)}
    return dataclasses.asdict(key) | named


def _row(key: Key, projects: dict[str, str]) -> list[str]:
    return [
        key.id,
        key.name,
        projects.get(key.project, key.project),
        key.role,
        ", ".join(key.scopes) or "none",
        key.shown,
        when(key.last_used_at or 0),
        when(key.expires_at or 0),
        _state(key),
    ]


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_S or not number.isdecimal() or int(number) < 1:
        raise InvalidRequest(f"--expires {text} is no length of time. Write 12h, 30d or 8w.", param="expires")
    return float(int(number) * UNITS_S[unit])
