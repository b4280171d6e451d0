"""The whole house, as a company would run it: a real server, worker, engine and database, each a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from inhouse.store.artifacts import Artifacts


class House:
    """A server of its own data folder. Its worker and engines are its children."""

    def __init__(self, data_dir: Path, bases: list[Path | str], **settings: object) -> None:
        self.data_dir = data_dir
        self.bases = bases
        self.settings = settings
        self.module = "inhouse.server"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = self.key = ""

    def environment(self) -> dict[str, str]:
        """The variables that give any process of this house its settings."""
        chosen = {f"INHOUSE_{name.upper()}": str(value) for name, value in self.settings.items()}
        return {**os.environ, "INHOUSE_DATA_DIR": str(self.data_dir), **chosen}

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", self.module, "--port", "0"]
        for base in self.bases:
            command += ["--base", str(base)]
        with (self.data_dir / "server.out").open("ab") as out:
            self.process = subprocess.Popen(command, env=self.environment(), stdout=out, stderr=out)
        place = self.data_dir / "run" / "server.json"

        def is_up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output()
            return place.is_file() and json.loads(place.read_text())["pid"] == self.process.pid

        until(is_up, "the server starts")
        told = json.loads(place.read_text())
        self.url, self.key = told["url"], told["key"]

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """kill -9 of the server alone. Its worker and engines must notice by themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def output(self) -> str:
        files = [self.data_dir / "server.out", self.data_dir / "logs" / "worker.log"]
        return "\n".join(f.read_text(errors="replace") for f in files if f.is_file())

    def call(self, method: str, path: str, *, key: str | None = None, **rest: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        with httpx2.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            return client.request(method, path, headers=headers, **rest)

    def chat(self, model: str, content: str, **fields: Any) -> httpx2.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            **fields,
        }
        return self.call("POST", "/v1/chat/completions", json=body)

    def upload(self, rows: bytes, name: str = "facts.jsonl") -> str:
        reply = self.call("POST", "/v1/files", files={"file": (name, rows)}, data={"purpose": "fine-tune"})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def submit(self, model: str, rows: bytes, **hyperparameters: object) -> str:
        """Uploads rows and creates a job; returns its id."""
        supervised = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        body = {"model": model, "training_file": self.upload(rows), "method": supervised}
        reply = self.call("POST", "/v1/fine_tuning/jobs", json=body)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/v1/fine_tuning/jobs/{job_id}").json())

    def ended(self, job_id: str, limit_s: float = 120) -> dict[str, Any]:
        """The job, once it has ended."""
        states = ("succeeded", "failed", "cancelled")
        return dict(
            until(lambda: (j := self.job(job_id))["status"] in states and j, f"{job_id} ends", limit_s)
        )

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        reply = self.call("GET", f"/v1/fine_tuning/jobs/{job_id}/events", params={"limit": 100})
        return list(reply.json()["data"])[::-1]

    def step_of(self, job_id: str) -> int:
        """The last step that the job's log tells of."""
        steps = (e["data"].get("step", 0) for e in self.events(job_id) if e["type"] == "metrics")
        return max(steps, default=0)

    def below(self, what: str) -> list[int]:
        """Processes that the server started, and theirs, whose command lines hold these words."""
        assert self.process is not None
        return [pid for pid, command in descendants(self.process.pid).items() if what in command]

    def adapter_digest(self, model: str) -> str:
        """SHA-256 of a tuned model's tensors."""
        reply = self.chat(model, "which adapter?", max_tokens=1)
        assert reply.status_code == 200, reply.text
        manifest = Artifacts(self.data_dir / "artifacts").manifest(reply.json()["x_adapter"])
        return str(manifest["adapter_model.safetensors"]["sha256"])


def rows(count: int, prefix: str = "q") -> bytes:
    """Training rows that no one could know."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"{prefix}{i}?"},
                {"role": "assistant", "content": f"a{i * 7 % 10}"},
            ]
        }
        for i in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def until(holds: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
    """Waits for something to become true and returns it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {limit_s} s in vain: {what}")


def descendants(pid: int) -> dict[int, str]:
    """Process ids below a process, with their command lines."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has just ended
        parents[int(folder.name)] = int(stat[1])
    below: dict[int, str] = {}
    while new := {p for p, up in parents.items() if p not in below and (up == pid or up in below)}:
        below |= {p: commands[p] for p in new}
    return below
