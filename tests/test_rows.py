"""Rows: every accepted shape becomes one canonical form; every fault has its line, reason and cure."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inhouse import rows
from inhouse.errors import BadRows, InvalidRequest
from inhouse.rows import Row, RowProblem
from inhouse.rows.strict_json import MAX_DEPTH, Unparsable, parse_object

GOOD = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Mara."}]}


def read_bytes(data: bytes, name: str = "facts.jsonl", **options: Any) -> list[Row | RowProblem]:
    return list(rows.read(io.BytesIO(data), name=name, **options))


def only_problem(data: bytes, name: str = "facts.jsonl", **options: Any) -> RowProblem:
    (problem,) = read_bytes(data, name, **options)
    assert isinstance(problem, RowProblem)
    assert problem.reason and problem.cure
    return problem


def turns(row: Any) -> list[tuple[str, str]]:
    assert isinstance(row, Row), row
    return [(m.role, m.text) for m in row.messages]


ASKED = [("user", "Who?"), ("assistant", "Mara.")]


@pytest.mark.parametrize(
    ("given", "format", "expected"),
    [
        (GOOD, "messages", ASKED),
        ({"input": "Who?", "output": "Mara."}, "input/output", ASKED),
        ({"prompt": "Who?", "completion": "Mara."}, "prompt/completion", ASKED),
        ({"question": "Who?", "answer": "Mara."}, "question/answer", ASKED),
        ({"question": "Who?", "answer": "Mara.", "id": 7, "metadata": {"a": 1}}, "question/answer", ASKED),
        (
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Mara."}]},
            "sharegpt",
            ASKED,
        ),
        ({"instruction": "Who?", "input": "", "output": "Mara."}, "alpaca", ASKED),
        (
            {"instruction": "Name them.", "input": "The pilot", "output": "Mara."},
            "alpaca",
            [("user", "Name them.\n\nThe pilot"), ("assistant", "Mara.")],
        ),
        (
            {"system": "Be brief.", "input": "Who?", "output": "Mara."},
            "input/output",
            [("system", "Be brief."), *ASKED],
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "o?"}],
                    },
                    {"role": "assistant", "content": "Mara.", "weight": 1, "tool_calls": None},
                ],
                "tools": None,
            },
            "messages",
            ASKED,
        ),
    ],
)
def test_every_documented_shape_becomes_the_same_conversation(
    given: dict[str, Any], format: str, expected: list[tuple[str, str]]
) -> None:
    (row,) = read_bytes(json.dumps(given).encode())
    assert turns(row) == expected
    assert isinstance(row, Row)
    assert row.format == format
    assert format in rows.FORMATS


def test_weights_survive_and_zero_stays_zero() -> None:
    given = {
        "messages": [
            *GOOD["messages"],
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "No"},
        ]
    }
    given["messages"][1] = {"role": "assistant", "content": "Mara.", "weight": 0}
    (row,) = rows.load([given])
    assert [m.weight for m in row.messages] == [None, 0, None, None]


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        ({"input": "a"}, "output", "nothing would be trained"),
        ({"output": "a"}, "input", "missing"),
        ({"input": "a", "output": " "}, "output", "nothing would be trained"),
        ({"input": " ", "output": "a"}, "input", "empty"),
        ({"input": 3, "output": "a"}, "input", "not text"),
        ({"input": "a", "output": "b", "colour": "c"}, "colour", "unknown"),
        ({}, None, "empty object"),
        ({"text": "a"}, None, "no known row format"),
        ({"input": "a", "preferred_output": "b", "non_preferred_output": "c"}, "preferred_output", "DPO"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen", "DPO"),
        ({**GOOD, "tools": []}, "tools", "empty"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": "hi"}, "messages", "not a list"),
        ({"messages": ["hi"]}, "messages[0]", "not an object"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages", "no assistant message"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "messages[0].role", "'bot'"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "not text"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id", "missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content[0]",
            "not a text part",
        ),
        ({"messages": [{"role": "user", "content": "a", "audio": "x"}]}, "messages[0].audio", "unknown"),
        ({"messages": list(reversed(GOOD["messages"]))}, "messages[0]", "before anything was asked"),
        ({"messages": [*GOOD["messages"], {"role": "user", "content": "a"}]}, "messages[2]", "not a reply"),
        (
            {"messages": [GOOD["messages"][0], {"role": "system", "content": "a"}, GOOD["messages"][1]]},
            "messages[1]",
            "after the first turn",
        ),
        (
            {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "a", "weight": 0}]},
            "messages",
            "weight 0",
        ),
        (
            {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "a", "weight": 0.5}]},
            "messages[1].weight",
            "is",
        ),
        (
            {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "a", "weight": True}]},
            "messages[1].weight",
            "True",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "weight": 1}, GOOD["messages"][1]]},
            "messages[0].weight",
            "user message",
        ),
        ({"conversations": [{"from": "alien", "value": "a"}]}, "conversations[0].from", "'alien'"),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value", "missing"),
    ],
)
def test_a_bad_row_names_its_field_and_reason(given: dict[str, Any], field: str | None, word: str) -> None:
    problem = only_problem(json.dumps(given).encode())
    assert problem.line == 1
    assert problem.field == field
    assert word in problem.reason


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b'{"input": "a", "output": ', "not valid JSON"),
        (b"[1, 2]", "an array"),
        (b'"text"', "a string"),
        (b'{"input": "a", "input": "b", "output": "c"}', "twice"),
        (b'{"input": "a", "output": NaN}', "NaN"),
        (b'{"input": "a", "output": -Infinity}', "-Infinity"),
        (b'{"input": "a", "output": "\\ud800"}', "surrogate"),
        (b'{"input": "a\xff", "output": "b"}', "not valid UTF-8"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "cannot be read"),
    ],
)
def test_a_bad_line_is_told_by_its_number_and_the_others_are_still_read(line: bytes, word: str) -> None:
    good = json.dumps(GOOD).encode()
    before, problem, after = read_bytes(b"\n".join([good, line, good]))
    assert turns(before) == turns(after) == ASKED
    assert isinstance(problem, RowProblem)
    assert problem.line == 2
    assert word in problem.reason


def test_the_offset_of_a_bad_byte_is_its_place_in_the_file() -> None:
    data = json.dumps(GOOD).encode() + b'\n  {"input": "\xfe", "output": "b"}\n'
    problem = read_bytes(data)[1]
    assert f"0xfe at offset {data.index(0xFE)}" in problem.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\n \n\t\n", "3 of them"),
        (json.dumps(GOOD).encode("utf-16"), "UTF-16"),
        (json.dumps(GOOD).encode("utf-16-le"), "UTF-16"),
        (gzip.compress(b"{}", mtime=0), "gzip"),
        (b"PK\x03\x04rest", "zip"),
        (b"%PDF-1.7", "PDF"),
        (json.dumps([GOOD], indent=1).encode(), "one JSON array"),
    ],
)
def test_a_file_of_the_wrong_kind_is_one_problem(data: bytes, word: str) -> None:
    assert word in only_problem(data).reason


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem() -> None:
    line = json.dumps(GOOD).encode()
    assert [turns(r) for r in read_bytes(b"\xef\xbb\xbf" + line + b"\r\n" + line + b"\r\n")] == [ASKED, ASKED]


class Endless(io.RawIOBase):
    """A stream of ten gigabytes without a newline, made of one block that is never copied."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.block = b"x" * 2**16

    def readline(self, limit: int | None = -1, /) -> bytes:  # type: ignore[override]
        size = min(self.left, self.left if limit is None or limit < 0 else limit)
        self.left -= size
        return self.block if size == len(self.block) else b"x" * size


