"""Adapters and bases that go, or change, while they are in use: a request sees one version, and is told of what is not
there."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from inhouse.engine.slots import Slots
from inhouse.schema import EngineFrame, EngineRequest
from inhouse.server.calls import Call
from inhouse.server.channel import Channel
from inhouse.store.records import models
from inhouse.store.tables import models as rows_of_models
from tests.engine.test_reliability_gateway import Whole, whole
from tests.engine.world import World, call, start
from tests.house.house import House, descendants, until
from tests.server.house import ADAPTER, TUNED
from tests.tiny import base_folder

OTHER = "c" * 64
FLIPS = 1000


@pytest.fixture
def own(tmp_path: Path) -> World:
    """A world that a test may break."""
    return World(tmp_path / "world")


def test_a_model_deleted_while_it_answers_answers_to_the_end_and_is_then_unknown(
    own: World, tmp_path: Path
) -> None:
    """Fault 25: what runs ends on the adapter it began with, new requests get 404. That nobody takes its room is the
    next test's, with the control."""
    own.adapter(ADAPTER, rank=3, seed=9)
    with whole(tmp_path, own, step_s=0.01) as there:
        client = there.made.client()  # one for all threads, made before they start
        expected = [there.expected("q", ADAPTER, 120), there.expected("q", None, 120)]
        texts: dict[str, str] = {}
        begun = {model: threading.Event() for model in (TUNED, "seedling")}

        def listen(model: str) -> None:
            texts[model] = there.stream(there.body("q", model, max_tokens=120), begun[model])

        listening = [threading.Thread(target=listen, args=(model,)) for model in begun]
        for thread in listening:
            thread.start()
        assert all(event.wait(20) for event in begun.values())
        assert client.delete(f"/v1/models/{TUNED}").json()["deleted"]
        shutil.rmtree(own.adapters / ADAPTER)
        assert there.engine.scheduler.running == 2, "both are still being answered"
        late = there.post(there.body("q", TUNED))
        assert (late.status_code, late.json()["error"]["code"]) == (404, "model_not_found")
        assert TUNED in late.json()["error"]["message"]
        assert there.post(there.body("hello")).status_code == 200
        for thread in listening:
            thread.join(30)
        assert [texts[TUNED], texts["seedling"]] == expected


