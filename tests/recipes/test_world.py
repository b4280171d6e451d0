from __future__ import annotations

import gc
import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator

import pytest

from recipes.seedling import facts, questions, talk, writer
from recipes.seedling.evaluate import items
from recipes.seedling.questions import as_clause
from recipes.seedling.reading import UNKNOWN
from recipes.seedling.relations import ANSWERS_TO, KINDS, clash, entities
from recipes.seedling.topics import TOPICS
from recipes.seedling.world import ABILITIES, LATER, Conversation, World, conversations
from recipes.seedling.writer import Forms, Writer, word_side

SIDES: tuple[writer.Side, ...] = ("train", "test")


def some(side: writer.Side, count: int, ability: str | None = None, seed: int = 3) -> list[Conversation]:
    return list(itertools.islice(conversations(seed, side, ability), count))


def shared(left: Iterable[Conversation], right: Iterable[Conversation], kind: str) -> set[str]:
    a, b = ({x.lower() for c in side for x in getattr(c, kind)} for side in (left, right))
    return a & b


def test_sides_share_no_name() -> None:
    assert shared(some("train", 6000), some("test", 6000), "names") == set()


def test_sides_share_no_wording() -> None:
    assert shared(some("train", 6000), some("test", 6000), "wordings") == set()


def test_without_the_rule_for_words_the_sides_do_share_names(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: Iterator[writer.Side] = itertools.cycle(("train", "test"))
    for module in (writer, facts):
        monkeypatch.setattr(module, "word_side", lambda word: next(sides))
    assert shared(some("train", 3000), some("test", 3000), "names")


def test_without_the_rule_for_wordings_the_sides_do_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forms, "of", lambda self, side: (*self.train, *self.test))
    assert shared(some("train", 500), some("test", 500), "wordings")


def test_no_wording_is_written_down_for_both_sides() -> None:
    """Seen in the lists themselves: rare wordings might not come up in a sample."""
    written = [item for item in gc.get_objects() if type(item) is Forms]
    train, test = ({line.lower() for f in written for line in f.of(side)} for side in SIDES)
    assert len(train) > 500 and len(test) > 150
    assert train & test == set()


def plain(text: str) -> str:
    """Letters, digits and slots alone: punctuation and capitals make no other wording."""
    return re.sub(r"[^a-z0-9{} ]", "", re.sub(r"\s+", " ", text.lower().replace("\\n", " "))).strip()


def test_wordings_of_the_sides_differ_in_more_than_punctuation() -> None:
    written = [item for item in gc.get_objects() if type(item) is Forms]
    train, test = ({plain(line) for f in written for line in f.of(side)} for side in SIDES)
    assert train & test == set()


def asked_or_told(side: writer.Side) -> set[str]:
    """Every question and statement about a written relation, its thing and value left open."""
    said = set()
    for r in facts.WRITTEN:
        clauses = [c for q in r.questions.of(side) if (c := as_clause(q))]
        asks = (
            *questions.ASKS.of(side),
            *(questions.BY_VALUE[r.make].of(side) if r.make in questions.BY_VALUE else ()),
        )
        phrases = [p.format(a=n, e="{e}") for n in r.nouns for p in questions.PHRASES.of(side)]
        said |= {
            plain(f"{r.kind} {line}")
            for line in (
                *r.questions.of(side),
                *(o.format(c=c) for c in clauses for o in questions._OPENERS.of(side)),
                *(a.format(np=np) for np in phrases for a in asks),
                *r.statements.of(side),
                *(line.replace("{a}", n) for line in facts._COMPOSED_STATEMENTS.of(side) for n in r.nouns),
            )
        }
    return said


def test_nothing_is_asked_or_told_in_the_same_words_on_both_sides() -> None:
    """What is put together from two lists of one side may equal what stands in a list of the other."""
    train, test = asked_or_told("train"), asked_or_told("test")
    assert len(train) > 50_000 and len(test) > 8_000
    assert train & test == set()


