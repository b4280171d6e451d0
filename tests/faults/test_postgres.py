"""PostgreSQL killed, gone, and behind a network that is slow, silent or cut: who goes on, and who stops in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from inhouse.errors import StoreBusy
from inhouse.server import threads
from inhouse.store.records import usage
from inhouse.tune.checkpoint import Checkpoints
from inhouse.worker import children, patience
from inhouse.worker.main import CHILD
from tests.faults.proxy import Proxy
from tests.faults.workshop import Workshop, script, working
from tests.house.house import until
from tests.postgres import Cluster
from tests.server.house import House, engine, house

pytestmark = [  # a connection that is cut while it is made is the driver's to drop, and it says so
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*BaseConnection.__del__:pytest.PytestUnraisableExceptionWarning"),
]
LONG = {"epochs": 30, "batch_size": 2, "checkpoint_every": 20}


@pytest.fixture
def proxy(postgres: Cluster) -> Iterator[Proxy]:
    with Proxy(postgres.socket) as made:
        yield made


def through(proxy: Proxy, url: str) -> str:
    """The same database, reached through the proxy."""
    name = url.split("@/")[1].split("?")[0]
    return f"postgresql://tests@127.0.0.1:{proxy.port}/{name}"


@pytest.fixture
def served(postgres_url: str, tmp_path: Path) -> Iterator[House]:
    """A server over PostgreSQL, with an engine stubbed at its socket."""
    with house(tmp_path / "data", database_url=postgres_url) as made, engine(made.db, tmp_path):
        assert made.chat("hello").status_code == 200
        yield made


def code(reply: httpx2.Response) -> tuple[int, str | None]:
    return reply.status_code, reply.json()["error"]["code"] if reply.status_code != 200 else None


def test_inference_goes_on_while_postgres_is_killed_and_started_again(
    served: House, postgres: Cluster
) -> None:
    """Fault 11: known keys and models are believed meanwhile, all else is 503, and no use is lost."""
    postgres.stop(signal.SIGKILL)
    try:
        replies = [served.chat("still there") for _ in range(5)]
        assert [code(r) for r in replies] == [(200, None)] * 5
        files = served.client(served.member).get("/v1/files")
        assert code(files) == (503, "database_unavailable") and "retry-after" in files.headers
        unknown = served.client("sk-inhouse-unknown").get("/v1/models")
        assert code(unknown) == (503, "database_unavailable"), "a key that nobody has seen may be a good one"
    finally:
        postgres.start()
    until(lambda: served.client(served.member).get("/v1/files").status_code == 200, "the store is back")

    def counted() -> bool:
        with served.db.read() as conn:
            total = usage.total(conn, "default", 0.0)
        return total.requests == 6

    until(counted, "each request is counted once")


def test_keys_are_believed_for_a_minute_and_no_longer(
    served: House, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 11: the bound, and with it the control: without belief inference ends with PostgreSQL."""
    assert threads.BELIEVED_S == 60.0
    monkeypatch.setattr(threads, "BELIEVED_S", 2.0)
    postgres.stop(signal.SIGKILL)
    try:
        assert served.chat("still there").status_code == 200
        time.sleep(2.5)
        assert code(served.chat("not any more")) == (503, "database_unavailable")
    finally:
        postgres.start()


def test_what_is_changed_here_is_believed_no_longer(served: House) -> None:
    """Fault 11: a revoked key is out at once, however short ago it was good."""
    admin = served.client(served.admin)
    made = admin.post("/v1/x/keys", json={"name": "short"}).json()
    mine = served.client(made["key"])
    assert mine.get("/v1/models").status_code == 200
    assert admin.delete(f"/v1/x/keys/{made['id']}").status_code == 200
    assert mine.get("/v1/models").status_code == 401
    assert not served.server.gateway.store._answers or all(
        name[0] != "key" or found.key != made["id"]  # type: ignore[index]
        for name, (_, found) in served.server.gateway.store._answers.items()
    )


