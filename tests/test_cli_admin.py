"""`inhouse keys|projects|usage|audit` against a running server, and the same in Python."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import inhouse
from inhouse.cli import commands as cli
from inhouse.cli.usage import _harmless
from inhouse.client.client import Client
from inhouse.errors import Conflict, NotFound, PermissionDenied
from inhouse.store.records import usage
from inhouse.store.records.usage import UsageRow
from tests.client import conftest as shared
from tests.server.house import House, house
from tests.test_cli import inhouse as run
from tests.test_cli import lines

bare_environment = shared.bare_environment

DAY = 86_400


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with house(tmp_path / "house") as made:
        monkeypatch.setenv("INHOUSE_URL", made.url)
        monkeypatch.setenv("INHOUSE_API_KEY", made.admin)
        yield made


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write tables, as wide as they like."""
    from rich.console import Console

    for name in ("keys", "projects", "usage", "audit", "terminal"):
        module = __import__(f"inhouse.cli.{name}", fromlist=["x"])
        if hasattr(module, "speaks_json"):
            monkeypatch.setattr(module, "speaks_json", lambda as_json: as_json)
    from inhouse.cli import terminal

    monkeypatch.setattr(terminal, "out", Console(width=300))


def works(made: House, secret: str) -> bool:
    return made.client(secret).get("/v1/models").status_code == 200


