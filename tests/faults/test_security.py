"""What no tenant, file or address may reach: another's cache, a path, another machine, code."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from inhouse.engine import prefixes
from inhouse.errors import BadCheckpoint
from inhouse.model import weights
from inhouse.model.locate import locate
from inhouse.server.app import routes
from tests.engine.test_reliability_gateway import Whole, whole
from tests.engine.world import World
from tests.outward import sitecustomize
from tests.server.house import House, engine, house

LONG = "The plan for the second quarter, known to nobody else: "


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with whole(folder, World(folder / "world")) as made:
        yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0) as made, engine(made.db, folder):
        yield made


# ── another project's cache ───────────────────────────────────────────────────────────────────────────────


def found_computed(there: Whole, key: str, content: str) -> int:
    """Tokens of the prompt that an earlier request had computed."""
    reply = there.made.client(key).post("/v1/chat/completions", json=there.body(content, max_tokens=1)).json()
    cached: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached


@pytest.mark.parametrize("guarded", [True, False])
def test_what_one_project_asked_is_not_found_computed_by_another(
    there: Whole, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cached_tokens` of B's request is the same whether A asked the same or not. The control: one key for all."""
    if not guarded:
        root_key = prefixes.root_key
        monkeypatch.setattr(prefixes, "root_key", lambda base, project, *rest: root_key(base, "", *rest))
    mine, theirs, asked, other = (
        there.made.member,
        there.made.stranger,
        f"{guarded} {LONG}",
        f"{LONG[::-1]} {guarded}",
    )
    head = found_computed(there, theirs, other)  # the template's own beginning, from the second test on
    assert found_computed(there, mine, asked) <= head
    assert found_computed(there, mine, asked) >= 32, "its own is found"
    assert (found_computed(there, theirs, asked) <= head) is guarded
    assert found_computed(there, theirs, asked) >= 32


def test_a_page_s_key_is_a_whole_sha_256_of_fields_that_cannot_run_into_each_other() -> None:
    """A project called "a", with an adapter "bc", is not "ab" with "c"; no key is cut to fewer bits."""
    root_key = prefixes.root_key
    assert root_key("x", "a", "bc") != root_key("x", "ab", "c") != root_key("x", "a", None, "bc")
    assert root_key("x", None) != root_key("x", "null") and len(root_key("x")) == 32


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────

CLIMBING = ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
            "....//etc/passwd", "%00", "a%00/../b", "file:///etc/passwd", "\\..\\etc\\passwd", "~root"]  # fmt: skip


def test_no_name_in_an_address_is_ever_a_path(served: House) -> None:
    """Every route that takes one, asked for files of the system by an admin, knows no such thing."""
    app = served.server.config.app
    assert isinstance(app, FastAPI)
    named = sorted({r.path for r in routes(app) if "{" in getattr(r, "path", "")})  # type: ignore[attr-defined]
    assert len(named) > 10
    client = served.client(served.admin)
    for path in named:
        before, _, after = path.partition("{")
        for name in CLIMBING:
            reply = client.get(before + name + after.partition("}")[2].replace("{", "").replace("}", ""))
            assert reply.status_code in (400, 403, 404, 405), (path, name, reply.text)
            assert "root:" not in reply.text


def test_a_climbing_file_name_is_a_label_and_lands_nowhere(served: House) -> None:
    """Uploads are files named by their SHA-256; what they are called is shown, and never opened."""
    data = served.settings.data_dir
    outside = {p for p in data.parent.rglob("*") if not p.is_relative_to(data)}
    for name in CLIMBING[:1] + CLIMBING[3:5] + ["\u202egpj.exe", "x" * 200]:
        sent = {"file": (name, b'{"input": "a", "output": "b"}\n')}
        reply = served.client().post("/v1/files", data={"purpose": "fine-tune"}, files=sent)
        assert reply.status_code in (200, 400)
        if reply.status_code == 200:
            assert "/" not in reply.json()["filename"] and reply.json()["filename"] != ".."
    assert {p for p in data.parent.rglob("*") if not p.is_relative_to(data)} <= outside
    stored = [p.name for p in served.settings.artifacts_dir.rglob("*") if p.is_file()]
    assert stored and all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in stored)


# ── other machines ────────────────────────────────────────────────────────────────────────────────────────

