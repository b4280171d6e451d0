"""Clients of the house under harm: each asks, tries again under the same key until it is answered, and notes that."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2

from benchmarks.chaos.history import History

Address = Callable[[], tuple[str, str]]
"""Where the server is just now, and a key of it."""
PATIENCE_S = 60.0
"""So long a request is tried again; what was never answered is no promise."""
MOST_JOBS_OPEN = 6
ENDED = ("succeeded", "failed", "cancelled")


class Client(threading.Thread):
    """Does one thing after the other, chosen by a seed, until it is told to stop."""

    def __init__(self, seed: int, address: Address, history: History, memory: str) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self.random = random.Random(seed)
        self.seed = seed
        self.address = address
        self.history = history
        self.memory = memory
        self.stopping = threading.Event()
        self.unanswered = 0
        self._files: list[str] = []
        self._open: list[str] = []

    def run(self) -> None:
        choices = [self.file, self.job, self.key, self.fact, self.chat, self.chat, self.chat, self.look]
        while not self.stopping.is_set():
            self.random.choice(choices)()
            self.stopping.wait(self.random.uniform(0.05, 0.3))

    def file(self) -> None:
        rows = [{"question": f"{self.random.random()}?", "answer": f"{n * 7 % 10}"} for n in range(8)]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        files = {"file": ("rows.jsonl", content)}
        key = self._new_key()
        reply = self._ask("POST", "/v1/files", key, files=files, data={"purpose": "fine-tune"})
        if reply is not None:
            self.history.note("file", key=key, id=reply["id"], sha256=hashlib.sha256(content).hexdigest())
            self._files.append(reply["id"])

    def job(self) -> None:
        if not self._files or len(self._open) >= MOST_JOBS_OPEN:
            return
        key = self._new_key()
        numbers = {"n_epochs": self.random.randrange(5, 30), "batch_size": 2, "x_rank": 4}
        body = {
            "model": "tiny",
            "training_file": self.random.choice(self._files),
            "suffix": key[-18:],
            "method": {"type": "supervised", "supervised": {"hyperparameters": numbers}},
        }
        reply = self._ask("POST", "/v1/fine_tuning/jobs", key, json=body)
        if reply is not None:
            self.history.note("job", key=key, id=reply["id"])
            self.history.note("state", id=reply["id"], state=reply["status"])
            self._open.append(reply["id"])

    def look(self) -> None:
        """Notes in which state a job is that has not ended yet."""
        for id in list(self._open):
            reply = self._ask("GET", f"/v1/fine_tuning/jobs/{id}", None, once=True)
            if reply is not None:
                self.history.note("state", id=id, state=reply["status"])
                if reply["status"] in ENDED:
                    self._open.remove(id)

    def key(self) -> None:
        reply = self._ask("POST", "/v1/x/keys", None, json={"name": "chaos"}, once=True)
        if reply is not None:
            self.history.note("key", id=reply["id"])

    def fact(self) -> None:
        key = self._new_key()
        question = f"What is the code of {key}?"
        body = {"model": self.memory, "question": question, "answer": str(self.random.randrange(10**6))}
        reply = self._ask("POST", "/v1/facts", key, json=body)
        if reply is not None:
            self.history.note("fact", key=key, id=reply["id"], question=question)

    def chat(self) -> None:
        """A stream read to its end; only one that ends as streams end was answered."""
        url, key = self.address()
        body = {"model": "tiny", "stream": True, "max_tokens": self.random.randrange(1, 60)}
        messages = {"messages": [{"role": "user", "content": f"hello {self.random.random()}"}]}
        try:
            with (
                httpx2.Client(base_url=url, timeout=30, trust_env=False) as client,
                client.stream(
                    "POST",
                    "/v1/chat/completions",
                    json=body | messages,
                    headers={"authorization": f"Bearer {key}"},
                ) as reply,
            ):
                last = b""
                for line in reply.iter_lines():
                    last = line.encode() or last
                if reply.status_code == 200 and last == b"data: [DONE]":
                    self.history.note("chat", id=reply.headers["x-request-id"])
                    return
        except (httpx2.HTTPError, OSError):
            time.sleep(0.2)
        self.unanswered += 1

    def _new_key(self) -> str:
        return f"{self.seed}-{self.random.getrandbits(60):015x}"

    def _ask(self, method: str, path: str, key: str | None, *, once: bool = False, **rest: Any) -> Any:
        """The reply's body; None when nobody answered in time. A refusal that no harm explains ends the client."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            url, secret = self.address()
            headers = {"authorization": f"Bearer {secret}"} | ({"idempotency-key": key} if key else {})
            try:
                with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
                    reply = client.request(method, path, headers=headers, **rest)
                if reply.status_code == 200:
                    return reply.json()
                if reply.status_code not in (401, 409, 429, 500, 503, 507):
                    raise AssertionError(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
                if reply.status_code == 500:
                    self.history.note("error", id=path, text=reply.text[:300])
            except (httpx2.HTTPError, OSError):
                pass  # the server is down: it comes back, maybe elsewhere
            if once or self.stopping.is_set() or time.monotonic() > deadline:
                self.unanswered += 1
                return None
            time.sleep(self.random.uniform(0.1, 0.6))
