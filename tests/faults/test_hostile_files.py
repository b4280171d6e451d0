"""Files that are not what they say, or far more than they say: refused with line and cure, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from inhouse import rows
from inhouse.errors import RowProblem
from inhouse.rows import parquet as unpacking
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
    "NaN": b'{"input": "a", "output": "b", "weight": NaN}\n',
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


def test_control_pythons_own_reader_takes_what_ours_refuses() -> None:
    """Fault 28, the control: half characters and numbers that are none go through, and break what comes behind."""
    half = json.loads(BAD_TEXT["lone surrogate"])["input"]
    with pytest.raises(UnicodeEncodeError):
        half.encode()
    assert json.loads(BAD_TEXT["NaN"])["weight"] != json.loads(BAD_TEXT["NaN"])["weight"]


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────

READ = "from inhouse import rows; import sys; print(*rows.check(sys.argv[1]).problems)"
SLURP = "import json, sys; file = open(sys.argv[1], 'rb'); print([json.loads(line) for line in file])"


@pytest.mark.parametrize("guarded", [True, False])
def test_one_line_of_gigabytes_is_one_problem_in_little_memory(tmp_path: Path, guarded: bool) -> None:
    """Fault 29: under RLIMIT_AS, with the line's number. The control reads lines as Python does."""
    file = tmp_path / "long.jsonl"
    with file.open("wb") as out:
        out.write(GOOD + b'{"input": "')
        out.truncate(2**30)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20,) * 2)\n"
    code = limit + (READ if guarded else SLURP)
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    if guarded:
        assert done.stdout.startswith("line 2: is longer than"), done.stderr
    else:
        assert "MemoryError" in done.stderr


# ── nothing to learn ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n\n  \n", "only blank lines"),
        (b"\xef\xbb\xbf", "only blank lines"),
        (b'{"messages": [{"role": "user", "content": "q"}]}\n', "no assistant message"),
        (
            b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}\n',
            "weight",
        ),
        (b'{"input": "q", "output": ""}\n', "empty"),
        (GOOD * 3, "the same"),
    ],
    ids=["blank", "a mark alone", "no reply", "no weight", "empty replies", "all equal"],
)
def test_a_file_that_teaches_nothing_fails_with_the_reason(made: House, content: bytes, said: str) -> None:
    """Fault 30: no compute is spent on it."""
    job = checked(made, content)
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_training_file")
    assert said in job["error"]["message"]


def test_one_row_is_little_but_it_is_something(made: House) -> None:
    """Fault 30, and its control: what can be learned is queued."""
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
