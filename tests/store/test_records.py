"""Rows: what is stored comes back, lists come in pieces, and no project sees another's."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict, InhouseError, InvalidRequest, LeaseLost, ModelNotFound, NotFound
from inhouse.schema import File, Job, JobFault, ModelCard, Replica
from inhouse.store import ids
from inhouse.store.db import Database, lease_now
from inhouse.store.records import files, jobs, keys, models, projects, replicas, usage
from inhouse.store.records.usage import UsageRow, UsageTotal
from inhouse.store.tables import jobs as jobs_table
from inhouse.store.tables import keys as keys_table


def a_file(project: str = "default", **changes: object) -> File:
    values = {
        "id": ids.new("file"),
        "project": project,
        "filename": "facts.jsonl",
        "purpose": "fine-tune",
        "bytes": 3,
        "digest": "d" * 64,
        "created_at": 1.5,
    }
    return File.model_validate({**values, **changes})


def a_job(project: str = "default", **changes: object) -> Job:
    values = {
        "id": ids.new("ftjob"),
        "project": project,
        "kind": "tune",
        "state": "queued",
        "spec": {"base": "seedling", "nested": {"a": [1, 2.5, None, "ü"]}},
        "created_at": 1.0,
    }
    return Job.model_validate({**values, **changes})


def a_model(project: str | None = "default", **changes: object) -> ModelCard:
    values = {
        "name": ids.tuned_model("seedling", project or "", "x"),
        "project": project,
        "kind": "adapter",
        "base": "seedling",
        "digest": "e" * 64,
        "created_at": 1.0,
        "about": {"rank": 8},
    }
    return ModelCard.model_validate({**values, **changes})


def a_base(**changes: object) -> ModelCard:
    return a_model(
        None, **{"name": "seedling", "kind": "base", "source": "embedded", "digest": None, **changes}
    )


def run(conn: sa.Connection, job: Job, fence: int = 1, lease_s: float = 60) -> None:
    """Make a job run, as a claim would."""
    changes = {"state": "running", "fence": fence, "lease_until": lease_now(conn) + lease_s}
    conn.execute(jobs_table.update().where(jobs_table.c.id == job.id).values(**changes))


def test_ids_name_their_noun_and_are_never_the_same() -> None:
    assert ids.new("file").startswith("file-") and len(ids.new("file")) == 5 + 24
    assert ids.new("key").startswith("key_") and ids.new("proj").startswith("proj_")
    assert len({ids.new("job") for _ in range(10_000)}) == 10_000
    assert ids.tuned_model("seedling", "default", "").startswith("ft:seedling:default::")


def test_a_project_is_made_once(db: Database) -> None:
    with db.write() as conn:
        assert projects.ensure(conn, "default", 1.0) == "default"
        first = projects.ensure(conn, "acme", 2.0)
        assert projects.ensure(conn, "acme", 3.0) == first
        assert [p.name for p in projects.all(conn)] == ["default", "acme"]


def test_a_key_works_until_it_is_revoked_or_expires(db: Database) -> None:
    now = time.time()
    with db.write() as conn:
        assert not keys.any(conn)
        lasting = keys.add(conn, project="a", name="ci", secret_hash="1", role="admin", now=now)
        keys.add(conn, project="a", name="old", secret_hash="2", role="member", now=now, expires_at=now - 1)
        keys.add(conn, project="a", name="new", secret_hash="3", role="member", now=now, expires_at=now + 60)
        assert keys.any(conn)
        found = keys.by_hash(conn, "1")
        assert found is not None
        assert (found.id, found.project, found.role, found.name) == (lasting, "a", "admin", "ci")
        assert keys.by_hash(conn, "2") is None
        assert keys.by_hash(conn, "3") is not None
        assert keys.by_hash(conn, "4") is None
        keys.revoke(conn, lasting)
        keys.revoke(conn, lasting)
        assert keys.by_hash(conn, "1") is None
        assert [key.name for key in keys.list(conn, "a")] == ["ci", "old", "new"]
        assert keys.list(conn, "b") == []
        with pytest.raises(NotFound):
            keys.revoke(conn, "key_nobody")
        with pytest.raises(NotFound):
            keys.revoke(conn, lasting, project="b")


def test_a_secret_itself_is_in_no_column() -> None:
    assert "secret" not in keys_table.c and "secret_hash" in keys_table.c


def test_a_file_comes_back_as_it_was(db: Database) -> None:
    file = a_file(filename="Ümläut 'quoted\".jsonl", bytes=5 * 2**40)
    with db.write() as conn:
        files.add(conn, file)
    with db.read() as conn:
        assert files.get(conn, "default", file.id) == file
        assert files.in_use(conn, file.digest)
    with db.write() as conn:
        files.delete(conn, "default", file.id)
        assert not files.in_use(conn, file.digest)
        with pytest.raises(NotFound):
            files.delete(conn, "default", file.id)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_show_every_row_once_in_order_of_arrival(db: Database, order: str) -> None:
    stored = [a_file(created_at=1.0 if i % 2 else 9.0) for i in range(7)]
    with db.write() as conn:
        for file in stored:
            files.add(conn, file)
            files.add(conn, a_file("other"))
            files.add(conn, a_file(purpose="batch"))
    seen: list[File] = []
    has_more = True
    with db.read() as conn:
        while has_more:
            after = seen[-1].id if seen else None
            piece, has_more = files.page(
                conn, "default", purpose="fine-tune", after=after, limit=3, order=order
            )
            assert len(piece) == 3 or not has_more
            seen += piece
        assert len(files.page(conn, "default", limit=100)[0]) == 14
    assert seen == (stored if order == "asc" else stored[::-1])


def test_a_page_cannot_continue_after_another_projects_row(db: Database) -> None:
    theirs = a_file("other")
    with db.write() as conn:
        files.add(conn, theirs)
    said: list[str] = []
    for after in (theirs.id, "file-none"):
        with pytest.raises(InvalidRequest) as caught, db.read() as conn:
            files.page(conn, "default", after=after)
        assert caught.value.param == "after"
        said.append(caught.value.message.replace(after, "…"))
    assert said[0] == said[1]
    for wrong in ({"limit": 0}, {"order": "sideways"}):
        with pytest.raises(InvalidRequest), db.read() as conn:
            files.page(conn, "default", **wrong)  # type: ignore[arg-type]


def test_a_job_comes_back_as_it_was(db: Database) -> None:
    job = a_job(result={"a": 1}, error=JobFault(code="x", message="y"), x_state="paused: disk_full")
    with db.write() as conn:
        jobs.add(conn, job)
    with db.read() as conn:
        assert jobs.get(conn, "default", job.id) == job
        assert jobs.get(conn, None, job.id) == job
        assert jobs.with_state(conn, "tune", ("queued", "running")) == [job]
        assert jobs.with_state(conn, "serve", ("queued",)) == []
        assert jobs.page(conn, "default", kind="tune") == ([job], False)


def test_validation_queues_or_fails_a_job_and_cannot_revive_a_cancelled_one(db: Database) -> None:
    good, bad, cancelled = (a_job(state="validating_files") for _ in range(3))
    fault = JobFault(code="invalid_training_file", message="line 1: empty", param="training_file")
    with db.write() as conn:
        for job in (good, bad, cancelled):
            jobs.add(conn, job)
        jobs.cancel(conn, "default", cancelled.id, 2.0)
        jobs.set_validated(conn, good.id, True, None, 3.0)
        jobs.set_validated(conn, bad.id, False, fault, 3.0)
        jobs.set_validated(conn, cancelled.id, True, None, 3.0)
        assert jobs.get(conn, None, good.id).state == "queued"
        failed = jobs.get(conn, None, bad.id)
        assert (failed.state, failed.error, failed.finished_at) == ("failed", fault, 3.0)
        assert jobs.get(conn, None, cancelled.id).state == "cancelled"


def test_a_job_that_ended_cannot_be_cancelled(db: Database) -> None:
    job = a_job()
    with db.write() as conn:
        jobs.add(conn, job)
        ended = jobs.cancel(conn, "default", job.id, 2.0)
        assert (ended.state, ended.fence, ended.finished_at) == ("cancelled", 1, 2.0)
        with pytest.raises(Conflict, match="already cancelled"):
            jobs.cancel(conn, "default", job.id, 3.0)


def test_events_come_in_order_and_only_from_who_holds_the_fence(db: Database) -> None:
    job = a_job()
    with db.write() as conn:
        jobs.add(conn, job)
        jobs.add_event(conn, job.id, "queued", 1.0, fence=None)
        run(conn, job, fence=2)
        jobs.add_event(conn, job.id, "step", 2.0, type="metrics", data={"loss": 0.5}, fence=2)
        jobs.set_x_state(conn, job.id, 2, "loading")
    for late in (
        lambda conn: jobs.add_event(conn, job.id, "late", 3.0, fence=1),
        lambda conn: jobs.set_x_state(conn, job.id, 1, "late"),
    ):
        with pytest.raises(LeaseLost), db.write() as conn:
            late(conn)
    with db.read() as conn:
        newest_first, has_more = jobs.events(conn, "default", job.id)
        assert [event.message for event in newest_first] == ["step", "queued"]
        assert newest_first[0].data == {"loss": 0.5} and newest_first[0].type == "metrics"
        first, has_more = jobs.events(conn, "default", job.id, limit=1, order="asc")
        assert has_more and first[0].message == "queued"
        rest, has_more = jobs.events(conn, "default", job.id, after=first[0].id, order="asc")
        assert not has_more and [event.message for event in rest] == ["step"]
        assert jobs.get(conn, None, job.id).x_state == "loading"


def test_a_base_is_everyones_and_an_adapter_its_projects(db: Database) -> None:
    adapter = a_model("a")
    with db.write() as conn:
        models.put_base(conn, a_base())
        models.put_base(conn, a_base(about={"context": 512}))
        models.add(conn, adapter)
    with db.read() as conn:
        assert models.get(conn, "a", "seedling") == a_base(about={"context": 512})
        assert models.get(conn, "a", adapter.name) == adapter
        assert [card.name for card in models.all(conn, "a")] == ["seedling", adapter.name]
        assert [card.name for card in models.all(conn, "b")] == ["seedling"]
        assert models.by_adapter(conn, "e" * 64) == [adapter]
        assert models.by_adapter(conn, "f" * 64) == []
    with pytest.raises(Conflict), db.write() as conn:
        models.add(conn, adapter)
    with db.write() as conn:
        with pytest.raises(ModelNotFound):
            models.delete(conn, "a", "seedling")
        models.delete(conn, "a", adapter.name)
        with pytest.raises(ModelNotFound):
            models.get(conn, "a", adapter.name)


def test_a_replica_is_ready_only_while_its_job_runs_by_the_same_fence_with_a_live_lease(db: Database) -> None:
    job = a_job("", kind="serve", id=ids.new("job"))
    replica = Replica(
        job=job.id, fence=1, base="seedling", address="unix:/x", fingerprint="fp_d", context=512, ready=True
    )

    def ready() -> list[Replica]:
        with db.read() as conn:
            return replicas.ready_for(conn, "seedling")

    with db.write() as conn:
        jobs.add(conn, job)
    with pytest.raises(LeaseLost), db.write() as conn:
        replicas.put(conn, replica, 1.0)
    with db.write() as conn:
        run(conn, job)
        replicas.put(conn, replica.model_copy(update={"ready": False}), 1.0)
    assert ready() == []
    with db.write() as conn:
        replicas.put(conn, replica, 2.0)
    assert ready() == [replica]
    with db.write() as conn:
        run(conn, job, lease_s=-1)
    assert ready() == []
    with db.write() as conn:
        run(conn, job, fence=2)
    assert ready() == []
    with db.write() as conn:
        run(conn, job, fence=1)
        jobs.cancel(conn, None, job.id, 3.0)
    assert ready() == []
    with db.write() as conn:
        assert replicas.all(conn) == [replica]
        replicas.drop(conn, job.id)
        assert replicas.all(conn) == []


def test_usage_adds_up_for_each_project(db: Database) -> None:
    def row(project: str, at: float) -> UsageRow:
        return UsageRow(project, "key_1", "seedling", "req", 10, 3, at)

    with db.write() as conn:
        usage.add_many(conn, [row("a", 1.0), row("a", 2.0), row("b", 2.0)])
        usage.add_many(conn, [])
        assert usage.total(conn, "a", 0.0) == UsageTotal(2, 20, 6)
        assert usage.total(conn, "a", 1.5) == UsageTotal(1, 10, 3)
        assert usage.total(conn, "c", 0.0) == UsageTotal(0, 0, 0)


QUESTIONS: dict[str, Callable[[sa.Connection, str, str, str, str], object]] = {
    "files.get": lambda c, project, file, job, model: files.get(c, project, file),
    "files.delete": lambda c, project, file, job, model: files.delete(c, project, file),
    "files.page": lambda c, project, file, job, model: files.page(c, project, after=file),
    "jobs.get": lambda c, project, file, job, model: jobs.get(c, project, job),
    "jobs.cancel": lambda c, project, file, job, model: jobs.cancel(c, project, job, 1.0),
    "jobs.events": lambda c, project, file, job, model: jobs.events(c, project, job),
    "jobs.page": lambda c, project, file, job, model: jobs.page(c, project, kind="tune", after=job),
    "models.get": lambda c, project, file, job, model: models.get(c, project, model),
    "models.delete": lambda c, project, file, job, model: models.delete(c, project, model),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_another_projects_object_reads_exactly_like_none(db: Database, question: str) -> None:
    """Every question with another project's id, and with an id that never was: the same error, word for word.

    The control asks as the owner, who gets an answer.
    """
    file, job, model = a_file("theirs"), a_job("theirs"), a_model("theirs")
    with db.write() as conn:
        files.add(conn, file)
        jobs.add(conn, job)
        models.add(conn, model)
    real = (file.id, job.id, model.name)
    said = []
    for names in (real, ("none", "none", "none")):
        with pytest.raises(InhouseError) as caught, db.write() as conn:
            QUESTIONS[question](conn, "ours", *names)
        wire = str(caught.value.to_wire())
        for name in names:
            wire = wire.replace(name, "…")
        said.append((type(caught.value), wire))
    assert said[0] == said[1]
    with db.read() as conn:
        assert files.page(conn, "ours") == ([], False)
        assert jobs.page(conn, "ours", kind="tune") == ([], False)
        assert models.all(conn, "ours") == []
        assert jobs.get(conn, "theirs", job.id).state == "queued"
    with db.write() as conn:
        QUESTIONS[question](conn, "theirs", *real)


@pytest.mark.parametrize(
    "key", ["plain", 'a"b', "a.b", "a[0]", "$.x", "it's", "ключ", "a\\b", "a%b", "", "ümläut"]
)
def test_a_job_is_found_by_what_its_metadata_say_whatever_the_key(db: Database, key: str) -> None:
    with db.write() as conn:
        wanted = a_job(spec={"request": {"metadata": {key: 'v"\\ü', "more": "x"}}})
        for job in (
            wanted,
            a_job(spec={"request": {"metadata": {key: "else"}}}),
            a_job(spec={"request": {"metadata": {f"{key}x": 'v"\\ü'}}}),
            a_job(spec={"request": {"metadata": None}}),
            a_job(spec={"request": {}}),
        ):
            jobs.add(conn, job)
        for metadata in ({key: 'v"\\ü'}, {key: 'v"\\ü', "more": "x"}):
            found, _ = jobs.page(conn, "default", kind="tune", metadata=metadata)
            assert [job.id for job in found] == [wanted.id]
        assert jobs.page(conn, "default", kind="tune", metadata={key: 'v"\\ü', "other": "x"})[0] == []