ADDRESS = "http://192.0.2.1/secret.png"
FETCHING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions",
     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ADDRESS}}]}]}),
    ("/v1/chat/completions",
     {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_url": ADDRESS}}]}]}),
    ("/v1/responses",
     {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": ADDRESS}]}]}),
    ("/v1/responses",
     {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": ADDRESS}]}]}),
    ("/v1/responses",
     {"input": "a", "tools": [{"type": "mcp", "server_label": "x", "server_url": ADDRESS}]}),
    ("/v1/responses", {"input": "a", "tools": [{"type": "web_search"}]}),
    ("/v1/chat/completions",
     {"messages": [{"role": "user", "content": "a"}],
      "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": ADDRESS}}}}),
    ("/v1/fine_tuning/jobs", {"training_file": ADDRESS}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "fields"), FETCHING, ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_address_in_a_request_is_ever_fetched(
    there: Whole, path: str, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, by a gateway and an engine under watch; `server/test_outward.py` shows that the watch sees."""
    monkeypatch.setenv(sitecustomize.NOTES, str(tmp_path / "notes"))
    reply = there.made.client().post(path, json={"model": "seedling"} | fields)
    assert reply.status_code in (400, 404), reply.text
    assert not (tmp_path / "notes").exists()


def test_a_base_on_a_hub_is_the_one_thing_that_is_fetched_and_only_when_named(tmp_path: Path) -> None:
    """Neither a path nor an address is taken for an id of a hub."""
    for source in (
        ADDRESS,
        "//192.0.2.1/share",
        "file:///x",
        "owner/../name",
        "a/b/c",
        str(tmp_path / "none"),
    ):
        with pytest.raises(BadCheckpoint, match="neither a folder"):
            locate("x", source)


# ── caps ──────────────────────────────────────────────────────────────────────────────────────────────────

CHAT = {"model": "seedling", "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", CHAT | {"model": "x" * 513}, "model"),
        ("/v1/chat/completions", CHAT | {"messages": CHAT["messages"] * 10_001}, "messages"),
        ("/v1/chat/completions", CHAT | {"stop": ["a"] * 5}, "stop"),
        ("/v1/chat/completions", CHAT | {"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ("/v1/chat/completions", CHAT | {"metadata": {"k" * 65: ""}}, "metadata"),
        ("/v1/chat/completions", CHAT | {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ("/v1/completions", {"model": "seedling", "prompt": ["a"] * 129}, "prompt"),
        ("/v1/fine_tuning/jobs", {"model": "seedling", "training_file": "f", "suffix": "s" * 65}, "suffix"),
        ("/v1/fine_tuning/jobs", {"model": "seedling", "training_file": "f" * 129}, "training_file"),
        ("/v1/x/pins", {"model": "x" * 513}, "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_passes_a_cap_is_refused_by_the_field_s_name(
    served: House, path: str, fields: dict[str, Any], param: str
) -> None:
    reply = served.client(served.admin).post(path, json=fields)
    assert reply.status_code == 400 and (reply.json()["error"]["param"] or "").startswith(param), reply.text


def test_a_body_over_ten_mebibytes_goes_by_file(served: House) -> None:
    content = json.dumps(CHAT).encode().ljust(10 * 2**20 + 1)
    headers = {"content-type": "application/json"}
    reply = served.client().post("/v1/chat/completions", content=content, headers=headers)
    assert reply.status_code == 413


# ── bases ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("guarded", [True, False])
def test_a_header_of_too_many_tensors_is_refused(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,001 of them are within 8 MB. The control raises the number."""
    if not guarded:
        monkeypatch.setattr(weights, "MAX_TENSORS", 10**9)
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"{i:x}": entry for i in range(100_001)}, separators=(",", ":")).encode()
    assert len(header) < weights.MAX_HEADER_BYTES
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    if guarded:
        with pytest.raises(BadCheckpoint, match="100000 tensors"):
            weights.read_header(file)
    else:
        assert len(weights.read_header(file)) == 100_001


def test_no_secret_is_stored(served: House) -> None:
    """Keys are rows of hashes: a copy of the database opens nothing."""
    with served.db.read() as conn:
        rows = conn.exec_driver_sql("SELECT * FROM keys").fetchall()
    assert rows
    for secret in (served.admin, served.member, served.stranger):
        assert secret not in str(rows)
