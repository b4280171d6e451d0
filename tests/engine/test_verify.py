"""Verifying an adapter: a good one passes every check, and each way of going wrong fails one that names it."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inhouse.engine import verify
from inhouse.engine.arena import Factors, factors_of
from inhouse.errors import NotFound
from inhouse.model.adapters import Adapter
from inhouse.schema import Check
from tests.engine.test_serve import frames_of, line, serving
from tests.engine.world import World, call, random_adapter

DOWN = "model.layers.1.mlp.down_proj"


@pytest.fixture
def own(tmp_path: Path) -> World:
    own = World(tmp_path)
    own.adapter("good", rank=3, seed=1)
    return own


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has no PEFT: a check is skipped, and seconds are saved."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))


def verified(own: World, digest: str) -> dict[str, Check]:
    checks = own.engine().intake.verify(call("v", adapter=digest))
    return {check.name: check for check in checks}


def spoilt(own: World, digest: str, change: dict[str, tuple[Tensor, Tensor]]) -> str:
    tensors = random_adapter(own.decoder, rank=3, seed=1) | change
    Adapter(3, 6.0, tensors, {}).write(own.adapters / digest, own.decoder.config, base="tiny")
    return digest


def failed(checks: dict[str, Check]) -> dict[str, tuple[str, ...]]:
    return {name: check.tensors for name, check in checks.items() if check.passed is False}


def test_a_good_adapter_passes_every_check_and_peft_agrees(own: World) -> None:
    checks = verified(own, "good")
    assert {name: check.passed for name, check in checks.items()} == {
        "fits": True,
        "acts": True,
        "agrees": True,
        "spares the base": True,
        "changes the base": True,
        "serves": True,
        "agrees with PEFT": True,
    }
    assert checks["fits"].found == "all tensors match: 14 of the base's 14 modules, rank 3"


@pytest.mark.usefixtures("without_peft")
def test_a_check_that_cannot_be_made_says_so(own: World) -> None:
    check = verified(own, "good")["agrees with PEFT"]
    assert check.passed is None and "not installed" in check.found


@pytest.mark.usefixtures("without_peft")
def test_a_module_that_changes_nothing_is_named(own: World) -> None:
    a, b = random_adapter(own.decoder, rank=3, seed=1)[DOWN]
    assert failed(verified(own, spoilt(own, "idle", {DOWN: (a, torch.zeros_like(b))}))) == {"acts": (DOWN,)}


@pytest.mark.usefixtures("without_peft")
def test_an_adapter_that_is_the_base_fails(own: World) -> None:
    nothing = {
        n: (a, torch.zeros_like(b)) for n, (a, b) in random_adapter(own.decoder, rank=3, seed=1).items()
    }
    assert {"acts", "changes the base"} <= failed(verified(own, spoilt(own, "nothing", nothing))).keys()


@pytest.mark.usefixtures("without_peft")
def test_one_that_does_not_fit_is_told_with_the_list(own: World, tmp_path: Path) -> None:
    wide = World(tmp_path / "wide", intermediate_size=64)
    wide.adapter("wide", rank=2, seed=1)
    (wide.adapters / "wide").rename(own.adapters / "wide")
    checks = verified(own, "wide")
    assert checks.keys() == {"fits"} and checks["fits"].passed is False
    assert f"{DOWN}: shapes (2, 64) and (32, 2)" in checks["fits"].found
    with pytest.raises(NotFound):
        verified(own, "nobody")


@pytest.mark.usefixtures("without_peft")
def test_an_engine_that_would_serve_it_wrongly_is_found_out(
    own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is broken on purpose: one module's scale is lost on its way to the device."""

    def careless(adapter: Adapter, dtype: torch.dtype) -> Factors:
        factors = factors_of(adapter, dtype)
        a, b = factors.parts[DOWN]
        return Factors(factors.parts | {DOWN: (a, b / adapter.scale_of(DOWN))})

    monkeypatch.setattr(verify, "factors_of", careless)
    assert failed(verified(own, "good")) == {"agrees": (DOWN,), "serves": ()}


@pytest.mark.usefixtures("without_peft")
def test_the_socket_answers_with_checks(own: World, tmp_path: Path) -> None:
    async def work(path: Path) -> list[object]:
        found: list[object] = []
        for digest in ("good", "nobody", None):
            (frame,) = [f async for f in frames_of(path, line(call("v", adapter=digest), "verify"))]
            found.append(frame.verified or frame.fault)
        return found

    with serving(own.engine(), tmp_path / "socket") as (_, path):
        good, nobody, base = asyncio.run(work(path))
    assert isinstance(good, tuple) and len(good) == 7
    assert getattr(nobody, "code", "") == "resource_not_found"
    assert "Name an adapter" in getattr(base, "message", "")