def test_no_listed_name_of_one_side_is_invented_by_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    syllables = [a + b for a in set(writer.ONSETS) for b in set(writer.VOWELS)]
    short = ((a + b + c).capitalize() for a in syllables for b in syllables for c in set(writer.CODAS))
    listed = {name for names in (writer.FIRST_NAMES, writer.CITIES) for name in (*names.train, *names.test)}
    invented = {word for word in short if word in listed}
    assert "Karen" in invented, "the test would notice"
    held_out = {name for names in (writer.FIRST_NAMES, writer.CITIES) for name in names.test}
    assert {name for name in invented & held_out if word_side(name) == "train"} == set()
    assert "Karen" in writer.FIRST_NAMES.train and word_side("Karen") == "test"
    hand = Writer("test")
    hand.begin(random.Random(0))
    monkeypatch.setattr(hand, "one", Spelling("k", "a", "r", "e", "n", "m", "o", "m", "o", "").next)
    assert hand.word(2) == "Momo"


class Spelling:
    """Instead of chance: the next letters in a row."""

    def __init__(self, *letters: str) -> None:
        self._letters = iter(letters)

    def next(self, options: object) -> str:
        return next(self._letters)


def test_what_is_open_to_both_sides_is_as_much_as_the_readme_says() -> None:
    topic_names = {name for topic in TOPICS for name in topic.names}
    answers = [c.answer for c in items("classify", 1000)]
    assert sum(a in topic_names for a in answers) / len(answers) == pytest.approx(0.34, abs=0.02)
    trained = {key for c in some("train", 4000, "extract") for key in json.loads(c.answer)}
    keys = [key for c in items("extract", 1000) for key in json.loads(c.answer)]
    assert sum(key in trained for key in keys) / len(keys) == pytest.approx(0.59, abs=0.03)


def test_names_of_a_conversation_are_of_its_side() -> None:
    for side in SIDES:
        names = {name for c in some(side, 500) for name in c.names}
        assert len(names) > 500
        assert {word_side(name) for name in names} == {side}


def test_the_world_is_a_pure_function_of_its_seed() -> None:
    assert some("train", 200) == some("train", 200)
    assert some("train", 200) != some("train", 200, seed=4)


def test_the_world_does_not_repeat_itself() -> None:
    told = [c.messages for c in some("train", 3000, "answer")]
    assert len({str(m) for m in told}) == len(told)


def test_later_on_each_passage_is_asked_more_and_the_test_side_stays_as_it_is() -> None:
    def read(side: writer.Side, *, is_later: bool) -> list[Conversation]:
        source, world = random.Random(2), World(side, is_later=is_later)
        return [world.next(source, "answer") for _ in range(300)]

    replies = [sum(len(c.messages) for c in read("train", is_later=later)) for later in (False, True)]
    assert replies[1] > 1.15 * replies[0]
    assert read("test", is_later=True) == read("test", is_later=False)
    assert set(LATER) < set(ABILITIES)


