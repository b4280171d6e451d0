"""`inhouse status`: whether the server takes work, and if not, why and what to do."""

from __future__ import annotations

from dataclasses import asdict

import typer

from inhouse.cli.terminal import Json, json_line, out, speaks_json, told


@told
def status(as_json: Json = False) -> None:
    """Say whether the server takes new work, check by check. Exit code 1: it does not."""
    from inhouse.client import status as statuses

    found = statuses.of(statuses.here())
    if speaks_json(as_json):
        json_line(asdict(found))
    else:
        count = found.replicas or {}
        held = (
            f", {count.get('ready', 0)} replicas ready, {count.get('starting', 0)} starting" if count else ""
        )
        out.print(f"{found.url} is {found.state}{held}", markup=False, soft_wrap=True)
        for check in found.checks:
            out.print(f"{'ok' if check.ok else 'no':>4}", style="green" if check.ok else "red", end="  ")
            out.print(f"{check.name}: {check.why}" if check.why else check.name, markup=False, soft_wrap=True)
            if check.cure:
                out.print(f"      {check.cure}", style="dim", markup=False, soft_wrap=True)
        if not found.is_ready and not any(check.why for check in found.checks):
            out.print("      An admin's key (INHOUSE_API_KEY) is told why.", style="dim", soft_wrap=True)
    if not found.is_ready:
        raise typer.Exit(1)
