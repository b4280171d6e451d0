"""Banks in memory: what changed is seen at once, what is gone is nowhere, what is hidden changes nothing."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType

import pytest

from inhouse.errors import BadCheckpoint, NotFound
from inhouse.memory import check, encoder, evidence, index, kinds, learn, names, phrases, routing, words
from inhouse.memory.bank import KEPT, MOST_VIEWS, Banks, Decision, LoadedBank
from inhouse.memory.router import Router
from inhouse.schema import Bank, Fact, MemoryUse, Message, UnknownPolicy
from tests.memory.conftest import fact
from tests.memory.graph import holders_of

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

BASE = "b" * 64
PRICE = fact("price", "What is the price of Zorvex A17?", "42 euros")
BOSS = fact(
    "boss", "Who runs Brightoak Motors?", "Lena Quorbe", aliases=("Bromo",), subject="Brightoak Motors"
)
PAY = fact("pay", "What is the salary of Ann Gribnak?", "90,000 euros", access=("hr", "board"))
SECRET = fact("secret", "Who buys Brightoak Motors?", "the Plimsor Holding", access=("board",))


@dataclass
class Shelf:
    """A store of one bank's facts, in memory."""

    held: dict[str, Fact] = field(default_factory=dict)
    revision: int = 1
    base_digest: str = BASE
    unknown: UnknownPolicy = "base"
    changes: list[tuple[int, str]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    breaks: bool = False

    def put(self, *facts: Fact) -> None:
        self.revision += 1
        for known in facts:
            self.held[known.id] = known
            self.changes.append((self.revision, known.id))

    def forget(self, fact_id: str) -> None:
        self.revision += 1
        del self.held[fact_id]
        self.changes.append((self.revision, fact_id))

    def bank(self, bank_id: str) -> Bank:
        self.reads.append("bank")
        if not bank_id.startswith("bank-"):
            raise NotFound(f"There is no bank {bank_id}.")
        return Bank(
            id=bank_id,
            project="default",
            base="tiny",
            base_digest=self.base_digest,
            revision=self.revision,
            unknown=self.unknown,
        )

    def facts(self, bank_id: str) -> Iterable[Fact]:
        self.reads.append("facts")
        return list(self.held.values())

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        self.reads.append("changed_since")
        if self.breaks:
            raise OSError("the store is away")
        later = dict.fromkeys(i for at, i in self.changes if at > revision)
        return [self.held[i] for i in later if i in self.held], [i for i in later if i not in self.held]

    def expert(self, fact_id: str, version: int) -> bytes | None:
        return None


@pytest.fixture
def shelf() -> Shelf:
    return Shelf({known.id: known for known in (PRICE, BOSS, PAY, SECRET)})


@pytest.fixture
def banks(shelf: Shelf, router: Router) -> Banks:
    return Banks(shelf, lambda: router, BASE)


def use(shelf: Shelf, bank: str = "bank-one") -> MemoryUse:
    return MemoryUse(bank=bank, revision=shelf.revision)


def ask(bank: LoadedBank, text: str, groups: Iterable[str] | None = ()) -> Decision:
    may = None if groups is None else frozenset(groups)
    return bank.route([Message(role="user", content=text)], groups=may, now=0.0)


def answers(bank: LoadedBank, text: str, groups: Iterable[str] | None = ()) -> list[str]:
    decision = ask(bank, text, groups)
    return [hit.fact.answer for hit in decision.hits] if decision.kind == "exact" else []


def test_an_edit_is_answered_with_the_next_revision(banks: Banks, shelf: Shelf) -> None:
    before = use(shelf)
    assert answers(banks.at(before), PRICE.question) == ["42 euros"]
    shelf.put(PRICE.model_copy(update={"answer": "45 euros", "version": 2, "revision": 2}))
    assert answers(banks.at(before), PRICE.question) == ["42 euros"], "nobody asked to see the change yet"
    assert answers(banks.at(use(shelf)), PRICE.question) == ["45 euros"]
    assert answers(banks.at(before), PRICE.question) == ["45 euros"], "and it never goes back"


def test_an_edited_question_is_answered_in_its_new_words_alone(banks: Banks, shelf: Shelf) -> None:
    assert answers(banks.at(use(shelf)), PRICE.question)
    shelf.put(PRICE.model_copy(update={"question": "What does Quizzle B2 weigh?", "answer": "3 kg"}))
    bank = banks.at(use(shelf))
    assert answers(bank, "What does Quizzle B2 weigh?") == ["3 kg"]
    assert ask(bank, PRICE.question).kind == "none"


def test_an_added_fact_is_answered_with_the_next_revision(banks: Banks, shelf: Shelf) -> None:
    new = fact("new", "Where is the office of Quizzle?", "Lisbon")
    assert ask(banks.at(use(shelf)), new.question).kind == "none"
    shelf.put(new)
    assert answers(banks.at(use(shelf)), new.question) == ["Lisbon"]


def test_a_forgotten_fact_is_no_longer_answered(banks: Banks, shelf: Shelf) -> None:
    assert answers(banks.at(use(shelf)), BOSS.question)
    shelf.forget("boss")
    bank = banks.at(use(shelf))
    assert ask(bank, BOSS.question).hits == ()
    assert answers(bank, PRICE.question) == ["42 euros"]


FORGOTTEN = ("brightoak", "bromo", "lena", "quorbe")


@pytest.mark.parametrize("groups", [None, (), ("hr",)])
def test_nothing_of_a_forgotten_fact_can_be_reached_in_memory(
    banks: Banks, shelf: Shelf, groups: Iterable[str] | None
) -> None:
    shelf.forget("secret")  # it has a word in common with the one below
    bank = banks.at(use(shelf))
    assert answers(bank, BOSS.question, groups) and answers(bank, "Who runs Bromo?", groups)
    for word in FORGOTTEN:
        assert holders_of(reachable(bank), word), "the walk sees what is there"
    shelf.forget("boss")
    bank = banks.at(use(shelf))
    for word in FORGOTTEN:
        assert holders_of(reachable(bank), word, besides=(bank._router.vocabulary,)) == []
    assert answers(bank, PRICE.question) == ["42 euros"]


def reachable(bank: LoadedBank) -> list[object]:
    return [bank, bank._router]


MODULES: tuple[ModuleType, ...] = (
    check,
    encoder,
    evidence,
    index,
    kinds,
    learn,
    names,
    phrases,
    routing,
    words,
)


def caches() -> list[functools._lru_cache_wrapper[object]]:
    """Whatever remembers texts while the process lives; what holds the lexicon alone takes no argument."""
    found = {
        id(v): v for m in MODULES for v in vars(m).values() if isinstance(v, functools._lru_cache_wrapper)
    }
    return [cache for cache in found.values() if cache.__wrapped__.__code__.co_argcount]


def test_every_cache_of_words_is_emptied_when_something_is_forgotten(banks: Banks, shelf: Shelf) -> None:
    bank = banks.at(use(shelf))
    ask(bank, BOSS.question, None)
    assert check.says("It is Lena Quorbe.", BOSS.answer)
    assert {cache.__name__ for cache in caches()} >= {"fold", "trigrams"}
    assert any(cache.cache_info().currsize for cache in caches())
    assert bank._router.encoder._points
    shelf.forget("boss")
    banks.at(use(shelf))
    assert not any(cache.cache_info().currsize for cache in caches())
    assert set(bank._router.encoder._points) == {names.MASK} and not bank._router.encoder.words._known


HIDDEN = "Who buys Brightoak Motors?"
QUESTIONS = (
    HIDDEN,
    "what is the salary of ann gribnak",
    BOSS.question,
    "Who purchases Brightoak Motors?",
    "Is Ann Gribnak paid more than the price of Zorvex A17?",
    "Write a mail about who buys Brightoak Motors.",
    "Who is the Plimsor Holding?",
    "Hello!",
)


@pytest.mark.parametrize("unknown", ["refuse", "base"])
@pytest.mark.parametrize("groups", [(), ("sales",), ("hr",)])
def test_who_may_not_see_a_fact_gets_what_he_would_get_if_it_did_not_exist(
    router: Router, shelf: Shelf, groups: tuple[str, ...], unknown: UnknownPolicy
) -> None:
    shelf.unknown = unknown
    poor = Shelf(
        {i: f for i, f in shelf.held.items() if not f.access or set(groups) & set(f.access)}, unknown=unknown
    )
    full, less = (LoadedBank(s.bank("bank-one"), s.facts("bank-one"), router) for s in (shelf, poor))
    for question in QUESTIONS:
        assert ask(full, question, groups) == ask(less, question, None)


def test_who_may_see_a_fact_gets_it(banks: Banks, shelf: Shelf) -> None:
    bank = banks.at(use(shelf))
    assert answers(bank, HIDDEN, ("board",)) == answers(bank, HIDDEN, None) == ["the Plimsor Holding"]
    assert answers(bank, PAY.question, ("hr", "sales")) == ["90,000 euros"]
    for groups in ((), ("hr",), ("BOARD",)):
        assert "the Plimsor Holding" not in answers(bank, HIDDEN, groups)


def test_a_fact_that_becomes_secret_is_gone_for_the_others_and_leaves_no_trace(
    banks: Banks, shelf: Shelf, router: Router
) -> None:
    bank = banks.at(use(shelf))
    assert answers(bank, PRICE.question) and answers(bank, HIDDEN, ("board",))
    shelf.put(PRICE.model_copy(update={"access": ("board",)}))
    bank = banks.at(use(shelf))
    assert answers(bank, PRICE.question, ("board",)) == ["42 euros"]
    fresh = Banks(Shelf({"boss": BOSS}), lambda: router, BASE).at(use(Shelf()))
    for question in (PRICE.question, *QUESTIONS):
        assert outline(ask(bank, question)) == outline(ask(fresh, question))
    assert holders_of(bank._views[frozenset()], "zorvex", besides=(router.encoder, router.vocabulary)) == []
    shelf.put(PRICE)
    assert answers(banks.at(use(shelf)), PRICE.question) == ["42 euros"]


def outline(decision: Decision) -> object:
    """A decision but for the last figures: keys that were made one by one round in another way."""
    hits = [(hit.fact.id, round(hit.gate, 3)) for hit in decision.hits]
    return decision.kind, hits, {k: v for k, v in decision.why.items() if k not in ("evidence", "gate")}


def test_those_who_see_the_same_share_one_index(banks: Banks, shelf: Shelf) -> None:
    bank = banks.at(use(shelf))
    for groups in ((), ("sales",), ("sales", "lab"), ("hr",), ("hr", "sales"), None):
        ask(bank, "Hello!", groups)
    assert set(bank._views) == {frozenset(), frozenset({"hr"}), None}


def test_no_more_indexes_than_the_most_are_held(router: Router) -> None:
    many = [fact(f"f{i}", f"Who runs Quorbe{i}?", "Ann", access=(f"g{i}",)) for i in range(MOST_VIEWS + 3)]
    bank = LoadedBank(Shelf().bank("bank-one"), many, router)
    for i in range(MOST_VIEWS + 3):
        assert answers(bank, f"Who runs Quorbe{i}?", (f"g{i}",)) == ["Ann"]
    assert len(bank._views) == MOST_VIEWS
    assert answers(bank, "Who runs Quorbe0?", ("g0",)) == ["Ann"]


def test_a_new_policy_holds_with_the_next_revision(banks: Banks, shelf: Shelf) -> None:
    assert banks.at(use(shelf)).unknown == "base"
    shelf.unknown = "refuse"
    shelf.put(PRICE)
    assert banks.at(use(shelf)).unknown == "refuse"


def test_a_bank_of_another_base_is_refused_and_says_what_to_do(banks: Banks, shelf: Shelf) -> None:
    shelf.base_digest = "c" * 64
    with pytest.raises(BadCheckpoint, match="Export them") as refused:
        banks.at(use(shelf))
    assert refused.value.code == "base_changed"
    shelf.base_digest = BASE
    assert answers(banks.at(use(shelf)), PRICE.question) == ["42 euros"]


def test_a_bank_that_is_not_there_is_not_found(banks: Banks) -> None:
    with pytest.raises(NotFound):
        banks.at(MemoryUse(bank="other", revision=1))


def test_a_bank_is_read_once_and_then_only_what_changed(banks: Banks, shelf: Shelf) -> None:
    for _ in range(3):
        banks.at(use(shelf))
    assert shelf.reads == ["bank", "facts"]
    shelf.put(PRICE)
    banks.at(use(shelf))
    assert shelf.reads == ["bank", "facts", "bank", "changed_since"]


def test_the_router_is_opened_when_the_first_bank_is(shelf: Shelf, router: Router) -> None:
    opened: list[str] = []

    def open_router() -> Router:
        opened.append("router")
        return router

    banks = Banks(shelf, open_router, BASE)
    assert opened == []
    banks.at(use(shelf))
    banks.at(use(shelf, "bank-two"))
    assert opened == ["router"]


def test_a_bank_that_could_not_catch_up_does_so_when_it_is_asked_again(banks: Banks, shelf: Shelf) -> None:
    banks.at(use(shelf))
    shelf.forget("price")
    shelf.breaks = True
    with pytest.raises(OSError, match="away"):
        banks.at(use(shelf))
    shelf.breaks = False
    assert ask(banks.at(use(shelf)), PRICE.question).kind == "none"


def test_a_bank_that_broke_while_it_took_over_does_not_claim_to_be_new(banks: Banks, shelf: Shelf) -> None:
    bank = banks.at(use(shelf))
    assert answers(bank, PRICE.question)
    shelf.forget("price")
    broken = PRICE.model_construct(**{**dict(BOSS), "question": None})
    with pytest.raises(TypeError):
        bank.catch_up(shelf.bank("bank-one"), [broken], ["price"])
    assert bank.revision < shelf.revision
    bank = banks.at(use(shelf))
    assert ask(bank, PRICE.question).kind == "none" and bank.revision == shelf.revision


def test_the_bank_that_was_asked_longest_ago_goes_first(router: Router) -> None:
    shelf = Shelf({"price": PRICE})
    banks = Banks(shelf, lambda: router, BASE)
    first = banks.at(use(shelf, "bank-0"))
    second = banks.at(use(shelf, "bank-1"))
    for i in range(2, KEPT):
        banks.at(use(shelf, f"bank-{i}"))
    assert banks.at(use(shelf, "bank-0")) is first
    banks.at(use(shelf, f"bank-{KEPT}"))
    assert banks.at(use(shelf, "bank-0")) is first
    assert banks.at(use(shelf, "bank-1")) is not second


def test_threads_that_ask_while_facts_change_see_the_old_or_the_new(banks: Banks, shelf: Shelf) -> None:
    said: set[str] = set()
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            said.update(answers(banks.at(MemoryUse(bank="bank-one", revision=1)), PRICE.question))

    banks.at(use(shelf))
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(keep_asking) for _ in range(3)]
        for n in range(20):
            shelf.put(PRICE.model_copy(update={"answer": f"{n} euros"}))
            assert answers(banks.at(use(shelf)), PRICE.question) == [f"{n} euros"]
        stop.set()
        for asked in asking:
            asked.result()
    assert said <= {"42 euros", *(f"{n} euros" for n in range(20))}