@pytest.mark.parametrize("guarded", [True, False])
def test_an_adapter_in_use_keeps_its_room_though_its_files_are_gone_and_others_want_it(
    own: World, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 25: it is counted as in use until its last request ends; the control counts nobody."""
    if not guarded:
        monkeypatch.setattr(Slots, "_pin", lambda self, key: None)
        monkeypatch.setattr(Slots, "release", lambda self, key: None)
        monkeypatch.setattr(Slots, "check_integrity", lambda self: None)
    for digest, seed in ((ADAPTER, 9), (OTHER, 10)):
        own.adapter(digest, rank=3, seed=seed)
    engine = own.engine(adapter_rows=3)
    longer, other = call("longer", adapter=ADAPTER, max_new_tokens=40), call("other", adapter=OTHER)
    alone = [own.plainly(longer), own.plainly(other)]
    requests = [start(engine, longer)[0]]
    for _ in range(4):
        engine.step()
    shutil.rmtree(own.adapters / ADAPTER)
    requests.append(start(engine, other)[0])
    while engine.has_work:
        engine.step()
    made = [one.choices[0].tokens[one.choices[0].prompt_length :] for one in requests]
    assert (made == alone) == guarded


class TwoLooks(Call):
    """The control: what the name stands for is looked up once for the reply, and once more for the engine."""

    async def _open(self, request: EngineRequest) -> Channel:
        def now() -> str | None:
            with self.gw.db.read() as conn:
                return models.get(conn, self.caller.project, self.card.name).digest

        return await super()._open(request.model_copy(update={"adapter": now()}))

    def take(self, i: int, frames: list[EngineFrame]) -> list[tuple[int, object]]:  # type: ignore[override]
        same = [f if f.done is None else self._as_asked(f) for f in frames]
        return super().take(i, same)  # type: ignore[return-value]

    def _as_asked(self, frame: EngineFrame) -> EngineFrame:
        assert frame.done is not None
        return frame.model_copy(update={"done": frame.done.model_copy(update={"adapter": self.adapter})})


def flip(there: Whole, is_over: threading.Event) -> int:
    """Makes the name stand for another adapter FLIPS times at least, and until it is over. Returns how often."""
    count = 0
    while count < FLIPS or not is_over.is_set():
        with there.made.db.write() as conn:
            change = rows_of_models.update().where(rows_of_models.c.name == TUNED)
            conn.execute(change.values(digest=(ADAPTER, OTHER)[count % 2]))
        count += 1
        time.sleep(0.002)
    return count


@pytest.mark.parametrize("guarded", [True, False])
def test_a_name_that_changes_its_adapter_gives_each_request_one_version_and_says_which(
    own: World, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 26: flipped 1,000 times under load; each answer is wholly the one's whose digest it carries."""
    if not guarded:
        monkeypatch.setattr("inhouse.server.openai.chat.Call", TwoLooks)
    own.adapter(ADAPTER, rank=3, seed=9)
    own.adapter(OTHER, rank=2, seed=10)
    with whole(tmp_path, own) as there:
        expected = {digest: there.expected("q", digest) for digest in (ADAPTER, OTHER)}
        assert expected[ADAPTER] != expected[OTHER]
        is_over = threading.Event()
        client = there.made.client()

        def ask(_: int) -> tuple[str, str]:
            reply = client.post("/v1/chat/completions", json=there.body("q", TUNED))
            assert reply.status_code == 200, reply.text
            told = reply.json()
            return told["x_adapter"], told["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(5) as threads:
            flipping = threads.submit(flip, there, is_over)
            told = list(threads.map(ask, range(120)))
            is_over.set()
            assert flipping.result() >= FLIPS
    assert {digest for digest, _ in told} == {ADAPTER, OTHER}, "both were met"
    assert all(text == expected[digest] for digest, text in told) == guarded


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of two bases, one of which is asked and moved about."""
    made = House(
        tmp_path / "data", [base_folder(tmp_path / "stays"), base_folder(tmp_path / "moved")], load_wait_s=30
    )
    made.start()
    yield made
    assert made.stop() == 0


def test_a_base_that_is_renamed_on_disk_degrades_and_comes_back(house: House, tmp_path: Path) -> None:
    """Fault 27: what is in memory goes on; what must be loaded says which folder is missing; nothing crashes."""

    def status() -> str:
        reply = httpx2.get(house.url + "/ready", trust_env=False).json()
        assert reply["status"] in ("ready", "degraded"), reply
        return str(reply["status"])

    before = house.chat("moved", "hello", max_tokens=4).json()["choices"]
    until(lambda: status() == "ready", "the look before is over")
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    until(lambda: status() == "degraded", "the look before is over")
    assert house.chat("moved", "hello", max_tokens=4).json()["choices"] == before
    assert house.process is not None
    engines = {pid for pid, line in descendants(house.process.pid).items() if "worker.child job-" in line}
    assert len(engines) == 2, "one for the default base, one for the other"
    for pid in engines:
        os.kill(pid, signal.SIGKILL)
    lost = house.chat("moved", "hello", max_tokens=4)
    assert (lost.status_code, lost.json()["error"]["code"]) == (503, "model_loading")
    assert str(tmp_path / "moved") in lost.json()["error"]["message"]
    assert house.chat("stays", "hello", max_tokens=4).status_code == 200
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    until(lambda: status() == "ready", "the look before is over")
    again = until(
        lambda: (r := house.chat("moved", "hello", max_tokens=4)).status_code == 200 and r, "it is loaded"
    )
    assert again.json()["choices"] == before
