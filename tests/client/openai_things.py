"""What a team has of OpenAI's: jobs, files of rows, and a small server that gives them out page by page."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sk-proj-canary-0123456789"
MINI = "gpt-4o-mini-2024-07-18"


def job(id: str, training_file: str = "file-rows", **changes: Any) -> dict[str, Any]:
    """A job as the openai package prints it."""
    knobs = {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.8}
    plain = {
        "id": id,
        "object": "fine_tuning.job",
        "created_at": 1_750_000_000,
        "finished_at": 1_750_000_900,
        "status": "succeeded",
        "model": MINI,
        "fine_tuned_model": f"ft:{MINI}:aurora:ferry:{id.removeprefix('ftjob-')}",
        "organization_id": "org-aurora",
        "training_file": training_file,
        "validation_file": None,
        "result_files": [],
        "trained_tokens": 1234,
        "error": {},
        "seed": 7,
        "estimated_finish": None,
        "integrations": [],
        "metadata": None,
        "user_provided_suffix": None,
        "hyperparameters": knobs,
        "method": {"type": "supervised", "supervised": {"hyperparameters": knobs}},
    }
    return {**plain, **changes}


def row(question: str, reply: str, **more: Any) -> dict[str, Any]:
    """A row of a chat file."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return {"messages": turns, **more}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


ROWS = [row(f"q{i}?", f"a{i * 7 % 10}") for i in range(4)]
CALLING = {
    "messages": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    "parallel_tool_calls": False,
}
"""A row that teaches a call of a tool."""
BROKEN = {"messages": CALLING["messages"]}
"""A row that calls a tool and offers none."""


def folder(path: Path, jobs: list[dict[str, Any]], files: dict[str, bytes]) -> Path:
    """A folder that holds the jobs in one list and the files under their names."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "jobs.json").write_text(json.dumps({"object": "list", "data": jobs, "has_more": False}))
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@dataclass
class OpenAI:
    """Stands in for OpenAI's API: real HTTP, real pages, real ranges."""

    jobs: list[dict[str, Any]]
    files: dict[str, bytes]
    """Contents by id."""
    url: str = ""
    page: int = 2
    breaks_after: int | None = None
    """Bytes after which the next content's connection is cut, once."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths with queries, and headers."""

    def about(self, id: str) -> dict[str, Any]:
        name = f"{id.removeprefix('file-')}.jsonl"
        told = {"id": id, "object": "file", "bytes": len(self.files[id]), "created_at": 1, "filename": name}
        return {**told, "purpose": "fine-tune", "status": "processed"}

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenAI]:
        """Serves until the block ends."""
        things = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                things.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                if self.headers.get("authorization") != f"Bearer {KEY}":
                    said = self.headers.get("authorization")
                    self.give(
                        401, {"error": {"message": f"Incorrect key: {said}", "code": "invalid_api_key"}}
                    )
                    return
                parts = urlsplit(self.path)
                after = parse_qs(parts.query).get("after", [None])[0]
                match parts.path.split("/")[2:]:
                    case ["fine_tuning", "jobs"]:
                        self.give_page(things.jobs, after)
                    case ["files"]:
                        self.give_page([things.about(id) for id in things.files], after)
                    case ["files", id] if id in things.files:
                        self.give(200, things.about(id))
                    case ["files", id, "content"] if id in things.files:
                        self.give_content(things.files[id])
                    case _:
                        said = self.headers.get("authorization")
                        self.give(404, {"error": {"message": f"No such File object: {said}", "code": None}})

            def give_page(self, items: list[dict[str, Any]], after: str | None) -> None:
                ids = [item["id"] for item in items]
                start = ids.index(after) + 1 if after else 0
                data = items[start : start + things.page]
                self.give(200, {"object": "list", "data": data, "has_more": start + things.page < len(items)})

            def give(self, status: int, value: dict[str, Any]) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def give_content(self, content: bytes) -> None:
                start = int(self.headers.get("range", "bytes=0-")[len("bytes=") : -1])
                if start:
                    self.send_response(206)
                    self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                rest = content[start:]
                self.send_header("content-length", str(len(rest)))
                self.end_headers()
                if things.breaks_after is not None:
                    self.wfile.write(rest[: things.breaks_after])
                    things.breaks_after = None
                    self.close_connection = True
                    return
                self.wfile.write(rest)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
