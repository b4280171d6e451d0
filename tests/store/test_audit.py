"""The audit log: a chain that tells what was changed, in both databases, and triggers that refuse it first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from inhouse.errors import InhouseError
from inhouse.store import chain
from inhouse.store.chain import Act, Head
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import audit
from inhouse.store.tables import audit as audit_table
from inhouse.store.tables import audit_head

ACTS = 6


def write(db: Database, count: int = ACTS) -> list[Act]:
    with db.write() as conn:
        return [
            audit.add(
                conn,
                actor="key_a",
                project="default",
                type="file.deleted",
                target=f"file-{i}",
                now=1000.0 + i / 3,
                details={"number": i, "name": "é ☃", "list": [1, None, True], "part": {"z": 1, "a": 2}},
            )
            for i in range(1, count + 1)
        ]


def unguarded(db: Database) -> None:
    """What somebody with the rights of the database's owner would do first."""
    with db.write() as conn:
        if db.is_postgres:
            for table in ("audit", "audit_head"):
                conn.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        else:
            for trigger in ("audit_no_update", "audit_no_delete", "audit_head_no_delete"):
                conn.exec_driver_sql(f"DROP TRIGGER {trigger}")


def breaks(db: Database, noted: Head | None = None) -> list[tuple[int, str]]:
    with db.read() as conn:
        return [(one.seq, one.reason) for one in audit.verify(conn, noted)[1]]


def test_a_log_that_nobody_touched_is_intact_and_reads_back_as_it_was_written(db: Database) -> None:
    written = write(db)
    with db.read() as conn:
        assert audit.verify(conn) == (Head(ACTS, written[-1].hash), [])
        assert list(audit.every(conn)) == written
        assert [act.seq for act in written] == list(range(1, ACTS + 1))
        assert [act.previous for act in written[1:]] == [act.hash for act in written[:-1]]


def test_an_empty_log_is_intact(db: Database) -> None:
    assert breaks(db) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET target = 'x' WHERE seq = 2",
        "UPDATE audit SET target = 'x' WHERE seq = 99 OR seq = 1",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "DELETE FROM audit_head",
    ],
)
def test_the_database_itself_refuses_changes(db: Database, statement: str) -> None:
    write(db)
    with pytest.raises((InhouseError, sa.exc.DBAPIError)), db.write() as conn:
        conn.exec_driver_sql(statement)
    assert breaks(db) == []


def test_control_without_the_triggers_the_same_statement_goes_through_and_the_chain_tells(
    db: Database,
) -> None:
    write(db)
    unguarded(db)
    with db.write() as conn:
        conn.exec_driver_sql("UPDATE audit SET target = 'x' WHERE seq = 2")
    ((seq, reason),) = breaks(db)
    assert (seq, "changed" in reason) == (2, True)


CHANGES: list[tuple[dict[str, object], str]] = [
    ({"actor": "key_b"}, "actor"),
    ({"project": "other"}, "project"),
    ({"type": "file.created"}, "type"),
    ({"at": 999.0}, "at"),
    ({"id": "audit_log-x"}, "id"),
    ({"details": '{"number":3}'}, "details"),
    ({"details": '{ "list":[1,null,true],"name":"x","number":3}'}, "details in another spelling"),
    ({"details": "no json"}, "details that are none"),
    ({"details": "[]"}, "details of another kind"),
    ({"hash": "0" * 64}, "hash"),
]


@pytest.mark.parametrize("values", [values for values, _ in CHANGES], ids=[name for _, name in CHANGES])
def test_verify_names_the_act_that_was_changed(db: Database, values: dict[str, object]) -> None:
    write(db)
    unguarded(db)
    with db.write() as conn:
        conn.execute(audit_table.update().where(audit_table.c.seq == 3).values(**values))
    found = breaks(db)
    assert found and found[0][0] == 3 and "changed" in found[0][1], found


def rewrite(db: Database, seq: int, *, onwards: bool, head: bool) -> None:
    """Change an act and hash it anew, and if asked all behind it, and the head."""
    with db.write() as conn:
        acts = list(audit.every(conn))
        before = acts[seq - 2].hash if seq > 1 else ""
        for act in acts[seq - 1 :]:
            forged = replace(act, previous=before, actor="key_forger" if act.seq == seq else act.actor)
            before = chain.hash_of(forged)
            changed = {"actor": forged.actor, "previous": forged.previous, "hash": before}
            conn.execute(audit_table.update().where(audit_table.c.seq == act.seq).values(**changed))
            if not onwards:
                break
        if head:
            conn.execute(audit_head.update().values(hash=before))


def test_an_act_that_was_changed_and_hashed_anew_is_named_by_the_one_behind_it(db: Database) -> None:
    write(db)
    unguarded(db)
    rewrite(db, 3, onwards=False, head=False)
    ((seq, reason),) = breaks(db)
    assert (seq, "hashed anew" in reason) == (3, True)


def test_a_chain_that_was_forged_to_its_end_does_not_fit_the_head(db: Database) -> None:
    write(db)
    unguarded(db)
    rewrite(db, 3, onwards=True, head=False)
    ((seq, reason),) = breaks(db)
    assert (seq, "head" in reason) == (ACTS, True)


def test_a_log_and_a_head_that_were_forged_together_are_found_only_by_a_head_noted_elsewhere(
    db: Database,
) -> None:
    noted = Head(ACTS, write(db)[-1].hash)
    unguarded(db)
    rewrite(db, 3, onwards=True, head=True)
    assert breaks(db) == []  # this is what a database alone cannot tell
    ((seq, reason),) = breaks(db, noted)
    assert (seq, "noted" in reason) == (ACTS, True)


