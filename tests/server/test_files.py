from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest

from inhouse.store.records import files

from .house import House, house

ROWS = b'{"input": "a", "output": "b"}\n'


def upload(made: House, content: bytes = ROWS, name: str = "facts.jsonl", **data: str) -> httpx2.Response:
    fields = {"purpose": "fine-tune"} | data
    return made.client().post("/v1/files", data=fields, files={"file": (name, content)})


def test_a_file_comes_back_byte_for_byte(served: House) -> None:
    content = bytes(range(256)) * 5000
    file = upload(served, content, "Übersicht 1.jsonl").json()
    assert file["object"] == "file"
    assert file["bytes"] == len(content)
    assert file["filename"] == "Übersicht 1.jsonl"
    assert "expires_at" not in file
    client = served.client()
    assert client.get(f"/v1/files/{file['id']}").json() == file
    reply = client.get(f"/v1/files/{file['id']}/content")
    assert reply.content == content
    assert reply.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'


def test_a_name_is_shown_and_never_a_path(served: House) -> None:
    for name in ("../../etc/passwd", "..\\..\\evil\\passwd", "/etc/passwd"):
        assert upload(served, name=name).json()["filename"] == "passwd"


def test_a_deleted_file_is_gone_and_its_twin_stays(served: House) -> None:
    one, two = (upload(served).json()["id"] for _ in range(2))
    client = served.client()
    assert client.delete(f"/v1/files/{one}").json() == {"id": one, "object": "file", "deleted": True}
    assert client.get(f"/v1/files/{one}").status_code == 404
    assert client.get(f"/v1/files/{two}/content").content == ROWS


def test_lists_come_in_pieces_newest_first(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        made_ids = [upload(made, purpose=p).json()["id"] for p in ["fine-tune", "batch", "fine-tune"]]
        client = made.client()
        first = client.get("/v1/files", params={"limit": 2}).json()
        assert [f["id"] for f in first["data"]] == made_ids[:0:-1]
        assert (first["has_more"], first["first_id"], first["last_id"]) == (True, made_ids[2], made_ids[1])
        rest = client.get("/v1/files", params={"after": first["last_id"]}).json()
        assert ([f["id"] for f in rest["data"]], rest["has_more"]) == ([made_ids[0]], False)
        assert len(client.get("/v1/files", params={"purpose": "batch"}).json()["data"]) == 1
        for query in ({"limit": "0"}, {"limit": "x"}, {"order": "up"}, {"colour": "red"}):
            assert client.get("/v1/files", params=query).status_code == 400


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({}, {"file": ("f", ROWS)}, "purpose"),
        ({"purpose": "assistants"}, {"file": ("f", ROWS)}, "purpose"),
        ({"purpose": "fine-tune-results"}, {"file": ("f", ROWS)}, "purpose"),
        ({"purpose": "fine-tune"}, {"other": ("f", ROWS)}, "other"),
        ({"purpose": "fine-tune"}, {"file": ("f", b"")}, "file"),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "created_at"},
            {"file": ("f", ROWS)},
            "expires_after[seconds]",
        ),
        (
            {"purpose": "fine-tune", "expires_after[seconds]": "3600"},
            {"file": ("f", ROWS)},
            "expires_after[anchor]",
        ),
        *(
            (
                {
                    "purpose": "fine-tune",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": seconds,
                },
                {"file": ("f", ROWS)},
                "expires_after[seconds]",
            )
            for seconds in ("3599", "2592001", "-1", "many", "99999999999999", "")
        ),
        ({"purpose": "fine-tune", "file": "text"}, {"more": ("f", ROWS)}, "file"),
    ],
)
def test_a_form_that_lacks_or_exceeds_is_refused_by_name(
    served: House, data: dict[str, str], files: dict[str, tuple[str, bytes]], param: str
) -> None:
    reply = served.client().post("/v1/files", data=data, files=files)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("cut", [1, 30, -1, -4])
