"""Projects, service accounts, keys and their limits over HTTP, on both databases, and through OpenAI's package."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from inhouse.server import last_use
from inhouse.store.records import keys

from .house import House, house, until

PROJECTS = "/v1/organization/projects"


@pytest.fixture
def made(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url=database_url) as made:
        yield made


def admin(made: House) -> httpx2.Client:
    return made.client(made.admin)


def new_project(made: House, name: str = "team") -> str:
    return str(admin(made).post(PROJECTS, json={"name": name}).json()["id"])


def new_account(made: House, project: str, **fields: Any) -> dict[str, Any]:
    reply = admin(made).post(f"{PROJECTS}/{project}/service_accounts", json={"name": "robot", **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def works(made: House, secret: str) -> bool:
    return made.client(secret).get("/v1/models").status_code == 200


def stops_within(made: House, secret: str, limit_s: float = 1.0) -> bool:
    """Whether the key's next requests are refused before this time is over."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not works(made, secret):
            return True
        time.sleep(0.02)
    return False


def test_a_name_with_a_space_is_told_what_it_may_be(made: House) -> None:
    refused = admin(made).post(PROJECTS, json={"name": "Shop Team"})
    assert "name: use letters, digits, dots, dashes and underscores" in refused.json()["error"]["message"]


def test_a_project_is_made_renamed_listed_and_archived(made: House) -> None:
    client = admin(made)
    project = client.post(PROJECTS, json={"name": "team"}).json()
    assert (project["object"], project["status"], project["archived_at"]) == (
        "organization.project",
        "active",
        None,
    )
    assert client.post(PROJECTS, json={"name": "team"}).status_code == 409
    path = f"{PROJECTS}/{project['id']}"
    assert client.post(path, json={"name": "crew"}).json()["name"] == "crew"
    assert client.get(path).json()["name"] == "crew"
    secret = new_account(made, project["id"])["api_key"]["value"]
    assert works(made, secret)
    assert client.post(f"{path}/archive").json()["status"] == "archived"
    assert stops_within(made, secret)
    assert project["id"] not in client.get(PROJECTS).text
    assert project["id"] in client.get(PROJECTS, params={"include_archived": "true"}).text
    refused = client.post(f"{path}/service_accounts", json={"name": "late"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert client.post(f"{PROJECTS}/default/archive").status_code == 409
    assert client.get(f"{PROJECTS}/proj_none").status_code == 404


def test_a_list_comes_in_pieces(made: House) -> None:
    for name in ("a", "b", "c"):
        new_project(made, name)
    seen, after = [], None
    while True:
        page = admin(made).get(PROJECTS, params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [project["name"] for project in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == ["default", "other", "a", "b", "c"]


def test_a_project_made_twice_under_one_idempotency_key_is_one(made: House) -> None:
    replies = [
        admin(made).post(PROJECTS, json={"name": "once"}, headers={"idempotency-key": "k"}) for _ in range(2)
    ]
    assert replies[0].json() == replies[1].json()


def test_an_account_s_keys_end_with_it_and_are_shown_once(made: House) -> None:
    project = new_project(made)
    account = new_account(made, project)
    assert (account["role"], account["api_key"]["object"]) == (
        "member",
        "organization.project.service_account.api_key",
    )
    first = account["api_key"]
    path = f"{PROJECTS}/{project}/service_accounts/{account['id']}"
    second = admin(made).post(f"{path}/api_keys", json={"name": "second", "scopes": ["files"]}).json()
    assert second["x_scopes"] == ["files"]
    assert made.client(second["value"]).get("/v1/files").status_code == 200
    assert made.client(second["value"]).get("/v1/models").status_code == 403
    listed = admin(made).get(f"{PROJECTS}/{project}/api_keys")
    shown = {key["id"]: key for key in listed.json()["data"]}
    assert set(shown) == {first["id"], second["id"]}
    for key in (first, second):
        redacted = shown[key["id"]]["redacted_value"]
        assert key["value"].startswith(redacted.rstrip("…")) and len(redacted) < 20
        assert key["value"] not in listed.text
        assert shown[key["id"]]["owner"]["service_account"]["id"] == account["id"]
    assert works(made, first["value"])
    assert admin(made).delete(path).json()["deleted"] is True
    assert stops_within(made, first["value"])
    assert admin(made).get(path).status_code == 404
    assert admin(made).get(f"{PROJECTS}/{project}/api_keys").json()["data"] == []


def test_a_key_is_revoked_by_its_project_s_path_only(made: House) -> None:
    project = new_project(made)
    key = new_account(made, project)["api_key"]
    assert admin(made).get(f"{PROJECTS}/default/api_keys/{key['id']}").status_code == 404
    assert admin(made).delete(f"{PROJECTS}/default/api_keys/{key['id']}").status_code == 404
    assert works(made, key["value"])
    path = f"{PROJECTS}/{project}/api_keys/{key['id']}"
    assert admin(made).get(path).json()["owner_project_access"] == "active"
    assert admin(made).delete(path).json()["deleted"] is True
    assert stops_within(made, key["value"])
    assert (admin(made).get(path).status_code, admin(made).delete(path).status_code) == (404, 404)


def test_a_key_ends_when_its_time_is_over(made: House) -> None:
    key = new_account(made, new_project(made), expires_in_seconds=1)["api_key"]
    assert works(made, key["value"])
    assert not works(made, key["value"]) or stops_within(made, key["value"], 2.0)


def test_an_account_without_a_key_has_none(made: House) -> None:
    project = new_project(made)
    account = new_account(made, project, create_service_account_only=True, x_role="admin")
    assert (account["api_key"], account["role"]) == (None, "owner")
    assert admin(made).get(f"{PROJECTS}/{project}/api_keys").json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"name": "two words"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_a_key_cannot_have_is_refused(made: House, fields: dict[str, Any], param: str) -> None:
    project = new_project(made)
    account = new_account(made, project)
    path = f"{PROJECTS}/{project}/service_accounts/{account['id']}/api_keys"
    reply = admin(made).post(path, json=fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    repeated = admin(made).post(path, json={}, headers={"idempotency-key": "k"})
    assert repeated.json()["error"]["code"] == "unsupported_parameter"


def test_an_operator_s_own_route_makes_a_key_of_an_account_with_limits(made: House) -> None:
    project = new_project(made)
    account = new_account(made, project, create_service_account_only=True)
    asked = {"name": "n", "project": "team", "account": account["id"], "scopes": ["inference"]}
    key = admin(made).post("/v1/x/keys", json=asked | {"limits": {"requests_per_minute": 7}}).json()
    assert (key["account"], key["scopes"], key["limits"]) == (
        account["id"],
        ["inference"],
        {"requests_per_minute": 7},
    )
    wrong = admin(made).post("/v1/x/keys", json=asked | {"role": "admin"})
    assert wrong.json()["error"]["param"] == "role"
    assert admin(made).post("/v1/x/keys", json=asked | {"project": "default"}).status_code == 404
    limits = admin(made).get(f"{PROJECTS}/{project}/rate_limits").json()["data"]
    assert [(one["id"], one["x_of"]) for one in limits] == [
        (f"rl_{project}", "project"),
        (f"rl_{key['id']}", "key"),
    ]
    assert limits[1]["max_requests_per_1_minute"] == 7


def last_used(made: House) -> float | None:
    with made.db.read() as conn:
        (row,) = [k for k in keys.list(conn, "default") if k.role == "member"]
        return row.last_used_at


def test_a_key_s_last_use_is_written_and_at_most_once_a_minute(made: House) -> None:
    before = time.time()
    assert works(made, made.member)
    first = until(lambda: last_used(made), "the use is written")
    assert before - 1 <= first <= time.time() + 1
    time.sleep(0.1)
    assert works(made, made.member)
    time.sleep(last_use.LOOK_EVERY_S * 1.5)
    assert last_used(made) == first


def test_control_with_no_minute_each_use_is_written(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_use, "WRITE_EVERY_S", 0.0)
    assert works(made, made.member)
    first = until(lambda: last_used(made), "the use is written")
    time.sleep(0.1)
    assert works(made, made.member)
    until(lambda: last_used(made) != first, "the second use is written too")


def test_the_last_use_before_an_end_is_not_lost(tmp_path: Path, database_url: str) -> None:
    with house(tmp_path, database_url=database_url) as made:
        assert works(made, made.member)
    assert last_used(made) is not None
    made.db.dispose()


def test_openai_s_own_package_administers(made: House) -> None:
    client = openai.OpenAI(
        base_url=f"{made.url}/v1", api_key="unused", admin_api_key=made.admin, max_retries=0
    )
    organization = client.admin.organization
    project = organization.projects.create(name="sdk")
    assert [p.id for p in organization.projects.list()][-1] == project.id
    account = organization.projects.service_accounts.create(project.id, name="robot", expires_in_seconds=3600)
    assert account.api_key is not None
    assert works(made, account.api_key.value)
    more = organization.projects.service_accounts.api_keys.create(
        account.id, project_id=project.id, name="more", scopes=["inference"]
    )
    found = [key.id for key in organization.projects.api_keys.list(project.id)]
    assert found == [account.api_key.id, more.id]
    (limit,) = organization.projects.rate_limits.list_rate_limits(project.id)
    changed = organization.projects.rate_limits.update_rate_limit(
        limit.id, project_id=project.id, max_requests_per_1_minute=5
    )
    assert changed.max_requests_per_1_minute == 5
    assert organization.projects.api_keys.delete(more.id, project_id=project.id).deleted
    assert organization.projects.service_accounts.delete(account.id, project_id=project.id).deleted
    assert organization.projects.archive(project.id).status == "archived"
    page = organization.usage.completions(start_time=0, group_by=["model"], limit=1)
    assert page.object == "page"
    acts = [entry.type for entry in organization.audit_logs.list(limit=3)]
    assert acts[0] == "project.archived" and len(acts) > 3
    client.close()
    member = openai.OpenAI(base_url=f"{made.url}/v1", api_key="x", admin_api_key=made.member, max_retries=0)
    with member, pytest.raises(openai.PermissionDeniedError):
        member.admin.organization.projects.list()