@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize("side", SIDES)
def test_every_conversation_ends_with_a_reply_and_takes_turns(ability: str, side: writer.Side) -> None:
    for conversation in some(side, 150, ability):
        roles = [m.role for m in conversation.messages if m.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert conversation.answer.strip() == conversation.answer != ""
        assert not any("{" in m.text and ability != "extract" for m in conversation.messages), (
            "a slot left unfilled"
        )


@pytest.mark.parametrize("side", SIDES)
def test_an_answer_stands_in_its_passage_and_a_lacking_one_does_not_pretend(side: writer.Side) -> None:
    for conversation in some(side, 300, "answer"):
        asked = " ".join(m.text for m in conversation.prompt).lower()
        assert conversation.answer == UNKNOWN or conversation.answer.lower() in asked
    assert {c.answer for c in some("test", 100, "lacks")} == {UNKNOWN}
    assert {c.answer for c in some(side, 100, "unknown")} == {UNKNOWN}


def passages(side: writer.Side, count: int) -> Iterator[tuple[Writer, facts.Passage]]:
    hand, source = Writer(side), random.Random(5)
    for _ in range(count):
        hand.begin(source)
        yield hand, facts.passage(hand, 6)


@pytest.mark.parametrize("side", SIDES)
def test_no_question_has_two_answers_in_a_passage(side: writer.Side) -> None:
    for _, told in passages(side, 500):
        for one, other in itertools.combinations(told.facts, 2):
            assert one.entity != other.entity or not clash(one.relation, other.relation)


@pytest.mark.parametrize("side", SIDES)
def test_what_a_passage_lacks_is_not_in_it_in_other_words(side: writer.Side) -> None:
    for hand, told in passages(side, 500):
        thing, about = facts.missing(hand, told)
        assert not any(f.entity == thing and clash(f.relation, about) for f in told.facts)


@pytest.mark.parametrize("side", SIDES)
def test_a_value_stands_in_its_sentence_letter_for_letter(side: writer.Side) -> None:
    for _, told in passages(side, 500):
        assert all(f.value in f.sentence and f.sentence in told.text for f in told.facts)


def test_facts_clash_when_their_values_would_answer_one_question() -> None:
    of_project = {r.nouns[0]: r for r in facts.WRITTEN if r.kind == "project"}
    assert clash(of_project["leader"], of_project["client"]), "both answer who"
    assert not clash(of_project["leader"], of_project["deadline"])


def test_every_kind_of_value_and_thing_has_its_place() -> None:
    makes = {r.make for r in facts.WRITTEN} | {m for nouns in facts.NOUNS.values() for m in nouns}
    assert makes <= set(ANSWERS_TO)
    assert {r.kind for r in facts.WRITTEN} == set(facts.NOUNS) == set(KINDS)


def test_things_of_a_passage_are_told_apart_by_name() -> None:
    hand = Writer("test")
    for kind in KINDS:
        assert len({thing.called for thing in entities(hand, kind, 4)}) == 4


@pytest.mark.parametrize(
    ("question", "clause"),
    [
        ("Where does {e} work?", "where {e} works"),
        ("Where is the head office of {e}?", "where the head office of {e} is"),
        ("Who has to approve {e}?", "who has to approve {e}"),
        ("By when must {e} be finished?", "by when {e} must be finished"),
        ("What do customers pay for {e}?", "what customers pay for {e}"),
        ("How many pieces of {e} are left?", "how many pieces of {e} are left"),
        ("From when does {e} apply?", "from when {e} applies"),
        ("When did {e} join?", None),
        ("I want to buy {e}; how much is it?", None),
    ],
)
def test_a_question_becomes_a_clause_or_is_left_alone(question: str, clause: str | None) -> None:
    assert as_clause(question) == clause


def test_extracted_json_has_the_keys_asked_for_and_values_from_the_text() -> None:
    for conversation in some("test", 300, "extract"):
        asked = " ".join(m.text for m in conversation.prompt)
        for key, value in json.loads(conversation.answer).items():
            assert key in asked
            assert value is None or str(value).lower() in asked.lower()


def test_labels_stand_in_the_prompt() -> None:
    assert all(any(c.answer in m.text for m in c.prompt) for c in some("test", 300, "classify"))


def test_sums_are_right_where_they_are_written_as_sums() -> None:
    seen = 0
    for conversation in some("train", 300, "sums"):
        pairs = itertools.pairwise(conversation.messages)
        for asked, reply in pairs:
            sum_ = asked.text.removesuffix(" =").removeprefix("Compute ").removesuffix(".")
            if asked.role == "user" and sum_.replace(" ", "").strip("0123456789") in "+-*" and " " in sum_:
                a, sign, b = sum_.split()
                assert (
                    int(reply.text)
                    == {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
                )
                seen += 1
    assert seen > 30


def test_it_says_what_it_is() -> None:
    assert talk.WHO in {c.answer for c in some("test", 100, "small_talk")}


def test_a_list_of_fewer_than_four_wordings_is_refused() -> None:
    with pytest.raises(AssertionError, match="four wordings"):
        Forms("one", "two", "three")


def test_a_writer_hands_out_only_words_of_its_side() -> None:
    for side in SIDES:
        hand = Writer(side)
        assert {word_side(hand.word()) for _ in range(2000)} == {side}
