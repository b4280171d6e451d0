"""Names: found as written, misspelt, run together or half said; a look-alike is another name."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.memory import words as spelling
from inhouse.memory.names import NameIndex, Vocabulary, key_of, name_runs, rivals, tells_case
from inhouse.memory.phrases import vocabulary
from inhouse.memory.words import words_of

NAMES = ("Zorvex A17", "Zorvex A18", "Brightoak Motors", "Lena Quorbe", "Plimsor")


def known(*names: str) -> NameIndex:
    index = NameIndex(vocabulary())
    for name in names or NAMES:
        index.add(words_of(name))
    return index


def found(text: str, *names: str) -> list[tuple[str, str]]:
    """(key, words of the text that mean it)"""
    words = words_of(text)
    return [
        (m.key, " ".join(word.text for word in words[m.start : m.end])) for m in known(*names).find(words)
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("What is the price of Zorvex A17?", "zorvex a17"),
        ("ZORVEX A17's price", "zorvex a17"),
        ("price of zorvexa17", "zorvexa17"),
        ("price of Zor-vex A 17", "zor vex a 17"),
        ("price of zorvx a17", "zorvx a17"),
        ("zorvex a17price", "zorvex a17price"),
    ],
    ids=["as written", "possessive", "run together", "taken apart", "misspelt", "run into the next word"],
)
def test_a_name_is_found_however_it_is_typed(text: str, said: str) -> None:
    assert found(text) == [("zorvexa17", said)]


@pytest.mark.parametrize(
    "text",
    [
        "What is the price of Zorvex A19?",
        "What is the price of Zorvex A117?",
        "What is the price of Zorvex A1?",
        "What is the price of Zorvex?",
        "What does a Plimsorka cost?",
        "What does a Plimtak cost?",
        "Who runs the motors?",
        "Zor the vex",
    ],
    ids=["figure", "more figures", "fewer figures", "no figures", "longer", "half", "common word", "apart"],
)
def test_a_look_alike_is_not_the_name(text: str) -> None:
    assert found(text) == []


def test_a_changed_figure_would_pass_if_figures_could_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    look_alike = "What is the price of Zorvex A19?"
    assert found(look_alike, "Zorvex A17") == []
    monkeypatch.setattr(spelling, "_substitution", lambda typed, meant: 0.0)
    assert found(look_alike, "Zorvex A17") == [("zorvexa17", "zorvex a19")]


def test_letters_behind_a_name_are_a_word_of_their_own_or_another_name() -> None:
    assert found("the plimsorprice") == [("plimsor", "plimsorprice")]
    everything = Vocabulary.of({*vocabulary().common, "ka"}, (), {})
    index = NameIndex(everything)
    index.add(words_of("Plimsor"))
    assert index.find(words_of("a Plimsorka")) == []  # two letters stand behind many a name
    index = NameIndex(Vocabulary.of({*vocabulary().common, "kat"}, (), {}))
    index.add(words_of("Plimsor"))
    assert [m.rest for m in index.find(words_of("a Plimsorkat"))] == ["kat"]


def test_a_name_half_said_is_met_in_part() -> None:
    (match,) = known().find(words_of("Who runs Brightoak?"))
    assert match.key == "brightoakmotors" and match.cost == 0
    assert match.coverage == pytest.approx(len("brightoak") / len("brightoakmotors"))


def test_the_longest_of_several_exact_names_is_meant() -> None:
    assert found("the price of Silver Lake Hotel", "Silver Lake", "Silver Lake Hotel") == [
        ("silverlakehotel", "silver lake hotel")
    ]


def test_names_found_never_overlap_and_stand_in_order() -> None:
    matches = known().find(
        words_of("Is Plimsor cheaper than Zorvex A18, or Brightaok Motors, or Zorvex A17?")
    )
    assert [m.key for m in matches] == ["plimsor", "zorvexa18", "brightoakmotors", "zorvexa17"]
    assert all(a.end <= b.start for a, b in pairwise(matches))


def test_names_that_a_slip_may_mean_as_well_are_rivals() -> None:
    index = known("Zorvexa", "Zorvexb", "Plimsor")
    words = words_of("the price of zorvex")
    (match,) = index.find(words)
    assert {match.key} | {rival.key for rival in rivals(match, index.near(words))} == {"zorvexa", "zorvexb"}
    assert match.key == "zorvexa", "of equals the first by spelling: the same in every process"


def test_a_name_is_known_until_its_last_use_is_taken_back() -> None:
    index = known("Plimsor", "Plimsor")
    index.discard("plimsor")
    assert "plimsor" in index
    index.discard("plimsor")
    assert "plimsor" not in index and len(index) == 0
    assert index.find(words_of("Plimsor, or plimsr")) == []


POOL = ("Zorvex A17", "Zorvex A18", "Zorvex", "Brightoak Motors", "Brightoak", "Lena Quorbe", "Lena Zorvex")


@settings(deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=12), st.integers())
def test_after_any_history_the_index_is_a_fresh_one_of_what_is_left(history: list[str], seed: int) -> None:
    index, random, left = NameIndex(vocabulary()), Random(seed), list[str]()
    for name in history:
        index.add(words_of(name))
        left.append(name)
        if random.random() < 0.5:
            gone = left.pop(random.randrange(len(left)))
            index.discard(key_of(words_of(gone)))
    assert contents(index) == contents(known(*left) if left else NameIndex(vocabulary()))


def contents(index: NameIndex) -> list[object]:
    return [dict(structure) for structure in (index._names, index._counts, index._words, index._near)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("What is the price of Zorvex A17?", ["zorvex a17"]),
        ("who is lena quorbe", ["quorbe"]),
        ("What does VAT mean?", []),
        ("Green Valley's manager", ["green valley"]),
        ("What happens in 24h, or on the 2nd?", []),
        ("Who heads the Bank of Ardel?", ["bank of ardel"]),
        ("WHAT IS THE PRICE OF ZORVEX?", ["zorvex"]),
        ("what is the price", []),
        ("waht is the prcie", []),
    ],
)
def test_names_show_by_capitals_figures_or_being_unknown(text: str, names: list[str]) -> None:
    words = words_of(text)
    runs = [" ".join(w.text for w in words[a:b]) for a, b in name_runs(words, vocabulary())]
    assert runs == names


def test_capitals_tell_nothing_where_all_or_none_are() -> None:
    assert tells_case(words_of("What is the price of Zorvex?"))
    assert not tells_case(words_of("what is the price"))
    assert not tells_case(words_of("WHAT IS THE PRICE"))
    assert not tells_case([])