def delete(db: Database, *seqs: int) -> None:
    with db.write() as conn:
        conn.execute(audit_table.delete().where(audit_table.c.seq.in_(seqs)))


def test_verify_names_acts_that_are_missing(db: Database) -> None:
    write(db)
    unguarded(db)
    delete(db, 3)
    assert breaks(db) == [(3, "act 3 is missing")]
    delete(db, 4)
    assert breaks(db) == [(3, "acts 3 to 4 are missing")]
    delete(db, 1)
    assert breaks(db)[0] == (1, "act 1 is missing")


def test_a_tail_that_was_cut_off_is_told_by_the_head(db: Database) -> None:
    write(db)
    unguarded(db)
    delete(db, 5, 6)
    assert breaks(db) == [(5, "the log's end was cut off: its head says 6 acts, 4 are there")]


def test_a_tail_cut_off_together_with_its_head_is_told_by_a_noted_head(db: Database) -> None:
    acts = write(db)
    noted = Head(ACTS, acts[-1].hash)
    unguarded(db)
    delete(db, 5, 6)
    with db.write() as conn:
        conn.execute(audit_head.update().values(seq=4, hash=acts[3].hash))
    assert breaks(db) == []  # the control: without the note nobody would know
    assert [seq for seq, _ in breaks(db, noted)] == [5]


def test_an_act_that_was_added_behind_the_writer_s_back_is_told(db: Database) -> None:
    acts = write(db)
    extra = replace(acts[-1], seq=ACTS + 1, id="audit_log-forged", previous=acts[-1].hash)
    with db.write() as conn:
        values = {
            name: getattr(extra, name) for name in ("seq", "id", "at", "actor", "project", "type", "target")
        }
        values |= {"details": chain.canonical(extra.details), "previous": extra.previous}
        conn.execute(audit_table.insert().values(**values, hash=chain.hash_of(extra)))
    ((seq, reason),) = breaks(db)
    assert (seq, "added" in reason) == (ACTS + 1, True)


def test_an_act_that_is_rolled_back_leaves_no_row_and_no_gap(db: Database) -> None:
    write(db, 2)

    class Cut(Exception):
        pass

    with pytest.raises(Cut), db.write() as conn:
        audit.add(conn, actor="key_a", type="x", target="y", now=1.0)
        raise Cut
    write(db, 2)
    with db.read() as conn:
        assert [act.seq for act in audit.every(conn)] == [1, 2, 3, 4]
    assert breaks(db) == []


def written_while_it_is_verified(db: Database, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What is found when an act is written between the reading of the head and that of the acts."""
    write(db)
    head = audit.head

    def then_another(conn: sa.Connection) -> Head:
        found = head(conn)
        monkeypatch.setattr(audit, "head", head)
        write(db, 1)
        return found

    monkeypatch.setattr(audit, "head", then_another)
    return breaks(db)


def test_an_act_that_is_written_meanwhile_is_no_break(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written_while_it_is_verified(db, monkeypatch) == []


def test_control_without_one_moment_it_would_look_like_a_break(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(postgres_url)
    migrate(db)
    monkeypatch.setattr(audit, "snapshot", lambda conn: None)
    assert written_while_it_is_verified(db, monkeypatch) != []
    db.dispose()


def race(db: Database, write_one: Callable[[], object]) -> None:
    """Eight threads that write at the same time."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(10):
                write_one()
        except BaseException as problem:
            failed.append(problem)
            raise

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


def test_acts_written_at_the_same_time_are_one_chain(db: Database) -> None:
    def one() -> None:
        with db.write() as conn:
            audit.add(conn, actor="key_a", type="x", target="y", now=1.0)

    race(db, one)
    assert breaks(db) == []
    with db.read() as conn:
        assert audit.head(conn).seq == 80


def test_control_without_the_lock_two_writers_take_the_same_place(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(postgres_url)
    migrate(db)
    head, both_have_looked = audit.head, threading.Barrier(2)

    def look(conn: sa.Connection) -> Head:
        found = head(conn)
        both_have_looked.wait(10)
        return found

    def one(_: int) -> bool:
        try:
            with db.write() as conn:
                audit.add(conn, actor="key_a", type="x", target="y", now=1.0)
        except InhouseError:
            return False
        return True

    monkeypatch.setattr(audit, "head", look)
    monkeypatch.setattr(audit, "lock", lambda conn, name: None)
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(one, range(2))) == [False, True]
    db.dispose()


def test_lists_are_filtered_and_come_in_pieces_newest_first(db: Database) -> None:
    write(db)
    with db.write() as conn:
        audit.add(conn, actor="key_b", project="other", type="pin.created", target="ft:x", now=2000.0)
    with db.read() as conn:
        found, has_more = audit.page(conn, audit.Wanted(), after=None, limit=2)
        assert ([act.seq for act in found], has_more) == ([7, 6], True)
        after = found[-1].id
        assert [a.seq for a in audit.page(conn, audit.Wanted(), after=after, limit=9)[0]] == [5, 4, 3, 2, 1]
        for wanted, seqs in (
            (audit.Wanted(projects=["other"]), [7]),
            (audit.Wanted(types=["file.deleted"], targets=["file-2", "file-3"]), [3, 2]),
            (audit.Wanted(actors=["key_b"]), [7]),
            (audit.Wanted(actors=["nobody"]), []),
            (audit.Wanted(since=1001.0, until=2000.0), [6, 5, 4, 3]),
        ):
            assert [act.seq for act in audit.page(conn, wanted, after=None, limit=9)[0]] == seqs
