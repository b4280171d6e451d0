"""`inhouse webhooks`: who is told when jobs and batches end. It knows the client's Webhooks and words for people."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, out, speaks_json, table, told, when

app = typer.Typer(
    name="webhooks",
    help="Webhooks: addresses that are told when jobs and batches end.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(metavar="WEBHOOK", help="As `inhouse webhooks list` shows it.")]


@app.command()
@told
def add(
    url: Annotated[
        str, typer.Argument(help="Where to post, on a host that the setting webhook_hosts names.")
    ],
    event: Annotated[
        list[str] | None, typer.Option(help="What to tell, once for each. Default: everything.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it. Default: its host.")] = None,
    as_json: Json = False,
) -> None:
    """Tell an address of a project's events. Its secret is shown this once."""
    with connect() as client:
        made = client.webhooks.add(url, events=event, name=name)
    if speaks_json(as_json):
        json_line(dataclasses.asdict(made.webhook) | {"secret": made.secret})
        return
    out.print(made.secret, style="bold yellow", markup=False, soft_wrap=True)
    said = f"{made.webhook.id} is told of {', '.join(made.webhook.events)}."
    err.print(
        f"{said} The secret, which checks signatures, is shown this once.", markup=False, soft_wrap=True
    )


@app.command("list")
@told
def list_webhooks(as_json: Json = False) -> None:
    """Every project's webhooks."""
    with connect() as client:
        found = client.webhooks.all()
    if speaks_json(as_json):
        for webhook in found:
            json_line(dataclasses.asdict(webhook))
        return
    rows = ([w.id, w.name, w.project or "", w.url, ", ".join(w.events), when(w.created_at)] for w in found)
    table(("webhook", "name", "project", "address", "events", "since"), rows)


@app.command()
@told
def remove(id: Id) -> None:
    """Tell an address nothing more, what is on its way included."""
    with connect() as client:
        client.webhooks.remove(id)
    err.print(f"{id} is removed.", markup=False, soft_wrap=True)


@app.command()
@told
def test(
    id: Id, event: Annotated[str, typer.Option(help="Which event to make up.")] = "fine_tuning.job.succeeded"
) -> None:
    """Send a made-up event now, and say what was answered."""
    with connect() as client:
        status = client.webhooks.test(id, event)
    err.print(f"Answered with status {status}.", markup=False)
    if not 200 <= status < 300:
        raise typer.Exit(1)


@app.command()
@told
def deliveries(id: Id, as_json: Json = False) -> None:
    """What a webhook was told or is still to be told, newest first."""
    with connect() as client:
        found = client.webhooks.deliveries(id)
    if speaks_json(as_json):
        for delivery in found:
            json_line(dataclasses.asdict(delivery))
        return
    rows = (
        [d.id, d.type, d.state, str(d.tries), d.last_answer or "", when(d.due_at) if d.due_at else ""]
        for d in found
    )
    table(("delivery", "event", "state", "tries", "last answer", "next try"), rows)