def test_a_key_is_made_used_listed_and_revoked(there: House) -> None:
    mistyped = run("keys", "create", "ci", "--project", "team", code=1)
    assert (
        "inhouse projects create team" in mistyped.stderr and '"team"' not in run("projects", "list").stdout
    )
    run("projects", "create", "team")
    made = lines(
        run(
            *("keys", "create", "ci", "--project", "team", "--scope", "inference", "--scope", "models.read"),
            *("--expires", "30d", "--requests-per-minute", "9"),
        )
    )[0]
    assert (made["scopes"], made["project_name"]) == (["models.read", "inference"], "team")
    assert made["limits"] == {"requests_per_minute": 9}
    assert abs(made["expires_at"] - time.time() - 30 * DAY) < 60
    assert works(there, made["secret"])
    listed = {key["id"]: key for key in lines(run("keys", "list"))}
    assert listed[made["id"]]["state"] == "active"
    assert made["secret"] not in run("keys", "list", "--all").output
    by_name = run("keys", "revoke", "ci", code=1)
    assert f"inhouse keys revoke {made['id']}" in by_name.stderr and works(there, made["secret"])
    run("keys", "revoke", made["id"])
    assert not works(there, made["secret"])
    assert made["id"] not in run("keys", "list").output
    assert {k["id"]: k["state"] for k in lines(run("keys", "list", "--all"))}[made["id"]] == "revoked"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "create", "n", "--scope", "everything"), "everything"),
        (("keys", "create", "n", "--expires", "soon"), "12h, 30d or 8w"),
        (("keys", "create", "n", "--role", "king"), "member, admin"),
        (("keys", "revoke", "key_none"), "There is no key"),
        (("projects", "limits", "nobody"), "There is no project"),
        (("usage", "--by", "colour"), "day, project, key, model"),
        (("usage", "--since", "yesterday"), "2027-01-31"),
        (("audit", "verify", "none.jsonl"), "There is no file"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_cure(there: House, words: tuple[str, ...], said: str) -> None:
    result = run(*words, code=1)
    assert said in result.stderr and "Traceback" not in result.output


def test_a_project_is_made_limited_and_archived(there: House) -> None:
    assert lines(run("projects", "create", "team"))[0]["name"] == "team"
    held = lines(run("projects", "limits", "team", "--requests-per-minute", "9", "--tokens-per-month", "700"))
    assert held == [
        {
            "requests_per_minute": 9,
            "tokens_per_minute": None,
            "concurrent_requests": None,
            "tokens_per_month": 700,
        }
    ]
    assert lines(run("projects", "limits", "team")) == held
    assert (
        lines(run("projects", "limits", "team", "--requests-per-minute", "0"))[0]["requests_per_minute"]
        is None
    )
    run("projects", "archive", "team")
    assert "team" not in run("projects", "list").output
    assert [p["name"] for p in lines(run("projects", "list", "--all"))] == ["default", "other", "team"]


def remember_use(made: House) -> None:
    today = time.time() // DAY * DAY
    with made.db.write() as conn:
        rows = [
            ("default", "key_a", "seedling", 10, 1, today + 5),
            ("default", "key_a", "=1+1", 20, 2, today + 5),
            ("default", "key_b", "seedling", 40, 4, today - 3 * DAY + 9),
            ("other", "key_c", "seedling", 80, 8, today - 400 * DAY),
        ]
        usage.add_many(
            conn, [UsageRow(p, k, m, f"r{i}", a, b, at) for i, (p, k, m, a, b, at) in enumerate(rows)]
        )


def test_usage_is_told_apart_as_asked(there: House) -> None:
    remember_use(there)
    assert [
        (r["project"], r["input_tokens"], r["output_tokens"]) for r in lines(run("usage", "--by", "project"))
    ] == [("default", 70, 7)]
    by_day = lines(run("usage", "--by", "day,key"))
    days = [datetime.fromtimestamp(time.time() - back * DAY, UTC).date().isoformat() for back in (3, 0)]
    assert [(r["day"], r["key"], r["input_tokens"]) for r in by_day] == [
        (days[0], "key_b", 40),
        (days[1], "key_a", 30),
    ]
    past = datetime.fromtimestamp(time.time() - 401 * DAY, UTC).date().isoformat()
    assert [r["requests"] for r in lines(run("usage", "--by", "", "--since", past))] == [4]
    assert [
        r["project"] for r in lines(run("usage", "--by", "project", "--since", past, "--until", past))
    ] == []
    with there.db.write() as conn:
        embedded = UsageRow("default", "key_a", "seedling", "r9", 500, 0, time.time(), kind="embeddings")
        usage.add_many(conn, [embedded])
    every = (
        run("usage", "--by", "", *kind) for kind in ((), ("--kind", "completions"), ("--kind", "embeddings"))
    )
    assert [lines(said)[0]["input_tokens"] for said in every] == [570, 70, 500]
    backwards = run("usage", "--since", "2027-02-01", "--until", "2027-01-31", code=1)
    assert "--since 2027-02-01 is after --until 2027-01-31" in backwards.stderr


def test_usage_as_csv_is_read_back_and_holds_no_formula(there: House) -> None:
    remember_use(there)
    found = list(csv.DictReader(io.StringIO(run("usage", "--by", "model", "--csv").stdout)))
    assert {row["model"]: int(row["input_tokens"]) for row in found} == {"'=1+1": 20, "seedling": 50}
    assert [_harmless(x) for x in ("@a", "a@", 3)] == ["'@a", "a@", 3]


def test_tables_are_for_people(there: House, on_a_terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    remember_use(there)
    for words, expected in (
        (["usage", "--by", "project,model"], ["default", "all", "70"]),
        (["keys", "list"], ["admin", "member", "models.read", "active"]),
        (["projects", "list"], ["default", "other", "active"]),
        (
            ["projects", "limits", "default", "--tokens-per-minute", "5000"],
            ["tokens per minute", "5,000", "none"],
        ),
        (["audit", "list"], ["rate_limit.updated", "default"]),
        (["audit", "verify"], ["acts are what was written", "Head: "]),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.app(words)
        text = capsys.readouterr().out
        assert ended.value.code == 0
        assert [word for word in expected if word not in text] == [], text


def test_on_a_narrow_terminal_each_cell_has_a_line(
    there: House, on_a_terminal: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from inhouse.cli import terminal

    monkeypatch.setattr(terminal, "out", Console(width=60))
    with pytest.raises(SystemExit):
        cli.app(["keys", "list"])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["role", "admin"] in said and ["project", "default"] in said
    assert [line for line in said if line[:1] == ["ends"]] == []  # what is empty takes no line


def test_words_that_are_no_act_and_no_backup_are_told(there: House, tmp_path: Path) -> None:
    assert "api_key.created" in run("audit", "list", "--type", "key.created", code=1).stderr
    assert "noted must be a head" in run("audit", "verify", "--noted", "5:abcd", code=1).stderr
    assert "There is no folder" in run("audit", "export", "--out", str(tmp_path / "no" / "x"), code=1).stderr
    for name in ("x.zip", "x.tar.gz", "x.TGZ"):
        refused = run("backup", str(tmp_path / name), code=1).stderr
        assert f"{tmp_path / 'x.tar'}," in refused and not [*tmp_path.glob("x*")]


def test_the_audit_log_is_listed_verified_and_exported(there: House, tmp_path: Path) -> None:
    run("projects", "create", "team")
    key = lines(run("keys", "create", "ci", "--project", "team"))[0]
    run("keys", "revoke", key["id"])
    acts = lines(run("audit", "list"))
    assert [act["type"] for act in acts[:4]] == [
        "api_key.deleted",
        "api_key.created",
        "service_account.created",
        "project.created",
    ]
    assert [act["type"] for act in lines(run("audit", "list", "--target", key["id"]))] == [
        "api_key.deleted",
        "api_key.created",
    ]
    assert len(lines(run("audit", "list", "--project", "team", "--limit", "2"))) == 2
    assert [a["type"] for a in lines(run("audit", "list", "--type", "project.created"))] == [
        "project.created"
    ]
    verdict = lines(run("audit", "verify"))[0]
    assert (verdict["intact"], verdict["acts"]) == (True, len(acts))
    file = tmp_path / "audit.jsonl"
    assert lines(run("audit", "export", "--out", str(file)))[0]["head"] == verdict["head"]
    run("audit", "export", "--out", str(file), code=1)
    run("projects", "create", "later")
    assert lines(run("audit", "verify", "--noted", verdict["head"]))[0]["intact"] is True
    forged = verdict["head"].replace(verdict["head"][-1], "0" if verdict["head"][-1] != "0" else "1")
    assert lines(run("audit", "verify", "--noted", forged, code=1))[0]["intact"] is False


def exported(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    for name in ("a", "b", "c"):
        run("projects", "create", name)
    file = tmp_path / "audit.jsonl"
    run("audit", "export", "--out", str(file), "--force")
    return file, [json.loads(line) for line in file.read_text().splitlines()]


def test_an_exported_log_is_verified_without_a_server(
    there: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, acts = exported(tmp_path)
    monkeypatch.setenv("INHOUSE_URL", "http://127.0.0.1:1")
    head = f"{acts[-1]['seq']}:{acts[-1]['hash']}"
    assert lines(run("audit", "verify", str(file), "--noted", head))[0]["intact"] is True

    def verdict(changed: list[dict[str, Any]]) -> list[int]:
        file.write_text("".join(json.dumps(act) + "\n" for act in changed))
        return [one["seq"] for one in lines(run("audit", "verify", str(file), code=1))[0]["breaks"]]

    assert verdict([acts[0], acts[1] | {"target": "proj_x"}, *acts[2:]]) == [2]
    assert verdict([acts[0], *acts[2:]]) == [2]
    assert verdict([*acts[:-2], acts[-1]]) == [acts[-1]["seq"]]
    for broken in ("", "{}\n", "no json\n", json.dumps(acts[0]) + "\n"):
        file.write_text(broken)
        result = run("audit", "verify", str(file), code=1)
        assert str(file) in result.stderr.replace("\n", "")


def test_python_does_the_same(there: House, tmp_path: Path) -> None:
    with Client(there.url, there.admin) as client:
        admin = client.admin
        project = admin.create_project("team")
        with pytest.raises(Conflict):
            admin.create_project("team")
        made = admin.create_key("ci", project="team", scopes=["models.read"], tokens_per_minute=50)
        assert works(there, made.secret) and made.key in admin.api_keys()
        assert admin.set_limits("team", concurrent_requests=3)["concurrent_requests"] == 3
        assert admin.limits(project.id) == {**admin.limits("team"), "requests_per_minute": None}
        assert admin.archive_project("team").archived_at is not None
        assert admin.project("team").archived_at is not None
        with pytest.raises(NotFound):
            admin.project("nobody")
        assert admin.usage(since=0) == []
        assert next(admin.audit())["type"] == "project.archived"
        assert admin.verify_audit(admin.export_audit(tmp_path / "log")).intact
        assert client.create_key("old") != client.create_key("old")
    with Client(there.url, there.member) as member, pytest.raises(PermissionDenied):
        member.admin.api_keys()
    assert inhouse.Client is Client
