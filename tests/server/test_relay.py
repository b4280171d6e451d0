from __future__ import annotations

import socket
import threading
from pathlib import Path

from inhouse.jobs import queue
from inhouse.schema import JobFault
from inhouse.store.records import jobs

from .house import House, announce, engine, house


def test_without_a_replica_one_is_asked_for_and_the_caller_told_to_wait(tmp_path: Path) -> None:
    with house(tmp_path, load_wait_s=0.3) as made:
        for stream in (False, True):
            reply = made.chat("hi", stream=stream)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_loading")
            assert int(reply.headers["retry-after"]) >= 1
        with made.db.read() as conn:
            (job,) = jobs.with_state(conn, "serve", ["queued", "running"])
        assert job.spec == {"base": "seedling"}


def test_a_request_waits_for_a_replica_that_comes(tmp_path: Path) -> None:
    with house(tmp_path, load_wait_s=20.0) as made:
        replies = []
        waiting = threading.Thread(target=lambda: replies.append(made.chat("hi there")))
        waiting.start()
        with engine(made.db, tmp_path):
            waiting.join(20)
        assert replies[0].json()["choices"][0]["message"]["content"] == "hi there"


def test_a_dead_replica_is_passed_over_for_its_successor(tmp_path: Path) -> None:
    with house(tmp_path, load_wait_s=20.0) as made:
        gone = announce(made.db, f"unix:{tmp_path / 'gone.sock'}")
        replies = []
        waiting = threading.Thread(target=lambda: replies.append(made.chat("hi")))
        waiting.start()
        queue.finish(made.db, gone.job, gone.fence, "failed")
        with made.db.write() as conn:  # long ago, so that a new one may be tried at once
            conn.exec_driver_sql("UPDATE jobs SET finished_at = 1")
        with engine(made.db, tmp_path):
            waiting.join(20)
        assert replies[0].status_code == 200


def test_a_base_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with house(tmp_path, load_wait_s=20.0) as made:
        replica = announce(made.db, f"unix:{tmp_path / 'gone.sock'}")
        fault = JobFault(code="invalid_checkpoint", message="shard 2 is missing.")
        queue.finish(made.db, replica.job, replica.fence, "failed", error=fault)
        reply = made.chat("hi")
        assert reply.status_code == 503
        assert "shard 2 is missing." in reply.json()["error"]["message"]


def test_an_engine_that_speaks_nonsense_is_not_believed(tmp_path: Path) -> None:
    with house(tmp_path, load_wait_s=0.5) as made, socket.socket(socket.AF_UNIX) as liar:
        liar.bind(str(tmp_path / "liar.sock"))
        liar.listen()
        liar.settimeout(1)
        announce(made.db, f"unix:{tmp_path / 'liar.sock'}")

        def lie() -> None:
            try:
                while True:
                    with liar.accept()[0] as caller:
                        caller.recv(65536)
                        caller.sendall(b'{"delta": {"text": 3}}\n')
            except OSError:
                return

        lying = threading.Thread(target=lie)
        lying.start()
        reply = made.chat("hi")
        lying.join()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_lost")


def test_a_request_that_ends_every_engine_is_not_given_all_of_them(served: House) -> None:
    reply = served.chat("crash 0")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_lost")
