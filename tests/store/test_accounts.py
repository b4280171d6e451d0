"""Projects, service accounts and keys: what makes a key useless, what it may do, when it was last used."""

from __future__ import annotations

import pytest

from inhouse.errors import Conflict, InvalidRequest, NotFound
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import accounts, keys, projects
from inhouse.store.records.limits import RateLimits


def test_a_key_without_scopes_has_its_role_s_and_none_that_the_role_lacks(db: Database) -> None:
    with db.write() as conn:
        project = projects.ensure(conn, "a", 1.0)

        def made(hash: str, role: keys.Role, scopes: list[str] | None) -> tuple[str, ...]:
            id = keys.add(
                conn, project=project, name="n", secret_hash=hash, role=role, now=1.0, scopes=scopes
            )
            return keys.get(conn, id).scopes

        assert made("1", "member", None) == keys.MEMBER_SCOPES
        assert made("2", "admin", None)[-1] == "admin"
        assert made("3", "member", ["files", "inference"]) == ("inference", "files")
        assert made("4", "member", []) == ()
        for role, scope in (("member", "admin"), ("admin", "everything")):
            with pytest.raises(InvalidRequest, match=scope):
                made("5", role, [scope])  # type: ignore[arg-type]


def test_a_key_is_useless_with_its_account_or_its_project(db: Database) -> None:
    with db.write() as conn:
        project = projects.add(conn, "a", 1.0).id
        of = accounts.add(conn, project, "robot", "member", 1.0)
        for hash in ("1", "2"):
            keys.add(
                conn, project=project, name=hash, secret_hash=hash, role="member", now=1.0, account=of.id
            )
        own = keys.add(conn, project=project, name="own", secret_hash="3", role="member", now=1.0)
        assert keys.get(conn, own).account not in ("", of.id)
        found = keys.by_hash(conn, "1")
        assert found is not None and found.account == of.id
        gone = accounts.delete(conn, project, of.id)
        assert len(gone) == 2
        assert (keys.by_hash(conn, "1"), keys.by_hash(conn, "2")) == (None, None)
        assert keys.by_hash(conn, "3") is not None
        projects.archive(conn, project)
        assert keys.by_hash(conn, "3") is None


def test_another_project_s_accounts_and_keys_are_none(db: Database) -> None:
    with db.write() as conn:
        mine, other = projects.add(conn, "a", 1.0).id, projects.add(conn, "b", 1.0).id
        of = accounts.add(conn, mine, "robot", "member", 1.0)
        id = keys.add(conn, project=mine, name="n", secret_hash="1", role="member", now=1.0, account=of.id)
        for ask in (
            lambda: accounts.get(conn, other, of.id),
            lambda: accounts.delete(conn, other, of.id),
            lambda: keys.get(conn, id, project=other),
            lambda: keys.set_limits(conn, id, {"tokens_per_minute": 1}, project=other),
        ):
            with pytest.raises(NotFound):
                ask()
        assert accounts.page(conn, other, after=None, limit=10) == ([], False)
        assert keys.page(conn, other, after=None, limit=10) == ([], False)


def test_names_of_projects_are_given_once_and_the_default_one_stays(db: Database) -> None:
    with db.write() as conn:
        default = projects.ensure(conn, "default", 1.0)
        first = projects.add(conn, "a", 1.0)
        with pytest.raises(Conflict):
            projects.add(conn, "a", 1.0)
        with pytest.raises(Conflict):
            projects.rename(conn, default, "a")
        with pytest.raises(Conflict):
            projects.archive(conn, default)
        assert projects.rename(conn, first.id, "b").name == "b"
        archived = projects.archive(conn, first.id)
        assert projects.archive(conn, first.id) == archived
        listed = [row.id for row in projects.page(conn, archived=False, after=None, limit=10)[0]]
        assert listed == [default]
        assert len(projects.page(conn, archived=True, after=None, limit=10)[0]) == 2


def test_limits_are_chosen_one_by_one_and_taken_back(db: Database) -> None:
    with db.write() as conn:
        project = projects.add(conn, "a", 1.0).id
        projects.set_limits(conn, project, {"requests_per_minute": 5, "tokens_per_month": 9})
        changed = projects.set_limits(conn, project, {"requests_per_minute": None, "tokens_per_minute": 7})
        assert changed.limits == RateLimits(tokens_per_minute=7, tokens_per_month=9)
        assert projects.get(conn, project) == changed


def test_the_last_use_never_goes_back(db: Database) -> None:
    with db.write() as conn:
        id = keys.add(conn, project="a", name="n", secret_hash="1", role="member", now=1.0)
        assert keys.get(conn, id).last_used_at is None
        for at in (5.0, 9.0, 7.0):
            keys.note_use(conn, {id: at, "key_gone": at})
        keys.note_use(conn, {})
        assert keys.get(conn, id).last_used_at == 9.0


def test_keys_of_the_schema_before_keep_working_with_an_account_of_their_own(database_url: str) -> None:
    db = Database(database_url)
    migrate(db, to="0004")
    with db.write() as conn:
        for id, role in (("key_one", "admin"), ("key_two", "member")):
            conn.exec_driver_sql(
                "INSERT INTO keys (id, project, name, secret_hash, role, created_at, groups) "
                f"VALUES ('{id}', 'default', 'old', '{id}', '{role}', 1.0, '[]')"
            )
        conn.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('default', 'default', 1.0)")
    migrate(db)
    with db.read() as conn:
        for id, role in (("key_one", "admin"), ("key_two", "member")):
            found = keys.by_hash(conn, id)
            assert found is not None
            assert found.scopes == keys.SCOPES_OF[role]  # type: ignore[index]
            assert accounts.get(conn, "default", found.account).role == role
        assert projects.get(conn, "default").limits == RateLimits()
    db.dispose()
