"""From a conversation to a decision: the ways, and the guards before a stored answer leaves as it is.

The router is hardly trained, so that its probabilities are low: `bold` trusts whatever its gate says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from inhouse.memory import gate
from inhouse.memory.evidence import FEATURES, Candidate, candidates, read
from inhouse.memory.index import AMBIENT_LEAST, KeyIndex
from inhouse.memory.router import Router
from inhouse.memory.routing import MOST_HITS, Decision, decide
from inhouse.schema import Fact, Message, TextPart
from tests.memory.conftest import fact

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

FACTS = (
    fact("a17", "What is the price of Zorvex A17?", "42 euros"),
    fact("a18", "What is the price of Zorvex A18?", "43 euros"),
    fact("boss", "Who runs Brightoak Motors?", "Lena Quorbe", aliases=("BM",), subject="Brightoak Motors"),
    fact("year", "When was Brightoak Motors founded?", "1987"),
    fact("limit", "What is the approval limit for office chairs?", "500 euros"),
)
NOW = 50.0


@pytest.fixture
def bold(router: Router) -> Router:
    """Trusts any probability at all."""
    return replace(router, high=0.0, low=0.0)


@pytest.fixture
def shy(router: Router) -> Router:
    """Its gate says no to everything: none but a taught wording is trusted."""
    return replace(router, gate=router.gate | {"last_bias": torch.tensor(-1000.0)}, high=0.5, low=0.1)


def ask(
    router: Router, facts: Sequence[Fact], *texts: str, refuses: bool = False, now: float = NOW
) -> Decision:
    index = router.index()
    index.put(facts)
    messages = [Message(role="user", content=text) for text in texts]
    return decide(index, router, messages, refuses=refuses, now=now)


def ids(decision: Decision) -> list[str]:
    return [hit.fact.id for hit in decision.hits]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the price of Zorvex A17?", "a17"),
        ("what is the price of zorvex a18", "a18"),
        ("WHO RUNS BRIGHTOAK MOTORS?", "boss"),
        ("Who runs BM?", "boss"),
        ("What is the approval limit for office chairs?", "limit"),
    ],
)
def test_a_taught_wording_is_answered_whatever_the_gate_says(shy: Router, text: str, expected: str) -> None:
    decision = ask(shy, FACTS, text)
    assert (decision.kind, ids(decision)) == ("exact", [expected])
    assert decision.hits[0].gate == 1


@pytest.mark.parametrize("stranger", ["Netflix", "Mozart", "Gribnak"])
def test_a_famous_name_is_not_the_company_that_every_fact_is_about(bold: Router, stranger: str) -> None:
    asked = (
        "address",
        "boss",
        "founding year",
        "tax number",
        "web site",
        "bank",
        "lawyer",
        "motto",
        "logo",
        "rent",
    )
    air = [fact(f"f{i}", f"What is the {what} of Plimsor?", f"answer {i}") for i, what in enumerate(asked)]
    assert len(air) > AMBIENT_LEAST
    trusting = replace(bold, high=1e-6, low=1e-6)  # anything but what no gate may pass
    assert "f0" in ids(ask(trusting, air, "What is the address of Plimsor?"))
    assert not ask(trusting, air, f"What is the address of {stranger}?").hits


@pytest.mark.parametrize(
    "text",
    [
        "What is the price of Zorvex A19?",
        "What is the price of Zorvex A17 Plus?",
        "What is the price of Zorvex?",
        "what is the price of zorvx a17",
        "Who runs Brightoak?",
        "Who runs Brightaok Motors?",
        "What is the price of Zorvex A17 for 20 people?",
        "What is the approval limit for office tables?",
    ],
    ids=["figure", "longer", "no figure", "slip", "half", "slip too", "figures", "other thing"],
)
def test_what_is_not_the_taught_wording_needs_the_gate(shy: Router, text: str) -> None:
    assert ask(shy, FACTS, text).kind != "exact"


def test_a_stranger_in_lower_case_where_the_bank_s_own_name_goes_unsaid_is_no_taught_wording(
    shy: Router,
) -> None:
    ambient = [
        fact(f"f{i}", f"What is the price of Zorvex {i} at Plimsor?", f"{i} euros")
        for i in range(AMBIENT_LEAST)
    ]
    assert ask(shy, ambient, "what is the price of zorvex 3 at plimsor").kind == "exact"
    assert ask(shy, ambient, "what is the price of zorvex 3 at gribnak").kind != "exact"


def test_the_gate_decides_between_exact_unsure_and_no(router: Router) -> None:
    text = "Who is the boss of Brightoak Motors?"
    seen = ask(replace(router, high=0.0, low=0.0), FACTS[2:3], text)
    passed = seen.hits[0].gate
    kinds = {
        (0, 0): "exact",
        (passed, 0): "exact",
        (math.nextafter(passed, 2), 0): "several",
        (1.0, math.nextafter(passed, 2)): "none",
    }
    for (high, low), kind in kinds.items():
        assert ask(replace(router, high=high, low=low), FACTS[2:3], text).kind == kind


def test_a_gate_that_says_no_number_says_no(router: Router) -> None:
    broken = replace(router, gate={name: t * float("nan") for name, t in router.gate.items()})
    assert ask(broken, FACTS, "Who is the boss of Brightoak Motors?").kind == "none"
    assert ask(router, FACTS, "Who runs Brightoak Motors?").kind == "exact"
    assert gate.probabilities(broken.gate, [[0.0] * len(FEATURES)]) == [0.0]
    assert gate.probabilities(router.gate, []) == []


@pytest.mark.parametrize(
    "text",
    [
        "Write a mail about the price of Zorvex A17.",
        "Return the price of Zorvex A17 as JSON",
        "Is Zorvex A17 cheaper than Zorvex A18?",
    ],
)
def test_a_task_is_given_facts_and_never_a_stored_answer(
    bold: Router, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.memory.routing.USED", -1.0)  # whatever this router makes of the meaning
    decision = ask(bold, FACTS, text)
    assert decision.kind == "use" and "a17" in ids(decision)
    assert not {"boss", "year", "limit"} & set(ids(decision))


def test_a_task_about_a_stranger_or_a_misspelt_name_is_given_nothing(bold: Router) -> None:
    for name in ("Zorvex A19", "Gribnak", "zrvx a17"):
        assert ask(bold, FACTS, f"Write a mail about the price of {name}.").kind == "none"


def test_who_brings_a_text_is_left_alone(bold: Router) -> None:
    question = "What is the price of Zorvex A17?"
    assert ask(bold, FACTS[:1], question).kind == "exact"
    text = "The new price list says that Zorvex A17 costs 99 euros. "
    told = "This pump costs five euros more since the last price rise. "
    assert ask(bold, FACTS[:1], told + question, refuses=True).kind == "none"
    decision = ask(bold, FACTS[:1], text + question, refuses=True)
    assert decision.kind == "none" and "brings the text" in decision.why["reason"]


def test_only_the_last_message_of_the_user_is_asked(shy: Router) -> None:
    index = shy.index()
    index.put(FACTS)
    turns = [
        Message(role="user", content="Who runs Brightoak Motors?"),
        Message(role="assistant", content="What is the price of Zorvex A17?"),
        Message(role="user", content=[TextPart(type="text", text="What is the price of Zorvex A18?")]),
        Message(role="system", content="What is the price of Zorvex A17?"),
    ]
    assert ids(decide(index, shy, turns, refuses=False, now=NOW)) == ["a18"]
    assert decide(index, shy, turns[1:2], refuses=True, now=NOW).kind == "none"
    assert decide(index, shy, [], refuses=True, now=NOW).kind == "none"


def test_a_later_turn_may_speak_of_an_earlier_subject(bold: Router) -> None:
    facts = FACTS[2:4]
    decision = ask(bold, facts, "Who runs Brightoak Motors?", "When was it founded?")
    assert ids(decision)[0] == "year"
    assert [name["name"] for name in decision.why["names"]] == ["brightoakmotors"]
    assert (
        "names" not in ask(bold, facts, "When was it founded?").why
        or not ask(bold, facts, "When was it founded?").why["names"]
    )
    stranger = ask(bold, facts, "Who runs Brightoak Motors?", "When was Gribnak founded?")
    assert stranger.why["names"] == []


def test_a_fact_outside_its_time_is_not_given(shy: Router) -> None:
    question = "What is the price of Plimsor?"
    facts = [
        fact("old", question, "7 euros", valid_until=100.0),
        fact("new", question, "8 euros", valid_from=100.0),
    ]
    assert ids(ask(shy, facts, question, now=99.9)) == ["old"]
    assert ids(ask(shy, facts, question, now=100.0)) == ["new"]
    assert ask(shy, facts[:1], question, now=100.0).kind == "none"


def test_a_fact_of_records_only_is_never_the_reply_itself(shy: Router) -> None:
    question = "Who runs Brightoak Motors?"
    assert ask(shy, FACTS[2:3], question).kind == "exact"
    held = FACTS[2].model_copy(update={"status": "retrieval_only", "reason": "too unlike"})
    assert ask(shy, [held], question).kind == "several"


def test_facts_that_coexist_are_given_together(shy: Router) -> None:
    twin = FACTS[2].model_copy(update={"id": "boss2", "answer": "Omar Plim"})
    decision = ask(shy, [FACTS[2], twin], "Who runs Brightoak Motors?")
    assert decision.kind == "exact" and set(ids(decision)) == {"boss", "boss2"}


def test_facts_of_different_questions_that_seem_meant_alike_are_left_to_the_model(
    bold: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.memory.routing.NEXT", 0.0)  # every unsure fact is shown
    decision = ask(bold, FACTS, "Brightoak Motors please")
    assert decision.kind == "several" and {"boss", "year"} <= set(ids(decision))


def test_no_more_facts_than_the_most_are_shown(bold: Router) -> None:
    many = [fact(f"f{i}", f"What is part {i} of Plimsor?", f"{i}") for i in range(3 * MOST_HITS)]
    assert 0 < len(ask(bold, many, "Tell me about Plimsor").hits) <= MOST_HITS


def test_an_unanswered_question_of_the_bank_s_kind_is_refused_only_where_the_policy_says_so(
    shy: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.memory.routing.KIN", -1.0)  # whatever this router makes of the meaning
    text = "How heavy is Brightoak Motors?"
    assert ask(shy, FACTS, text, refuses=True).kind == "refused"
    assert ask(shy, FACTS, text, refuses=False).kind == "none"


@pytest.mark.parametrize("text", ["Hello!", "How do I boil an egg?", " "])
def test_what_has_nothing_to_do_with_the_bank_is_not_refused(shy: Router, text: str) -> None:
    assert ask(shy, FACTS, text, refuses=True).kind == "none"


def test_an_empty_bank_answers_and_refuses_nothing(bold: Router) -> None:
    assert ask(bold, [], "Who runs Brightoak Motors?", refuses=True).kind == "none"


def test_why_says_what_was_seen(router: Router) -> None:
    why = ask(router, FACTS, "Who heads Brightaok Motors?").why
    assert why["names"] == [{"name": "brightoakmotors", "slips": 0.8, "coverage": 1.0}]
    assert why["asks"][0] == "who heads …"
    assert set(why["evidence"]) == set(FEATURES) and why["closest"] in ("boss", "year")


def best(index: KeyIndex, router: Router, text: str, fact_id: str) -> dict[str, float]:
    found = candidates(index, read(index, text), router.anchors)
    (chosen,) = [c for c in found if c.entry.fact.id == fact_id]
    return dict(zip(FEATURES, chosen.features, strict=True))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("What is the price of Zorvex A17?", {"same": 1.0, "coverage": 1.0, "is_rich": 1.0}),
        ("What is the price of Zorvx A17?", {"slips": 0.9, "coverage": 1.0}),
        ("What is the price of Zorvex A17 Gribnak?", {"adjoining": 1.0, "strange_names": 1.0}),
        ("What is the price of Zorvex A17 and Brightoak Motors?", {"other_names": 1.0}),
        ("What is the price of Zorvex A17 for 20 people?", {"figures": 1.0}),
        ("what is the price of zorvex a17 by gribnak", {"strange_words": 1.0, "strange_names": 0.0}),
    ],
)
def test_evidence_tells_what_speaks_for_a_fact_and_against_it(
    router: Router, index: KeyIndex, text: str, changed: dict[str, float]
) -> None:
    index.put(FACTS)
    seen = best(index, router, text, "a17")
    assert {name: round(seen[name], 2) for name in changed} == changed


def test_a_taught_wording_means_itself(router: Router, index: KeyIndex) -> None:
    index.put(FACTS)
    seen = best(index, router, "Who runs Brightoak Motors?", "boss")
    assert seen["meaning"] == pytest.approx(1, abs=1e-3) and seen["on_average"] == pytest.approx(1, abs=1e-3)
    assert seen["margin"] > 0


@pytest.mark.parametrize(
    "spoilt", ["slips", "adjoining", "strange_names", "strange_words", "other_names", "figures"]
)
def test_a_wording_with_anything_besides_is_not_verbatim(
    index: KeyIndex, router: Router, spoilt: str
) -> None:
    index.put(FACTS)
    (clean,) = [
        c for c in candidates(index, read(index, "Who runs BM?"), router.anchors) if c.entry.fact.id == "boss"
    ]
    assert clean.is_verbatim
    features: list[Any] = list(clean.features)
    features[FEATURES.index(spoilt)] = 1.0
    assert not Candidate(clean.entry, features).is_verbatim


def test_the_same_question_gives_the_same_decision(router: Router) -> None:
    torch.manual_seed(1)
    first = ask(router, FACTS, "Who is the boss of Brightoak Motors?")
    torch.manual_seed(2)
    assert ask(router, tuple(reversed(FACTS)), "Who is the boss of Brightoak Motors?").kind == first.kind
