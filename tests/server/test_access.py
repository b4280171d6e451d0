"""The log of a real server: every line is an object, each reply is told, and nobody's secret or text is in it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from inhouse.store.db import Database

from .house import engine, until
from .test_main import ended, started, told

CANARY = "canary-in-a-prompt"


def test_a_server_s_log_tells_each_reply_and_no_secret(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    with started(tmp_path, "--log-level", "debug") as process:
        at = told(tmp_path, process)
        host, _, port = at["url"].removeprefix("http://").rpartition(":")
        with engine(db, tmp_path), httpx2.Client(base_url=at["url"], timeout=30, trust_env=False) as client:
            client.headers["authorization"] = f"Bearer {at['key']}"
            made = client.post("/v1/x/keys", json={"name": "n"}).json()["key"]
            asked = {"model": "seedling", "messages": [{"role": "user", "content": CANARY}]}
            good = client.post("/v1/chat/completions", json=asked)
            streamed = client.post("/v1/chat/completions", json=asked | {"stream": True}).headers
            client.post("/v1/chat/completions", json=asked | {"model": CANARY})
            client.get("/v1/models", headers={"authorization": f"Bearer {made}"})
            wrong = client.get(
                "/v1/models?key=canary-in-a-query", headers={"authorization": "Bearer canary-key"}
            )
            client.get(f"/v1/{made}")
            client.get("/health")
            with socket.create_connection((host, int(port))) as raw:
                raw.sendall(b"canary is no HTTP\r\n\r\n")
                raw.recv(1000)
            with client.stream("POST", "/v1/chat/completions", json=asked_for_many(asked)) as left:
                next(left.iter_raw())
        with db.write() as conn:
            conn.exec_driver_sql("ALTER TABLE files RENAME TO canary_files")
        broken = httpx2.get(
            f"{at['url']}/v1/files", headers={"authorization": f"Bearer {at['key']}"}, trust_env=False
        )
        process.send_signal(signal.SIGTERM)
        code, _, err = ended(process)
    db.dispose()
    assert code == 0 and broken.status_code == 500
    lines = [json.loads(text) for text in err.splitlines()]
    assert not [secret for secret in (made, at["key"], "canary") if secret in err]
    assert {"inhouse.access", "uvicorn.error", "inhouse.server.main"} <= {line["logger"] for line in lines}
    assert "Invalid HTTP request received." in [line["message"] for line in lines]
    replies: dict[str, dict[str, Any]] = {
        line["request_id"]: line for line in lines if line["logger"] == "inhouse.access"
    }
    line = replies[good.headers["x-request-id"]]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert line["project"] == "default" and line["key"] == "local" and line["duration_ms"] > 0
    assert line["bytes_sent"] == len(good.content) and line["level"] == "info"
    assert replies[streamed["x-request-id"]]["status"] == 200
    assert "project" not in replies[wrong.headers["x-request-id"]]
    (health,) = [line for line in replies.values() if line["path"] == "/health"]
    assert health["level"] == "debug"
    assert [line for line in replies.values() if line.get("outcome") == "client gone"]
    (fault,) = [line for line in lines if line["level"] == "error"]
    assert fault["request_id"] == broken.headers["x-request-id"] and "files.py" in fault["message"]


def asked_for_many(asked: dict[str, Any]) -> dict[str, Any]:
    return asked | {"stream": True, "messages": [{"role": "user", "content": "count 100 0.05"}]}


def test_a_server_of_client_s_own_keeps_its_file_small(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom inhouse import logs\nlogs.FILE_BYTES = 20_000\n"
        "from inhouse.server.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    file = tmp_path / "logs" / "server.log"
    file.parent.mkdir()
    command = [sys.executable, "-c", script, "--worker", "false", "--port", "0", "--data-dir", str(tmp_path)]
    with file.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        at = told(tmp_path, process)  # type: ignore[arg-type]
        with httpx2.Client(base_url=at["url"], trust_env=False) as client:
            for _ in range(300):
                client.get("/v1/models")
        older = file.with_name("server.log.1")
        until(older.exists, "the file is turned over")
        assert sum(part.stat().st_size for part in file.parent.glob("server.log*")) < 50_000
        assert json.loads(file.read_text().splitlines()[-1])["logger"] == "inhouse.access"
    finally:
        process.kill()
        process.wait()
