"""The parts of benchmarks/serve that need no engine: the watch, arrivals, the journal, goals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.serve import environments, rows, table
from benchmarks.serve.__main__ import pick
from benchmarks.serve.checkpoints import SHAPES
from benchmarks.serve.journal import Journal
from benchmarks.serve.limits import Limits
from benchmarks.serve.peers.wire import Absent, Arrivals, Ask, Watch, in_batches


def test_a_step_with_a_first_token_is_reading_and_every_other_decoding() -> None:
    watch = Watch(2)
    watch.step()  # a part of a prompt: no token
    watch.token(0)
    watch.step()  # the first request's first
    watch.token(0)
    watch.token(1)
    watch.step()  # the second's first, though the first one decodes beside it
    watch.token(0)
    watch.token(1)
    watch.step()
    watch.stop()
    found = watch.found()
    assert (found["decoded"], found["drawn"]) == (2, 5)
    assert found["read_cpu_s"] + found["decoded_cpu_s"] <= found["cpu_s"]


def test_moments_that_an_engine_noted_itself_are_cut_into_steps() -> None:
    watch = Watch(2)
    began = time.perf_counter()
    watch.heard([[began + 1.0, began + 1.5, began + 2.0], [began + 1.0001, began + 1.5001, began + 2.0001]])
    watch.stop()
    found = watch.found()
    assert found["decoded"] == 4
    assert found["read_wall_s"] == pytest.approx(1.0, abs=0.1)
    assert found["decoded_wall_s"] == pytest.approx(1.0, abs=0.01)


def test_a_closed_loop_keeps_so_many_under_way_and_others_come_when_they_are_due() -> None:
    asks = [Ask([1], 4) for _ in range(5)]
    loop = Arrivals(asks, {"closed": 2}, Watch(5))
    assert loop.due(0) == [0, 1] and loop.due(2) == [] and loop.due(1) == [2] and loop.left == [3, 4]
    watch = Watch(2)
    late = Arrivals([Ask([1], 4), Ask([1], 1, behind=2)], {}, watch)
    assert late.due(0) == [0] and late.due(1) == []
    watch.token(0, 2)
    assert late.due(1) == [1]
    timed = Arrivals([Ask([1], 1, at_s=0.02)], {}, Watch(1))
    assert timed.due(1) == [] and timed.due(0) == [0], "with nothing under way it waits"


def test_batches_are_of_one_length_and_of_one_adapter_where_it_is_to_be_alone() -> None:
    asks = [Ask([1] * length, 4, adapter) for length, adapter in ((2, "b"), (2, "a"), (2, "b"), (3, "b"))]
    assert in_batches(asks, {"max_running": 2}) == [[0, 1], [2], [3]]
    assert in_batches(asks, {"alone": True}) == [[1], [0, 2], [3]]


def test_a_line_that_a_kill_cut_off_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "serve.jsonl"
    Journal(file).add(row="W1", engine="house", figures={"decode": 1.0})
    with file.open("a") as torn:
        torn.write('{"row": "W1", "engine": "hou')
    journal = Journal(file)
    assert len(journal.repeats("W1", "house")) == 1
    journal.add(row="W2", engine="house", absent="no room")
    again = Journal(file)
    assert again.absent("W2", "house") == "no room" and len(again.entries) == 2
    again.forget("W1")
    assert [entry["row"] for entry in Journal(file).entries] == ["W2"]


def _journal(tmp_path: Path, decode: dict[str, list[float]]) -> Journal:
    journal = Journal(tmp_path / "serve.jsonl")
    for engine, values in decode.items():
        for repeat, value in enumerate(values):
            journal.add(row="W2 b8", engine=engine, repeat=repeat, is_quiet=True, figures={"decode": value})
    return journal


def test_the_ratio_is_to_the_best_peer_and_a_miss_stays(tmp_path: Path) -> None:
    row = next(row for row in rows.CPU if row.key == "W2 b8")
    journal = _journal(tmp_path, {"house": [9.0, 10.0], "vLLM-CPU": [20.0, 20.0], "llama.cpp": [5.0, 5.0]})
    line = table.Found(journal, [row]).lines()[0]
    assert line["best"] == "vLLM-CPU" and line["ratio"]["least"] == 0.45
    assert [goal["is_met"] for goal in line["goals"]] == [False]
    assert "**missed**" in table.markdown({"lines": [line], "absences": [], "gates": []})


def test_other_ways_on_our_own_decoder_are_peers_only_where_the_row_says_so(tmp_path: Path) -> None:
    row = next(row for row in rows.CPU if row.key == "W3")
    assert not row.counts_variants
    journal = Journal(tmp_path / "serve.jsonl")
    for engine, value in (("house", 1.0), ("gather and bmm", 9.0), ("PEFT mixed", 2.0)):
        journal.add(row="W3", engine=engine, repeat=0, is_quiet=True, figures={"decode": value})
    line = table.Found(journal, [row]).lines()[0]
    assert line["best"] == "PEFT mixed" and line["engines"]["gather and bmm"]["median"] == 9.0


def test_decoding_is_bound_by_bytes_alone_and_by_products_in_company() -> None:
    shape, limits = SHAPES["400m"], Limits(bytes_per_s=10e9, flops=1e12)
    alone = limits.decode(shape, "bf16", 1, 0)
    assert alone == pytest.approx(10e9 / (2 * shape.parameters))
    assert limits.decode(shape, "int8", 1, 0) == pytest.approx(2 * alone)
    assert limits.decode(shape, "bf16", 1, 0, [16] * 8) < alone
    assert limits.decode(shape, "bf16", 1000, 0) == pytest.approx(1e12 / (2 * shape.parameters))


def test_every_goal_points_at_a_figure_and_a_row_that_are_there() -> None:
    for every in (rows.CPU, rows.GPU):
        keys = {row.key for row in every}
        assert len(keys) == len(every)
        for row in every:
            assert set(row.figures) <= set(table.FIGURES)
            for goal in row.goals:
                assert goal.figure in row.figures, f"{row.key} has no {goal.figure}"
                assert goal.over in {"", "limit", "peer", *keys, *row.engines}, f"{row.key}: {goal.over}"


def test_a_row_is_picked_by_its_first_words() -> None:
    def picked(names: str) -> list[str]:
        return [row.key for row in pick(rows.CPU, names, "", is_tiny=False)]

    assert picked("W1") == ["W1 bf16", "W1 int8", "W1 int4"]
    assert picked("W2 b8,W3") == ["W2 b8", "W3"]
    with pytest.raises(SystemExit, match="No row is called 'W77'"):
        picked("W77")
    with pytest.raises(SystemExit, match="no engine 'nobody'"):
        pick(rows.CPU, "", "nobody", is_tiny=False)


def test_an_environment_that_could_not_be_made_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "vllm.failed").write_text("pip found no such package")
    with pytest.raises(Absent, match=r"no such package \(delete vllm.failed to try again\)"):
        environments.python_of(tmp_path, "vllm")


def test_there_is_no_ratio_to_nothing_or_to_less() -> None:
    assert table._ratios([4.0, 6.0], [2.0, 2.0]) == [2.0, 3.0]
    assert table._ratios([4.0, 6.0], [0.0, 0.0]) == table._ratios([4.0], [-1.0, 2.0]) == []
