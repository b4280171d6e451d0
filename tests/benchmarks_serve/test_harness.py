"""The harness of benchmarks/serve, on a base of kilobytes: our engine and transformers through gate, rows and table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.serve import checkpoints, rows, table
from benchmarks.serve.arms import KINDS, Arm
from benchmarks.serve.gate import Reference
from benchmarks.serve.journal import Journal
from benchmarks.serve.measure import Bench
from benchmarks.serve.peers.wire import Absent
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import greedy
from inhouse.model.weights import load_base

ENGINES = ("house", "PEFT mixed")
EVERY = {row.key: row for row in (*rows.CPU, *rows.GPU)}
MIXED = replace(rows.shrunk(EVERY["W3"]), engines=ENGINES)


@dataclass(frozen=True)
class Measured:
    folder: Path
    journal: Journal


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A row with adapters, measured once by us and by PEFT, which runs in this environment."""
    folder = tmp_path_factory.mktemp("serve")
    journal = Journal(folder / "serve.jsonl")
    Bench(folder, journal, repeats=1, here=True, tries=1, is_tiny=True).run([MIXED])
    return Measured(folder, journal)


@pytest.fixture
def house(measured: Measured) -> Iterator[Arm]:
    arm = Arm(KINDS["house"], measured.folder)
    yield arm
    arm.end()


def test_every_engine_passes_the_gate_and_has_its_figures(measured: Measured) -> None:
    for engine in ENGINES:
        gate = measured.journal.gate(MIXED.key, engine)
        assert gate is not None and gate["is_passed"] and gate["tokens"] == 32
        (repeat,) = measured.journal.repeats(MIXED.key, engine)
        assert all(repeat["figures"][figure] > 0 for figure in MIXED.figures)


def test_the_table_holds_us_against_the_peer_and_the_limit(measured: Measured) -> None:
    (line, *_) = table.Found(measured.journal, [MIXED]).lines()
    ours, theirs = (line["engines"][engine]["median"] for engine in ENGINES)
    assert line["figure"] == "decode" and line["best"] == "PEFT mixed"
    assert line["ratio"]["median"] == pytest.approx(ours / theirs, rel=0.01)
    assert line["share"] == pytest.approx(ours / line["limit"], rel=0.01)
    goal = next(goal for goal in line["goals"] if "PEFT" in goal["goal"])
    assert goal["is_met"] == (goal["reached"] >= 2.0)
    found = {"lines": [line], "absences": [], "gates": table.Found(measured.journal, [MIXED]).gates()}
    assert "PEFT mixed" in table.markdown(found)


def test_what_is_measured_is_not_measured_again(measured: Measured) -> None:
    again = Journal(measured.folder / "serve.jsonl")
    before = list(again.entries)
    Bench(measured.folder, again, repeats=1, here=True, tries=1, is_tiny=True).run([MIXED])
    assert again.entries == before == measured.journal.entries


def test_an_engine_that_computes_another_model_fails_the_gate(measured: Measured, house: Arm) -> None:
    base = checkpoints.base(measured.folder, "tiny")
    other = measured.folder / "other"
    shutil.copytree(base, other)
    file = other / "model-00000.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] *= -1  # one matrix, one sign: fluent, and wrong
    save_file(tensors, file, metadata={"format": "pt"})
    house.ask("open", base=str(other), precision="bf16", context=1024, adapters_at_once=4)
    reference = Reference(MIXED, measured.folder, base, device="cpu", here=True)
    try:
        found = reference.judge(house)
    finally:
        reference.end()
    assert not found["is_passed"] and found["worst"] > 0.5


def test_an_engine_that_fails_the_gate_is_in_no_figure(measured: Measured, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "serve.jsonl")
    for entry in measured.journal.entries:
        if "gate" in entry and entry["engine"] == "PEFT mixed":
            entry = {**entry, "gate": {**entry["gate"], "is_passed": False}}
        journal.add(**entry)
    found = table.Found(journal, [MIXED])
    assert all(line["best"] is None and set(line["engines"]) == {"house"} for line in found.lines())
    shown = table.markdown({"lines": found.lines(), "absences": [], "gates": found.gates()})
    assert "PEFT mixed fails it in W3" in shown


def test_what_an_engine_refuses_is_a_reason_and_not_a_crash(measured: Measured, house: Arm) -> None:
    base = checkpoints.base(measured.folder, "tiny")
    house.ask("open", base=str(base), precision="bf16", context=1024)
    ask = {"prompt": [5, 6], "new": 1, "adapter": str(measured.folder / "nothing")}
    with pytest.raises(Absent, match="There is no adapter"):
        house.ask("run", asks=[ask])
    got = house.ask("run", asks=[{"prompt": [5, 6], "new": 3}])
    assert [len(new) for new in got["tokens"]] == [3]


def test_a_process_that_dies_is_a_reason_too(measured: Measured) -> None:
    arm = Arm(KINDS["house"], measured.folder)
    try:
        arm._process.kill()
        with pytest.raises(Absent, match="its process ended"):
            arm.ask("open", base="nowhere", precision="bf16", context=8)
    finally:
        arm.end()


def test_a_reply_of_a_random_base_never_ends_by_itself_and_an_adapter_changes_it(measured: Measured) -> None:
    decoder = load_base(checkpoints.base(measured.folder, "tiny"), dtype=torch.float32)
    plain = greedy(decoder, [10, 20, 30], 64)
    assert len(set(plain)) > 8 and not set(plain) & {0, 1, 2}
    (folder,) = checkpoints.adapters(measured.folder, "tiny", 1)
    adapter = Adapter.read(folder, decoder)
    assert adapter.rank == checkpoints.RANK
    assert greedy(decoder, [10, 20, 30], 64, LoadedLora(adapter, decoder)) != plain


def test_the_numbers_of_a_shape_are_those_of_its_files(measured: Measured) -> None:
    shape = checkpoints.SHAPES["tiny"]
    decoder = load_base(checkpoints.base(measured.folder, "tiny"))
    norms = (2 * shape.layers + 1) * shape.width
    assert shape.parameters == decoder.parameters - norms
    (folder,) = checkpoints.adapters(measured.folder, "tiny", 1)
    tensors = Adapter.read(folder, decoder).tensors.values()
    assert shape.adapter_parameters(checkpoints.RANK) == sum(a.numel() + b.numel() for a, b in tensors)
