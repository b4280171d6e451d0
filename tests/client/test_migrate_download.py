"""Jobs and files from OpenAI's API: every page, whole files, no key left behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.client.migrate import download, read_folder
from inhouse.errors import InvalidRequest, Unauthenticated
from tests.client.openai_things import KEY, ROWS, OpenAI, job, lines

LONG = lines(ROWS * 5000)
"""Longer than what a connection's buffers hold."""


@pytest.fixture
def openai() -> Iterator[OpenAI]:
    jobs = [job(f"ftjob-{i}", f"file-{i}") for i in range(5)]
    files = {f"file-{i}": lines(ROWS[: i + 1]) for i in range(4)} | {"file-4": LONG}
    with OpenAI(jobs, files).open() as made:
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((folder / "files").iterdir())}


def test_every_page_of_jobs_and_every_file_is_brought(openai: OpenAI, tmp_path: Path) -> None:
    made = download(tmp_path, KEY, api=openai.url)
    assert (made.jobs, made.files, made.kept, made.problems) == (5, 5, 0, [])
    assert contents(tmp_path) == openai.files
    found = read_folder(tmp_path)
    assert [j["id"] for j in found.jobs] == [f"ftjob-{i}" for i in range(5)]
    assert found.find("file-3").read_bytes() == openai.files["file-3"]


def test_a_second_run_brings_nothing_again_but_what_was_damaged(openai: OpenAI, tmp_path: Path) -> None:
    download(tmp_path, KEY, api=openai.url)
    damaged = tmp_path / "files" / "file-2.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b"a7", b"a8"))  # as long as it was
    openai.asked.clear()
    made = download(tmp_path, KEY, api=openai.url)
    assert (made.files, made.kept) == (1, 4)
    assert [path for path, _ in openai.asked if path.endswith("/content")] == ["/v1/files/file-2/content"]
    assert contents(tmp_path) == openai.files


def test_a_content_that_breaks_off_goes_on_where_it_was(openai: OpenAI, tmp_path: Path) -> None:
    openai.breaks_after = len(openai.files["file-0"])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file-4.part").write_bytes(LONG[:1000])  # as a killed run leaves it
    made = download(tmp_path, KEY, api=openai.url)
    assert made.problems == []
    assert contents(tmp_path) == openai.files
    ranges = [h.get("range") for path, h in openai.asked if path == "/v1/files/file-4/content"]
    assert ranges == ["bytes=1000-"]


def test_a_connection_cut_within_a_file_is_taken_up_in_the_same_run(tmp_path: Path) -> None:
    with OpenAI([job("ftjob-1", "file-4")], {"file-4": LONG}, breaks_after=len(LONG) // 2).open() as openai:
        made = download(tmp_path, KEY, api=openai.url)
        assert made.problems == []
        assert contents(tmp_path) == {"file-4": LONG}
        ranges = [h.get("range") for path, h in openai.asked if path.endswith("/content")]
    assert len(ranges) == 2
    assert ranges[0] is None
    assert ranges[1] is not None


def test_a_file_that_openai_no_longer_has_is_told_and_the_others_are_brought(
    openai: OpenAI, tmp_path: Path
) -> None:
    openai.jobs.append(job("ftjob-9", "file-gone"))
    openai.jobs.append(job("ftjob-10", "../../etc/passwd"))
    made = download(tmp_path, KEY, api=openai.url)
    assert made.files == 5
    assert made.problems == [
        "file-gone: No such File object: Bearer (the key)",  # the stand-in repeats what it was given
        "../../etc/passwd: This is no id of a file.",
    ]


def test_the_key_stands_in_no_file_no_log_and_no_error(
    openai: OpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    download(tmp_path, KEY, api=openai.url, on_news=told.append)
    wrong = "sk-proj-canary-wrong"
    with pytest.raises(Unauthenticated, match=r"Incorrect key: Bearer \(the key\)") as refused:
        download(tmp_path / "refused", wrong, api=openai.url)  # the stand-in repeats what it was given
    said = caplog.text + "".join(told) + str(refused.value)
    assert told
    assert KEY not in said
    assert wrong not in said
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_is_sent_in_the_clear_to_this_machine_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="in the clear"):
        download(tmp_path, KEY, api="http://openai.example/v1")
