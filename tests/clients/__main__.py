"""`python -m tests.clients [NAME ...]`: starts a server on the embedded base and lets each client do what it can.

Prints a table, writes it as JSON to build/clients/results.json, and ends with 1 when a client failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import inhouse
from tests.clients.environments import HOME, NotInstalled, python_of, version_of
from tests.clients.table import CLIENTS, Client

BASE = "seedling"
START_LIMIT_S = 60.0
SCRIPT_LIMIT_S = 600.0
DID = "did: "


@dataclass(frozen=True, slots=True)
class Result:
    """What one client did, and the end of what it said where it failed."""

    client: str
    version: str
    did: list[str]
    passed: bool
    seconds: float
    error: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(CLIENTS)}; all, if none is given"
    )
    names = parser.parse_args().names or [*CLIENTS]
    if unknown := [name for name in names if name not in CLIENTS]:
        parser.error(f"{unknown[0]} is none of {', '.join(CLIENTS)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="inhouse-clients-") as folder, server(Path(folder)) as place:
        for name in names:
            results.append(tried(name, CLIENTS[name], place, Path(folder) / name))
            print(line(results[-1]), flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    told = {"inhouse": inhouse.__version__, "base": BASE, "clients": [asdict(result) for result in results]}
    (HOME / "results.json").write_text(json.dumps(told, indent=2) + "\n")
    for result in results:
        if not result.passed:
            print(f"\n{result.client}:\n{result.error}")
    return int(not all(result.passed for result in results))


@contextmanager
def server(folder: Path) -> Iterator[dict[str, Any]]:
    """`inhouse up` on a free port and a data folder of its own; its address and key."""
    data = folder / "data"
    chosen = {"INHOUSE_DATA_DIR": str(data)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    with (folder / "server.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "inhouse.cli", "up", "--port", "0", "--base", BASE],
            env=kept | chosen,
            stdout=out,
            stderr=out,
        )
    try:
        address = data / "run" / "server.json"
        deadline = time.monotonic() + START_LIMIT_S
        while not (address.is_file() and json.loads(address.read_text())["pid"] == process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The server does not start:\n{(folder / 'server.out').read_text()[-3000:]}")
            time.sleep(0.1)
        yield json.loads(address.read_text())
    finally:
        process.terminate()
        process.wait(60)


def tried(name: str, client: Client, place: dict[str, Any], folder: Path) -> Result:
    """Installs a client where it is not there, and lets it do what it can."""
    try:
        python = python_of(name, client)
    except NotInstalled as e:
        return Result(name, "", [], False, 0.0, str(e))
    return walk(name, client, python, place, folder)


def walk(name: str, client: Client, python: Path, place: dict[str, Any], folder: Path) -> Result:
    """Runs a client's script in its environment."""
    version, began = version_of(python, client.package), time.monotonic()
    folder.mkdir()
    try:
        done = subprocess.run(
            [python, client.path],
            env=environment(place, folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SCRIPT_LIMIT_S,
        )
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as e:
        said = (e.stdout or b"").decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
        said, code = f"{said}\nIt was not done within {SCRIPT_LIMIT_S:.0f} s.", 1
    did = [text.removeprefix(DID) for text in said.splitlines() if text.startswith(DID)]
    passed = code == 0 and bool(did)
    return Result(
        name, version, did, passed, round(time.monotonic() - began, 1), "" if passed else said[-3000:]
    )


def environment(place: dict[str, Any], folder: Path) -> dict[str, str]:
    """What a script is told. No key of the caller's, and no hub: what a client would fetch, it must do without."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "WALK_BASE_URL": f"{place['url']}/v1",
        "WALK_KEY": place["key"],
        "WALK_MODEL": BASE,
        "WALK_TOKENIZER": str(Path(inhouse.__file__).parent / "bases" / BASE),
        "WALK_FOLDER": str(folder),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def line(result: Result) -> str:
    state = "ok  " if result.passed else "FAIL"
    return f"{state} {result.client:17} {result.version:9} {result.seconds:6.1f} s  {'; '.join(result.did)}"


if __name__ == "__main__":
    sys.exit(main())
