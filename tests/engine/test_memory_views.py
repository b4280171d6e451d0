"""A real bank behind the engine: what nobody may see, or is gone, leaves the base as it is, whatever the policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import torch

from inhouse.memory import gate
from inhouse.memory.bank import Banks
from inhouse.memory.encoder import Encoder, WordTable, fresh
from inhouse.memory.router import Router
from inhouse.schema import Bank, Fact
from tests.engine.memory_world import ask, decisions, fact, plainly, use
from tests.engine.world import BASE_DIGEST, World, run

BOSS = "Who runs Brightoak Motors?"


@dataclass
class Shelf:
    """A store of one bank whose policy is to refuse."""

    held: list[Fact]
    revision: int = 1
    gone: list[str] = field(default_factory=list)

    def bank(self, bank_id: str) -> Bank:
        return Bank(
            id=bank_id,
            project="default",
            base="tiny",
            base_digest=BASE_DIGEST,
            revision=self.revision,
            unknown="refuse",
        )

    def facts(self, bank_id: str) -> Iterable[Fact]:
        return list(self.held)

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        return [], self.gone

    def expert(self, fact_id: str, version: int) -> bytes | None:
        return None


@pytest.fixture(scope="module")
def router() -> Router:
    """Untrained: it knows a taught wording by its words, and its gate passes nothing else."""
    table = torch.randn(259, 16, generator=torch.Generator().manual_seed(0))
    encoder = Encoder(fresh(16, 0), WordTable(table, lambda text: list(text.encode())))
    closed = gate.fresh(0) | {"last_bias": torch.tensor(-50.0)}
    return Router(encoder, closed, encoder.keys([("who",), ("when",)]), high=0.5, low=0.1)


def test_a_view_without_a_fact_leaves_a_question_to_the_base(world: World, router: Router) -> None:
    shelf = Shelf([fact("boss", BOSS, "Ann", access=("board",))])
    banks = Banks(shelf, lambda: router, BASE_DIGEST)
    engine = world.engine(banks=banks)
    wanted = ask("a", BOSS, memory=use(groups=("staff",)))
    hidden = run(engine, wanted)["a"]
    assert decisions(hidden.memory) == [("none", [])] and hidden.tokens == [plainly(world, wanted)]
    seen = run(engine, ask("a", BOSS, memory=use(groups=("board",)), max_new_tokens=None))["a"]
    assert (seen.texts[0], seen.memory[0].decision) == ("Ann", "exact"), "the control sees the fact"
    stranger = run(engine, ask("a", "Who runs Gribnak Labs?", memory=use(groups=("board",))))["a"]
    assert stranger.memory[0].decision == "refused", "the control's policy is to refuse"
    shelf.held, shelf.revision, shelf.gone = [], 2, ["boss"]
    emptied = run(engine, ask("a", BOSS, memory=use(revision=2, sees_all=True)))["a"]
    assert decisions(emptied.memory) == [("none", [])] and emptied.tokens == [plainly(world, wanted)]
    assert emptied.memory[0].revision == 2