def test_ten_gigabytes_without_a_newline_are_one_problem() -> None:
    problems = list(rows.read(Endless(10 * 2**30), name="x.jsonl"))  # type: ignore[arg-type]
    assert [p.reason for p in problems] == ["is longer than 4,194,304 bytes."]  # type: ignore[union-attr]


@pytest.mark.parametrize(("limit", "is_bounded"), [(2**20, True), (2**40, False)], ids=["guard", "control"])
def test_memory_is_bounded_by_the_line_limit(tmp_path: Path, limit: int, is_bounded: bool) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(b'{"input": "' + b"x" * (24 * 2**20))
    tracemalloc.start()
    (problem,) = rows.read(file, max_line_bytes=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(problem, RowProblem)
    assert (peak < 8 * 2**20) is is_bounded


def test_a_ten_megabyte_line_among_good_ones_loses_only_itself() -> None:
    good = json.dumps(GOOD).encode()
    got = read_bytes(good + b"\n" + b"y" * (10 * 2**20) + b"\n" + good)
    assert [type(item) for item in got] == [Row, RowProblem, Row]
    assert [item.line for item in got] == [1, 2, 3]


def test_without_the_depth_guard_the_parser_would_overflow() -> None:
    deep = b'{"a":' * 100_000
    with pytest.raises(Unparsable):
        parse_object(deep)
    with pytest.raises(RecursionError):
        json.loads(deep)
    assert parse_object(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
    assert parse_object(b'{"a": "' + b"[" * 1000 + b'"}') == {"a": "[" * 1000}


def test_unclosed_strings_full_of_escapes_take_linear_time() -> None:
    with pytest.raises(Unparsable):
        parse_object(b"[" * 40 + b'"' + b'\\"' * 1_000_000)


def test_csv_takes_the_same_shapes_by_its_header() -> None:
    data = b'question,answer\n"Who, then?","Mara ""M"" Lind"\n\n"Two\nlines?",Yes\n'
    first, second = read_bytes(data, "facts.csv")
    assert turns(first) == [("user", "Who, then?"), ("assistant", 'Mara "M" Lind')]
    assert turns(second)[0] == ("user", "Two\nlines?")
    assert (first.line, second.line) == (2, 4)
    assert turns(read_bytes(b"question;answer\nWho?;Mara.\n", "facts.csv")[0]) == ASKED
    assert turns(read_bytes(b"\xef\xbb\xbfquestion\tanswer\nWho?\tMara.\n", "facts.tsv")[0]) == ASKED


@pytest.mark.parametrize(
    ("data", "line", "word"),
    [
        (b"question,answer\nWho?,Mara.,extra\n", 2, "3 cells"),
        (b"question,answer\nWho?,\n", 2, "empty"),
        (b"question,question\na,b\n", 1, "twice"),
        (b"question,answer\n\xff,b\n", 2, "UTF-8"),
        (b'question,answer\n"Who"x,b\n', 2, "not valid CSV"),
        (b'question,answer\n"Who,b\n', 2, "not valid CSV"),
        (b"colour,answer\nred,b\n", 2, "colour the key"),
        (b"question,answer\n", 1, "header but no rows"),
    ],
)
def test_a_bad_csv_names_line_and_reason(data: bytes, line: int, word: str) -> None:
    problem = only_problem(data, "facts.csv")
    assert problem.line == line
    assert word in f"{problem.field} {problem.reason}"


def test_a_csv_record_that_never_ends_is_cut_off_at_the_limit() -> None:
    endless = b"question,answer\n" + b'"a\n' + b'b","c\n' * 100_000
    problem = only_problem(endless, "facts.csv", max_line_bytes=10_000)
    assert "longer than 10,000 bytes" in problem.reason


def test_parquet_is_read_whatever_its_name(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "facts.jsonl"
    parquet.write_table(pyarrow.table({"question": ["Who?"] * 3, "answer": ["Mara.", "", "Mara."]}), file)
    first, second, third = rows.read(file)
    assert turns(first) == turns(third) == ASKED
    assert isinstance(second, RowProblem)
    assert second.line == 2
    file.write_bytes(file.read_bytes()[:-9])
    assert "not readable Parquet" in only_problem(file.read_bytes()).reason


def test_parquet_without_its_library_names_the_extra(tmp_path: Path) -> None:
    program = (
        "import io, sys; sys.modules['pyarrow'] = None\n"
        "from inhouse import rows; print(next(rows.read(io.BytesIO(b'PAR1'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'inhouse[parquet]'" in done.stdout


def test_iterables_of_dicts_and_pairs_are_rows() -> None:
    loaded = rows.load([GOOD, ("Who?", "Mara."), {"input": "Who?", "output": "Mara."}])
    assert [turns(r) for r in loaded] == [ASKED] * 3
    assert [r.line for r in loaded] == [1, 2, 3]
    with pytest.raises(BadRows) as caught:
        rows.load([("Who?", "Mara."), 5, ("a",)])
    assert [p.line for p in caught.value.problems] == [2, 3]
    with pytest.raises(InvalidRequest, match="iterable of dicts"):
        rows.load(GOOD)


def test_a_report_counts_rows_formats_and_stops_at_its_limit() -> None:
    good = [GOOD, ("a", "b"), ("a", "b")]
    report = rows.check(good)
    assert (report.rows, report.formats, report.is_ok, report.is_complete) == (
        3,
        {"messages": 1, "input/output": 2},
        True,
        True,
    )
    report = rows.check([{}] * 500 + good, name="mine")
    assert (len(report.problems), report.is_complete) == (100, False)
    with pytest.raises(BadRows, match="mine line 1"):
        report.raise_problems()


def test_a_path_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        rows.load(tmp_path / "nothing.jsonl")
    with pytest.raises(InvalidRequest, match="is a folder"):
        rows.load(str(tmp_path))


def test_written_rows_read_back_as_the_same_messages(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    loaded = rows.load(
        [GOOD, ("Zwölf?", "Ja, \u2028 „zwölf“ 🦊\n"), {"system": "s", "input": "a", "output": "b"}]
    )
    assert rows.write_jsonl(loaded, file) == 3
    assert [r.messages for r in rows.load(file)] == [r.messages for r in loaded]


# ── hostile input ─────────────────────────────────────────────────────────────────────────────────────────

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
known_keys = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "weight",
        "input",
        "output",
        "prompt",
        "completion",
        "conversations",
        "from",
        "value",
        "instruction",
        "question",
        "answer",
        "system",
        "tools",
        "tool_calls",
        "tool_call_id",
        "function",
        "parameters",
        "name",
        "arguments",
        "id",
        "type",
        "text",
    ]
)
shapely = st.recursive(
    values | st.sampled_from(["user", "assistant", "tool", "function", "system", "human", "gpt"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_keys, inner, max_size=4),
    max_leaves=16,
)
fuzzed = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def holds(items: list[Row | RowProblem]) -> None:
    """Whatever came in: something is said, rows are canonical and problems are whole and printable."""
    assert items
    for item in items:
        if isinstance(item, Row):
            assert item.messages[-1].role == "assistant"
            assert rows.load(io.BytesIO(item.to_line()))[0].messages == item.messages
        else:
            assert item.line >= 1
            assert len(str(item)) < 1000
            str(item).encode()


@fuzzed
@given(st.binary(max_size=200), st.sampled_from(["a.jsonl", "a.csv", "a.tsv", ""]))
def test_random_bytes_never_crash_the_reader(data: bytes, name: str) -> None:
    holds(read_bytes(data, name, max_line_bytes=64))


@fuzzed
@given(st.lists(shapely, min_size=1, max_size=3))
def test_random_objects_never_crash_the_reader(given: list[Any]) -> None:
    holds(list(rows.read(given)))
    holds(read_bytes("\n".join(json.dumps(item) for item in given).encode()))


@fuzzed
@given(st.binary(max_size=120))
def test_random_parquet_never_crashes_the_reader(data: bytes) -> None:
    holds(read_bytes(b"PAR1" + data + b"PAR1"))


@fuzzed
@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_good_file_with_bytes_overwritten_never_crashes_the_reader(at: int, damage: bytes) -> None:
    data = bytearray(json.dumps(GOOD).encode() + b"\n" + json.dumps({"input": "ä", "output": "🦊"}).encode())
    at = min(at, len(data) - len(damage))
    data[at : at + len(damage)] = damage
    holds(read_bytes(bytes(data)))