def test_a_form_cut_short_is_refused_and_leaves_nothing(served: House, cut: int) -> None:
    form = (
        b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--B\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nrows\r\n--B--\r\n'
    )
    kind = {"content-type": "multipart/form-data; boundary=B"}
    client = served.client()
    before = len(client.get("/v1/files").json()["data"])
    assert client.post("/v1/files", content=form, headers=kind).status_code == 200
    assert (
        client.post("/v1/files", content=form[: cut - 2 if cut < 0 else cut], headers=kind).status_code == 400
    )
    assert len(client.get("/v1/files").json()["data"]) == before + 1


def test_a_file_over_the_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    with house(tmp_path, max_file_bytes=100_000) as made:
        assert upload(made, b"x" * 100_001).status_code == 413
        assert upload(made, b"x" * 3_000_000).status_code == 413
        artifacts = made.settings.artifacts_dir
        assert [p for p in artifacts.rglob("*") if p.is_file()] == []
        assert upload(made, b"x" * 100_000).status_code == 200


def test_the_same_key_gives_the_same_file_and_another_body_is_refused(served: House) -> None:
    client = served.client()

    def send(content: bytes, key: str) -> httpx2.Response:
        headers = {"idempotency-key": key}
        return client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("f.jsonl", content)}, headers=headers
        )

    first, again = send(ROWS, "upload-1"), send(ROWS, "upload-1")
    assert first.json() == again.json()
    assert again.headers["x-idempotent-replay"] == "true"
    assert send(ROWS + ROWS, "upload-1").status_code == 422
    assert send(ROWS, "upload-2").json()["id"] != first.json()["id"]


def test_a_file_that_expires_is_gone_when_its_time_is_over(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        client = made.client()
        fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        file, kept = upload(made, **fields).json(), upload(made).json()
        assert file["expires_at"] == file["created_at"] + 3600
        assert client.get(f"/v1/files/{file['id']}").json() == file
        with made.db.write() as conn:
            conn.exec_driver_sql("UPDATE files SET expires_at = expires_at - 3601 WHERE expires_at > 0")
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert client.request(method, f"/v1/files/{file['id']}{path}").status_code == 404
        job = {"model": "seedling", "training_file": file["id"]}
        assert client.post("/v1/fine_tuning/jobs", json=job).status_code == 404
        assert [f["id"] for f in client.get("/v1/files").json()["data"]] == [kept["id"]]
        with made.db.write() as conn:
            assert (files.sweep(conn), files.sweep(conn)) == (1, 0)
        assert client.get(f"/v1/files/{kept['id']}").json() == kept


def test_a_part_of_a_file_may_be_read(served: House) -> None:
    content = bytes(range(256)) * 40
    path = f"/v1/files/{upload(served, content).json()['id']}/content"
    client = served.client()
    part = client.get(path, headers={"range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, content[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(content)}"
    assert client.get(path, headers={"range": "bytes=-10"}).content == content[-10:]
    for outside in (f"bytes={len(content)}-", "bytes=-0", "bytes=9-3"):
        beyond = client.get(path, headers={"range": outside})
        assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    for meant_otherwise in ("bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=x-y"):
        whole = client.get(path, headers={"range": meant_otherwise})
        assert (whole.status_code, whole.content) == (200, content)
    changed = client.get(path, headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, content)


@pytest.mark.parametrize("purpose", ["fine-tune", "batch", "user_data", "evals"])
def test_every_purpose_that_is_taken_is_shown_and_listed(served: House, purpose: str) -> None:
    file = upload(served, purpose=purpose).json()
    assert file["purpose"] == purpose
    listed = served.client().get("/v1/files", params={"purpose": purpose, "order": "asc"}).json()["data"]
    assert file in listed and {f["purpose"] for f in listed} == {purpose}
    assert listed == sorted(listed, key=lambda f: f["created_at"])


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"--B--", 415),
        ("multipart/form-data; boundary=B", b"", 400),
        ("multipart/form-data; boundary=B", b"no form at all", 400),
        ("multipart/form-data; boundary=B", b"--B\r\ncontent-disposition: form-data\r\n\r\nx\r\n--B--", 400),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n\xff\r\n--B--',
            400,
        ),
    ],
)
def test_a_form_that_is_none_is_refused(served: House, kind: str, content: bytes, status: int) -> None:
    reply = served.client().post("/v1/files", content=content, headers={"content-type": kind})
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
