from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter

import pytest

from recipes.seedling import choosing, labels
from recipes.seedling.topics import TOPICS
from recipes.seedling.world import Conversation, conversations
from recipes.seedling.writer import Side, Writer

SIDES: tuple[Side, ...] = ("train", "test")


def some(side: Side, count: int, ability: str) -> list[Conversation]:
    return list(itertools.islice(conversations(7, side, ability), count))


def replies(conversation: Conversation) -> list[tuple[str, str]]:
    """Each reply with all that the user and the system said before it."""
    told, found = "", []
    for message in conversation.messages:
        if message.role == "assistant":
            found.append((told, message.text))
        else:
            told += message.text + "\n"
    return found


def common_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


@pytest.mark.parametrize("side", SIDES)
def test_every_value_stands_in_the_prompt_letter_for_letter(side: Side) -> None:
    for conversation in some(side, 500, "extract"):
        for told, reply in replies(conversation):
            for key, value in json.loads(reply).items():
                assert key in told
                assert value is None or str(value) in told


@pytest.mark.parametrize("side", SIDES)
def test_keys_come_in_the_order_of_the_prompt(side: Side) -> None:
    """Read from a system's turn, which holds no passage that might name a key in another order."""
    seen = 0
    for conversation in some(side, 400, "extract"):
        keys = list(json.loads(conversation.answer))
        assert 1 <= len(keys) == len(set(keys)) <= 5
        rule = conversation.messages[0].text
        if conversation.messages[0].role == "system" and "{" in rule:
            seen += 1
            places = [rule.index(f'"{key}"') for key in keys]
            assert places == sorted(places), (rule, keys)
    assert seen > 20


@pytest.mark.parametrize("side", SIDES)
def test_a_typed_key_has_a_value_of_its_type(side: Side) -> None:
    seen = 0
    for conversation in some(side, 600, "extract"):
        told, reply = replies(conversation)[0]
        for key, value in json.loads(reply).items():
            typed = re.search(rf'"{key}": "(string|integer|string or null|integer or null)"', told)
            if typed:
                seen += 1
                names = {str: "string", int: "integer", type(None): "null"}
                assert names[type(value)] in typed[1]
    assert seen > 100


def test_topics_are_many_and_each_has_enough_on_both_sides() -> None:
    assert len(TOPICS) >= 24
    assert len({name for t in TOPICS for name in t.names}) == sum(len(t.names) for t in TOPICS)
    for topic in TOPICS:
        assert len(topic.messages.train) >= 12 and len(topic.messages.test) >= 4
        assert len(topic.descriptions.train) >= 6 and len(topic.descriptions.test) >= 2


def test_what_the_test_side_says_of_a_topic_is_made_of_words_that_training_knows() -> None:
    """A held-out description or message recombines: at least half its longer words stand in its topic's others."""
    for topic in TOPICS:
        known = common_words(" ".join([*topic.messages.train, *topic.descriptions.train, *topic.words]))
        for text in [*topic.messages.test, *topic.descriptions.test]:
            held = common_words(text)
            assert not held or len(held & known) * 2 >= len(held), (topic.names, text, held - known)


@pytest.mark.parametrize("side", SIDES)
def test_a_label_is_copied_from_the_prompt_and_every_label_is_wanted_at_times(side: Side) -> None:
    for conversation in some(side, 300, "classify"):
        for told, reply in replies(conversation):
            assert reply in told
    hand = Writer(side)
    hand.begin(random.Random(1))
    assert all(labels.message(hand, topic) for topic in TOPICS)


def test_no_word_is_of_two_groups() -> None:
    assert max(Counter(word for group in choosing._GROUPS.values() for word in group).values()) == 1


@pytest.mark.parametrize("side", SIDES)
def test_counts_are_the_number_of_items(side: Side) -> None:
    seen = 0
    for conversation in some(side, 200, "count"):
        for asked, reply in itertools.pairwise(conversation.messages):
            if reply.role == "assistant" and "," in asked.text:
                assert int(reply.text) == asked.text.count(", ") + 1
                seen += 1
    assert seen > 30


@pytest.mark.parametrize("side", SIDES)
def test_of_two_numbers_the_one_asked_for_is_given(side: Side) -> None:
    seen = 0
    for conversation in some(side, 300, "compare"):
        for asked, reply in itertools.pairwise(conversation.messages):
            pair = re.search(r"\b(\d+) or (\d+)\b", asked.text)
            if reply.role == "assistant" and pair:
                is_less = re.search("less|small|low", asked.text)
                numbers = [int(pair[1]), int(pair[2])]
                assert int(reply.text) == (min(numbers) if is_less else max(numbers))
                seen += 1
    assert seen > 10
