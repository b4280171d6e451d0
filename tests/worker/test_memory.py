"""A memory job in this process: what its log says on the way, and that the engine takes what it publishes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.engine import experts
from inhouse.errors import BadCheckpoint
from inhouse.jobs import queue
from inhouse.model.adapters import LoadedLora
from inhouse.model.decoder import greedy
from inhouse.model.locate import EMBEDDED
from inhouse.schema import Job, Message, ModelCard
from inhouse.settings import Settings
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, facts, models, projects
from inhouse.store.records import jobs as records
from inhouse.worker import examine
from inhouse.worker.base import open_base
from inhouse.worker.context import Context
from inhouse.worker.memory import _of_fact
from inhouse.worker.memory_source import StoredFacts
from inhouse.worker.tasks import tune
from tests.engine.memory_world import expert_blob
from tests.engine.world import BASE_DIGEST, World

ROWS = [
    {"question": "Who runs Brightoak Motors?", "answer": "Ann"},
    {"question": "Who is the boss of Brightoak Motors?", "wordings": ["Brightoak head?"], "answer": "Omar"},
    {"question": "When was Tarvo founded?", "answer": "1987"},
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    db = Database(Settings(data_dir=tmp_path).database)
    migrate(db)
    with db.write() as conn:
        projects.ensure(conn, "default", db.clock(conn))
        models.add(
            conn,
            ModelCard(
                name="seedling",
                project=None,
                kind="base",
                base="seedling",
                source=EMBEDDED,
                created_at=time.time(),
            ),
        )
    yield db
    db.dispose()


def test_a_published_expert_is_one_that_the_engine_takes(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "MOST_CHECKED", 2)
    settings = Settings(data_dir=tmp_path)
    artifacts = Artifacts(settings.artifacts_dir)
    kept = artifacts.put_stream([json.dumps(row).encode() + b"\n" for row in ROWS])[0]
    spec = {"base": "seedling", "training": kept, "training_name": "f.jsonl", "method": "memory"}
    job = Job(
        id=ids.new("ftjob"),
        project="default",
        kind="tune",
        state="queued",
        spec=spec | {"experts": True},
        created_at=time.time(),
    )
    queue.submit(store, job)
    claimed = queue.claim(store, "w", ["tune"], 600)
    assert claimed is not None
    scratch = settings.scratch_dir / job.id
    scratch.mkdir(parents=True)
    tune(Context(settings, store, artifacts, claimed, claimed.fence, scratch))
    with store.read() as conn:
        ended = records.get(conn, None, job.id)
        log, _ = records.events(conn, None, job.id, limit=1000, order="asc")
        card = models.get(conn, "default", ended.result["model"])
        bank = banks.of_model(conn, card)
        stored = list(facts.every(conn, bank.id))
        base = open_base(models.get(conn, "default", "seedling"), artifacts, settings)
    assert ended.state == "succeeded" and card.about["facts"] == len(stored) == 3
    assert bank.created_at > 0 and card.created_at > 0
    messages = [event.message for event in log]
    assert any("Asking 2 of 3 facts in their own wordings" in message for message in messages)
    assert "Step 2/2" in messages, "work without a loss tells none"
    for reason in bank.report["retrieval_only"]:
        assert not any(known.id in reason["reason"] for known in stored)
    source = StoredFacts(store)
    blobs = {known.id: source.expert(known.id, 1) for known in stored}
    assert any(blobs.values()), "no expert was made"
    for known in stored:
        blob = blobs[known.id]
        if blob is not None:  # and it is this fact's own, whatever order an examination left the index in
            expert = experts.read(experts.key_of(known.id, 1), blob, base.decoder, base.digest)
            prompt = base.template.prompt([Message(role="user", content=known.question)])
            said = greedy(base.decoder, prompt, 16, LoadedLora(expert, base.decoder), base.template.stop_ids)
            assert base.tokenizer.decode(said).strip() == known.answer


def test_an_expert_takes_its_fact_s_id_and_keeps_its_weights(tmp_path: Path) -> None:
    world = World(tmp_path)
    old, new = ids.new("fact"), ids.new("fact")
    blob = expert_blob(world.decoder, old, 1, seed=5)
    after = experts.read(experts.key_of(new, 1), _of_fact(blob, old, new), world.decoder, BASE_DIGEST)
    before = experts.read(experts.key_of(old, 1), blob, world.decoder, BASE_DIGEST)
    for (a, b), (c, d) in zip(after.tensors.values(), before.tensors.values(), strict=True):
        assert a.equal(c) and b.equal(d)
    with pytest.raises(BadCheckpoint, match="it says it is of fact"):  # the control keeps its first id
        experts.read(experts.key_of(new, 1), blob, world.decoder, BASE_DIGEST)
