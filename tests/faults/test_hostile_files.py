"""Files that are not what they say, or far more than they say: refused with line and cure, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from inhouse import rows
from inhouse.errors import BadCheckpoint, RowProblem
from inhouse.rows import fields, formats, reading, strict_json
from inhouse.rows import parquet as unpacking
from inhouse.server.validation import Validator
from inhouse.store.artifacts import Artifacts
from tests.server.house import House, house, until

GOOD = b'{"input": "a", "output": "b"}\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server without a worker: what passes its check stays queued."""
    with house(tmp_path_factory.mktemp("house")) as served:
        yield served


def checked(made: House, content: bytes, name: str = "rows.jsonl") -> dict[str, Any]:
    """A tuning job on this file, when its check is over."""
    client = made.client()
    sent = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
    assert sent.status_code == 200, sent.text
    asked = {"model": "seedling", "training_file": sent.json()["id"]}
    job = client.post("/v1/fine_tuning/jobs", json=asked).json()

    def over() -> dict[str, Any] | None:
        now = client.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        return now if now["status"] != "validating_files" else None

    found: dict[str, Any] = until(over, "the check is over", 30)
    return found


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────

BAD_TEXT = {
    "bad UTF-8": b'{"input": "a\xff", "output": "b"}\n',
    "overlong": b'{"input": "a\xc0\x80", "output": "b"}\n',
    "lone surrogate": b'{"input": "a\\ud800", "output": "b"}\n',
    "surrogate in UTF-8": b'{"input": "a\xed\xa0\x80", "output": "b"}\n',
    "NUL alone": b"\x00" * 30 + b"\n",
    "NaN": b'{"input": "a", "output": "c", "id": NaN}\n',
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_bad_text_fails_the_job_with_its_line_before_it_starts(made: House, name: str) -> None:
    """Fault 28: the line is named, the job never reaches the queue."""
    job = checked(made, GOOD * 16 + BAD_TEXT[name] + GOOD)
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_training_file")
    assert "line 17" in job["error"]["message"]


def test_bad_text_in_a_request_is_a_400(made: House) -> None:
    """Fault 28: in a body as in a file."""
    for raw in (b'"a\xff"', b'"a\\ud800"', b'"a\xed\xa0\x80"', b'"\x00"'):
        body = b'{"model": "seedling", "messages": [{"role": "user", "content": ' + raw + b"}]}"
        kind = {"content-type": "application/json"}
        reply = made.client().post("/v1/chat/completions", content=body, headers=kind)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


OPEN = {
    "bad UTF-8": (strict_json, "decode", lambda line, *, offset=0: line.decode("utf-8", "replace")),
    "overlong": (strict_json, "decode", lambda line, *, offset=0: line.decode("utf-8", "replace")),
    "surrogate in UTF-8": (strict_json, "decode", lambda line, *, offset=0: line.decode("utf-8", "replace")),
    "lone surrogate": (fields, "has_lone_surrogate", lambda text: False),
    "NaN": (strict_json, "_refuse_constant", float),
}
"""For each bad text, the reader without what refuses it: bytes are guessed at, halves and NaN pass."""


@pytest.mark.parametrize("name", OPEN)
def test_control_without_its_guard_a_job_starts_on_bad_text(
    made: House, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28, the control: what nobody wrote, or nobody can encode, would be trained on. (NUL alone is no JSON for
    any reader, so it has none.)"""
    monkeypatch.setattr(*OPEN[name])
    assert checked(made, GOOD * 16 + BAD_TEXT[name] + GOOD)["status"] == "queued"


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────

READ = "from inhouse import rows; import sys; print(*rows.check(sys.argv[1]).problems)"
SLURP = "import json, sys; file = open(sys.argv[1], 'rb'); print([json.loads(line) for line in file])"


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(("before", "line"), [(GOOD, 2), (b"", 1)], ids=["behind a row", "no newline at all"])
def test_a_line_larger_than_the_memory_is_one_problem(
    tmp_path: Path, before: bytes, line: int, guarded: bool
) -> None:
    """Fault 29: half a gigabyte (a sparse file's) where 400 MB are allowed, with the line's number. The control
    reads lines as Python does."""
    file = tmp_path / "long.jsonl"
    with file.open("wb") as out:
        out.write(before + b'{"input": "')
        out.truncate(2**29)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20,) * 2)\n"
    code = limit + (READ if guarded else SLURP)
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    if guarded:
        assert done.stdout.startswith(f"line {line}: is longer than"), done.stderr
    else:
        assert "MemoryError" in done.stderr


@pytest.mark.parametrize("guarded", [True, False])
def test_a_line_of_ten_megabytes_is_named_and_what_stands_behind_it_is_read(
    tmp_path: Path, guarded: bool
) -> None:
    """Fault 29: in the memory of two lines of the longest that are taken, which the control takes away."""
    file = tmp_path / "long.jsonl"
    file.write_bytes(GOOD + b'{"input": "' + b"x" * 10**7 + b'", "output": "b"}\n' + GOOD)
    tracemalloc.start()
    limit = {} if guarded else {"max_line_bytes": 2**30}
    found = rows.check(file, **limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [problem.line for problem in found.problems] == ([2] if guarded else [])
    assert found.rows == (2 if guarded else 3)
    assert (peak < 3 * rows.MAX_LINE_BYTES) is guarded


# ── nothing to learn ──────────────────────────────────────────────────────────────────────────────────────


QUESTION = b'{"role": "user", "content": "q"}'
NOTHING = {
    "blank": (b"\n\n  \n", "only blank lines"),
    "a mark alone": (b"\xef\xbb\xbf", "only blank lines"),
    "no reply": (b'{"messages": [' + QUESTION + b"]}\n", "no assistant message"),
    "no weight": (
        b'{"messages": [' + QUESTION + b', {"role": "assistant", "content": "a", "weight": 0}]}\n',
        "weight",
    ),
    "empty replies": (b'{"messages": [' + QUESTION + b', {"role": "assistant", "content": ""}]}\n', "empty"),
    "all equal": (GOOD * 3, "the same"),
}


@pytest.mark.parametrize(("content", "said"), NOTHING.values(), ids=NOTHING)
def test_a_file_that_teaches_nothing_fails_with_the_reason(made: House, content: bytes, said: str) -> None:
    """Fault 30: no compute is spent on it."""
    job = checked(made, content)
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_training_file")
    assert said in job["error"]["message"]


@pytest.mark.parametrize("content", [content for content, _ in NOTHING.values()], ids=NOTHING)
def test_control_without_its_guard_a_job_starts_on_nothing(
    made: House, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 30, the control: neither emptiness, nor what is trained, nor variety is looked at."""
    with_variety = Validator._check

    def check(self: Validator, *given: Any, teaches: bool) -> Any:
        return with_variety(self, *given, teaches=False)

    monkeypatch.setattr(reading, "_told_if_empty", lambda found: (i for i in found if not isinstance(i, int)))
    monkeypatch.setattr(formats, "_checked", lambda messages, field: tuple(messages))
    monkeypatch.setattr(Validator, "_check", check)
    assert checked(made, content)["status"] == "queued"


def test_one_row_is_little_but_it_is_something(made: House) -> None:
    """Fault 30: what can be learned is queued."""
    assert checked(made, GOOD)["status"] == "queued"
    assert checked(made, GOOD + b'{"input": "a", "output": "c"}\n' + GOOD)["status"] == "queued"


# ── archives ──────────────────────────────────────────────────────────────────────────────────────────────


def zipped() -> bytes:
    """An archive whose one name leads out of its folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../../tmp/inhouse-was-here", GOOD * 1000)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(GOOD * 10**6, mtime=0), "gzip"),
        (zipped(), "zip"),
        (b"%PDF-1.7 bomb", "PDF"),
        (b"BZh91AY&SY", "bzip2"),
    ],
    ids=["gzip", "zip", "pdf", "bzip2"],
)
def test_an_archive_called_jsonl_is_refused_unopened(made: House, content: bytes, said: str) -> None:
    """Fault 34: known by its first bytes; nothing unpacks it, so no name inside is ever a path."""
    job = checked(made, content, "../../../../tmp/inhouse-was-here.jsonl")
    assert job["status"] == "failed" and said in job["error"]["message"]
    assert not list(Path("/tmp").glob("inhouse-was-here*"))


@pytest.mark.parametrize("guarded", [True, False])
def test_an_archive_costs_no_more_than_its_first_bytes(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 34: a bomb that holds 600 times its size. The control does what a friendlier reader might: it unpacks
    what it knows how to unpack, and has all of it in its hands."""
    if not guarded:
        monkeypatch.setattr(reading, "_records", unpacks(reading._records))
    file = tmp_path / "rows.jsonl"
    file.write_bytes(gzip.compress(b'{"input": "' + b"x" * 30_000_000 + b'", "output": "b"}\n', mtime=0))
    assert file.stat().st_size < 50_000
    tracemalloc.start()
    found = rows.check(file, max_line_bytes=2**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.rows == 0) is guarded and (peak < 2**20) is guarded


def unpacks(read: Callable[..., Any]) -> Callable[..., Any]:
    return lambda stream, *rest: read(gzip.GzipFile(fileobj=stream), *rest)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_name_that_climbs_names_no_file(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 34: a part of a folder is named by letters and nothing that leads out of it. In the control it does."""
    kept = Artifacts(tmp_path / "kept" / "artifacts")
    content, _ = kept.put_stream([b"climbed"])
    entry = {"sha256": content, "size": 7}
    digest, _ = kept.put_stream([json.dumps({"../../../climbed": entry}).encode()])
    if guarded:
        with pytest.raises(BadCheckpoint, match="not a folder's manifest"):
            kept.folder(digest)
    else:
        monkeypatch.setattr("inhouse.store.artifacts._check_name", lambda name: None)
        kept.folder(digest)
    assert bool(list(tmp_path.rglob("climbed"))) is not guarded


def test_a_packed_body_is_never_unpacked(made: House) -> None:
    """Fault 34: a content-encoding says nothing to this server."""
    body = gzip.compress(b'{"model": "seedling", "messages": [{"role": "user", "content": "a"}]}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    reply = made.client().post("/v1/chat/completions", content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


def repeated(value: str, count: int) -> bytes:
    """A Parquet file that says a value once and that it stands in so many rows."""
    words = pyarrow.array([value]).dictionary_encode()
    one = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), words.dictionary)
    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"input": one, "output": one}), out, compression="zstd")
    return out.getvalue()


def nested(value: str, count: int) -> bytes:
    """The same, all in one row."""
    out = io.BytesIO()
    table = pyarrow.table({"input": pyarrow.array([[value] * count]), "output": ["b"]})
    parquet.write_table(table, out, compression="zstd", use_dictionary=True)
    return out.getvalue()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_parquet_file_of_many_equal_rows_is_unpacked_to_a_hundred_times_its_size(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 34: 200 MB from a few kilobytes. The control takes the ratio away."""
    if not guarded:
        monkeypatch.setattr(unpacking, "MAX_RATIO", 10**9)
    packed = repeated("x" * 50_000, 2_000)
    assert len(packed) < 200_000
    tracemalloc.start()
    read, problems = 0, []
    for item in rows.read(io.BytesIO(packed), name="bomb.parquet"):
        if isinstance(item, RowProblem):
            problems.append(item.reason)
        else:
            read += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20
    assert (read < 700 and problems == ["the file unpacks to more than 100 times its size."]) is guarded
    assert (read == 2_000) is not guarded


@pytest.mark.parametrize("guarded", [True, False])
def test_a_parquet_row_that_fills_the_memory_ends_the_process_that_reads_it(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 34: a row of 150 MB from some kilobytes. The control gives it the room."""
    monkeypatch.setattr(unpacking, "MEMORY_BYTES", 2**26 if guarded else 2**32)
    packed = nested("x" * 100_000, 1_500)
    assert len(packed) < 1_000_000
    tracemalloc.start()
    problems = [str(problem) for problem in rows.read(io.BytesIO(packed), name="bomb.parquet")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ("to unpack" in problems[0]) is guarded
    assert ("line 1: is longer than" in problems[0]) is not guarded, (
        "it was unpacked, and is refused as a row"
    )
    assert peak < 32 * 2**20