def test_inference_goes_on_while_the_network_says_nothing(
    proxy: Proxy, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 11 and 38: a store that neither answers nor refuses counts as away after two seconds."""
    monkeypatch.setattr(threads, "SILENT_S", 0.5)
    with (
        house(tmp_path / "data", database_url=through(proxy, postgres_url)) as made,
        engine(made.db, tmp_path),
    ):
        assert made.chat("hello").status_code == 200
        proxy.become("silent")
        try:
            assert [made.chat("still there").status_code for _ in range(3)] == [200] * 3
        finally:
            proxy.become("pass")
        assert made.client(made.member).get("/v1/files").status_code == 200


@pytest.mark.parametrize("is_patient", [True, False], ids=["patient", "control: gives up"])
def test_a_job_goes_on_while_postgres_is_killed_and_started_again(
    is_patient: bool, postgres: Cluster, postgres_url: str, tmp_path: Path
) -> None:
    """Fault 11: the same process trains on, saves, and renews its lease afterwards."""
    shop = Workshop(tmp_path, postgres_url, lease_s=60)
    job = shop.submit(**LONG)
    command = CHILD if is_patient else script("impatient")
    with working(shop.settings, command=command):
        until(lambda: shop.step_of(job) >= 20, "the job is under way")
        saved = shop.checkpoints(job)
        postgres.stop(signal.SIGKILL)
        try:
            if is_patient:
                until(lambda: shop.checkpoints(job)[-1:] > saved[-1:], "it saves on without the store")
            time.sleep(1.5)
        finally:
            postgres.start()
        assert shop.ended(job).state == "succeeded"
    assert (shop.attempts(job) == 1) is is_patient
    assert len(shop.published()) == 1
    assert (shop.job(job).fence == 1) is is_patient


@pytest.mark.parametrize("how", ["gone", "silent", "control: no leash"])
def test_a_job_whose_store_is_gone_stops_at_the_end_of_its_lease_and_keeps_its_checkpoint(
    how: str, proxy: Proxy, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 12 and 38: nobody knows any more whose job it is, so nobody works on it; what was learnt stays."""
    if how == "control: no leash":
        monkeypatch.setattr(children.Leash, "pull", lambda self: None)
    shop = Workshop(tmp_path, postgres_url, lease_s=3)
    job = shop.submit(**LONG | {"epochs": 1000})
    with working(shop.settings, through(proxy, postgres_url)) as worker:
        until(lambda: shop.checkpoints(job), "a checkpoint is there")
        process = worker.children[job].process
        proxy.become("refuse" if how == "gone" else "silent")
        try:
            if how == "control: no leash":
                time.sleep(shop.settings.lease_s + 1.5)
                assert process.poll() is None, "the control: it works on, though its lease is over"
                return
            until(lambda: process.poll() is not None, "the process ends", shop.settings.lease_s + 2)
            kept = Checkpoints(shop.settings.scratch_dir / job / "checkpoints").latest()
            assert kept is not None and kept.step >= 20
        finally:
            proxy.become("pass")
            proxy.reset()
        until(lambda: shop.job(job).fence >= 2, "the job is taken up again")
        until(lambda: shop.job(job).attempts <= 1, "the outage counts as no attempt")


def test_a_worker_that_was_cut_off_publishes_nothing_beside_its_successor(
    proxy: Proxy, postgres_url: str, tmp_path: Path
) -> None:
    """Fault 38: as with a frozen worker: when the network comes back, the job is another's."""
    shop = Workshop(tmp_path, postgres_url, lease_s=2)
    job = shop.submit(**LONG)
    with working(shop.settings, through(proxy, postgres_url)) as cut_off:
        until(lambda: shop.checkpoints(job), "a checkpoint is there")
        proxy.become("silent")
        with working(shop.settings):
            until(lambda: shop.job(job).fence >= 2, "another worker has the job")
            proxy.become("pass")
            assert shop.ended(job).state == "succeeded"
        until(lambda: not cut_off.children, "the first worker has none of it")
    assert len(shop.published()) == 1


def test_a_job_ends_once_through_a_slow_network_that_breaks_again_and_again(
    proxy: Proxy, postgres_url: str, tmp_path: Path
) -> None:
    """Fault 38: each write is tried again, and the end of the job is one, whether or not its answer came through."""
    shop = Workshop(tmp_path, postgres_url, lease_s=15)
    job = shop.submit(**LONG)
    proxy.delay_s = 0.005
    with working(shop.settings, through(proxy, postgres_url)):
        resets = 0
        while shop.job(job).state in ("queued", "running"):
            time.sleep(0.4)
            proxy.reset()
            resets += 1
    assert shop.job(job).state == "succeeded" and resets >= 3
    assert len(shop.published()) == 1
    assert shop.job(job).fence == 1


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control: nothing is drawn"])
def test_those_who_lost_one_store_do_not_come_back_in_step(
    is_guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 38: waits grow, and no two are alike. The control's are, and all come at once."""
    if not is_guarded:
        monkeypatch.setattr(patience.random, "uniform", lambda low, high: (low + high) / 2)
    waits: list[list[float]] = []
    monkeypatch.setattr(patience.time, "sleep", lambda wait_s: waits[-1].append(wait_s))
    for _ in range(50):
        waits.append([])
        left = iter(range(8))

        def busy(left: Iterator[int] = left) -> int:
            if (n := next(left)) < 7:
                raise StoreBusy("away")
            return n

        assert patience.patiently(busy) == 7
    firsts = {round(one[0], 6) for one in waits}
    assert len(firsts) > 45 if is_guarded else len(firsts) == 1
    assert all(sum(one[4:]) > sum(one[:3]) and max(one) <= 1.5 * patience.LONGEST_WAIT_S for one in waits)
