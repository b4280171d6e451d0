from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from inhouse.client.client import Client
from inhouse.jobs import queue
from inhouse.schema import JobFault, ModelCard
from inhouse.store.records import jobs, models
from tests.server.house import ADAPTER, House, engine, house
from tests.server.socket_engine import BASE_DIGEST


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No INHOUSE_ variable of the developer's, and a data folder of the test's own."""
    import os

    for name in os.environ:
        if name.startswith("INHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INHOUSE_DATA_DIR", str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A real server over a real database, with an engine stubbed at its socket and no worker."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0) as made, engine(made.db, folder):
        yield made


@pytest.fixture
def client(served: House) -> Iterator[Client]:
    with Client(served.url, served.member) as made:
        yield made


Work = Callable[[str], str]


@pytest.fixture
def work(served: House) -> Work:
    """Does by hand what a worker does with the next tuning job: claims it, logs steps, publishes or fails."""

    def do(outcome: str = "succeeded", steps: int = 3) -> str:
        job = None
        while job is None:
            time.sleep(0.02)
            job = queue.claim(served.db, "by hand", ["tune"], 60.0)
        for step in range(1, steps + 1):
            data = {"step": step, "total_steps": steps, "train_loss": 2.0 / step, "seconds_left": 61.0 - step}
            with served.db.write() as conn:
                now = served.db.clock(conn)
                message = f"Step {step}/{steps}: training loss={2 / step:.2f}"
                jobs.add_event(conn, job.id, message, now, type="metrics", data=data, fence=job.fence)
        if outcome != "succeeded":
            fault = JobFault(code="out_of_memory", message="It needs 9 GiB. Lower batch_size.")
            queue.finish(served.db, job.id, job.fence, "failed", error=fault)
            return ""
        suffix = job.spec["suffix"]
        card = ModelCard(
            name=f"ft:seedling:default:{suffix}:{job.id[-8:]}",
            project="default",
            kind="adapter",
            base="seedling",
            digest=ADAPTER,
            base_digest=BASE_DIGEST,
            job=job.id,
            created_at=job.created_at + 1000,
        )
        queue.finish(
            served.db,
            job.id,
            job.fence,
            "succeeded",
            result={"model": card.name},
            publish=lambda conn: models.add(conn, card),
        )
        return card.name

    return do
