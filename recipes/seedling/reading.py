"""Tasks about a passage: answer, admit that it does not say, quote, list, follow up, and questions without one.

A task is a function of a writer that returns the turns of one conversation. Replies have one form on both
sides, so that an exact match means something; only what is asked differs.
"""

from __future__ import annotations

from typing import Literal

from recipes.seedling import facts
from recipes.seedling.facts import Fact, Passage
from recipes.seedling.questions import PHRASES, led_in
from recipes.seedling.relations import KINDS, Entity, Relation, entities, entity
from recipes.seedling.writer import Writer, forms

Role = Literal["system", "user", "assistant"]
Turns = list[tuple[Role, str]]
"""Role and text of each turn."""

UNKNOWN = "I don't know."

_LAYOUTS = forms(r"""{p}\n\n{q}
    Passage: {p}\n\nQuestion: {q}
    Context:\n{p}\n\n{q}
    Read this:\n{p}\n\nNow answer: {q}
    {p}\n{q}
    {q}\n\n{p}
    Here is a note.\n{p}\n\n{q}
    Notes:\n{p}\n\n{q}
    Answer from the text.\n{p}\n{q}
    Question: {q}\nText: {p}
    From the handbook:\n{p}\n\n{q}
    Question: {q}\nPassage: {p}
    Read this:\n{p}\n{q}
    Text: {p}\n\nQuestion: {q}
    {p}\n\nNow answer this: {q}
    Text:\n{p}\n\nNow answer: {q}
    Notes: {p}\nQuestion: {q}
    Use this text.\n{p}\n\n{q}
    {q} The answer may be here:\n{p}
    {q} Answer from this text:\n{p}""")
_RULES = forms(r"""Answer from the passage. If it does not say, answer "I don't know."
    Use only the text you are given.
    Answer in as few words as you can. If the text lacks the answer, say "I don't know."
    Use only the passage you are given. If it lacks the answer, say "I don't know."
    You answer questions about a text.
    If you cannot find the answer in the text, say "I don't know."
    Do not guess.
    You answer questions from a passage. Do not guess.
    Keep to the notes.
    Say "I don't know." if the text does not help.
    Give short answers.
    Give short answers and keep to the text.
    You are a helper who answers from notes.
    Answer with the value only.
    Never make anything up. If you do not know, say "I don't know."
    Never guess. If the notes do not say, answer "I don't know."
    The user sends you a text and a question.
    Find the answer in the text.
    Answer in a few words, from the text alone.
    Find the answer in the passage and answer in a few words.""")
_HOLDERS = forms(r"""Here is what you know:\n{p}
    Context:\n{p}
    Use these notes.\n{p}
    Here are your notes.\n{p}
    {p}
    Answer from this text:\n{p}
    Facts:\n{p}
    Here are the facts:\n{p}
    You know this:\n{p}
    Company notes:\n{p}
    Answer questions from these notes:\n{p}
    Answer questions from this text:\n{p}
    What you know:\n{p}
    Text: {p}
    Notes to use:\n{p}
    Facts that you know:\n{p}""")
_AGAIN = forms(r"""And {q}
    One more: {q}
    Also, {q}
    One more question: {q}
    Thanks. {q}
    Good. {q}
    OK, {q}
    Good, thanks. {q}
    Next: {q}
    Now, {q}
    Another question: {q}
    And another question: {q}
    And now, {q}
    Thank you. {q}
    Next question: {q}
    Thank you. Next question: {q}""")


def _open(w: Writer, text: str, asked: str) -> Turns:
    """The turns up to the first reply: passage and question in one turn, or the passage with the system."""
    place = w.random.random()
    if place < 0.12:
        return [("system", w.say(_HOLDERS, p=text)), ("user", asked)]
    turns: Turns = [("system", w.say(_RULES))] if place < 0.3 else []
    return [*turns, ("user", w.say(_LAYOUTS, p=text, q=asked))]


def _further(w: Writer, told: Passage, turns: Turns, first: int) -> Turns:
    """More questions on the same passage: practice for the training side, which makes each passage worth more."""
    if w.side == "test":
        return turns
    order = [i for i in w.shuffled(range(len(told.facts))) if i != first]
    for _ in range(w.times(0, 6 if len(told.facts) < 5 else 4)):
        lacks = w.chance(0.3)
        if not lacks and not order:
            break
        thing, about, value = _lacking(w, told) if lacks else _stated(told.facts[order.pop()])
        asked = facts.question(w, thing, about, is_first=False)
        turns.append(("user", led_in(w, _AGAIN, asked) if w.chance(0.2) else asked))
        turns.append(("assistant", value))
    return turns


def _size(w: Writer) -> int:
    """How many facts a passage holds: more often few, so that each conversation is short."""
    return w.number(1, w.number(1, 8))


def _stated(fact: Fact) -> tuple[Entity, Relation, str]:
    return fact.entity, fact.relation, fact.value


def _lacking(w: Writer, told: Passage) -> tuple[Entity, Relation, str]:
    return *facts.missing(w, told), UNKNOWN


def answer(w: Writer) -> Turns:
    """A value that the passage states."""
    told = facts.passage(w, _size(w))
    chosen = w.number(0, len(told.facts) - 1)
    fact = told.facts[chosen]
    turns = _open(w, told.text, facts.question(w, fact.entity, fact.relation))
    return _further(w, told, [*turns, ("assistant", fact.value)], chosen)


def lacks(w: Writer) -> Turns:
    """A question that the passage does not answer."""
    told = facts.passage(w, _size(w))
    turns = _open(w, told.text, facts.question(w, *facts.missing(w, told)))
    return _further(w, told, [*turns, ("assistant", UNKNOWN)], -1)


def unknown(w: Writer) -> Turns:
    """Questions about invented things, with nothing to read."""
    turns: Turns = [("system", w.say(_RULES))] if w.chance(0.05) else []
    kind = w.one(KINDS)
    for i in range(w.times(1, 3)):
        if i and w.chance(0.3):
            asked = w.say(_OF_OTHER, e=entity(w, kind).called)
        else:
            asked = facts.question(w, entity(w, kind), facts.relation(w, kind))
        turns += [("user", asked), ("assistant", UNKNOWN)]
    return turns


_QUOTE = forms(r"""Answer with the sentence that says it.
    Answer in a full sentence.
    Quote the sentence that answers the question.
    Answer with the sentence that answers the question.
    Give the whole sentence from the text.
    Reply with the sentence from the passage.
    Copy the sentence that has the answer.
    Copy the sentence that says it.
    Quote the text.
    Repeat the sentence that says it.
    Give me the full sentence that has the answer.
    Quote the sentence that has the answer.
    Reply with the whole sentence.
    Reply with the sentence that says so.
    Which sentence says so? Give it in full.
    Which sentence says it? Quote it.""")


def quote(w: Writer) -> Turns:
    """The sentence of the passage that answers, word for word."""
    told = facts.passage(w, 1 + w.number(1, 3))
    turns: Turns = []
    rule = w.say(_QUOTE)
    by_system = w.chance(0.4)
    for i in w.shuffled(range(len(told.facts)))[: w.times(1, 3)]:
        fact = told.facts[i]
        asked = facts.question(w, fact.entity, fact.relation)
        asked = asked if by_system else f"{asked} {rule}"
        if not turns:
            turns = [("system", rule)] if by_system else []
            asked = w.say(_LAYOUTS, p=told.text, q=asked)
        turns += [("user", asked), ("assistant", fact.sentence)]
    return turns


_CHECK = forms(r"""Is {v} right for {np}? Answer yes or no.
    Yes or no: {np} is {v}.
    Is it true that {np} is {v}?
    Is it right that {np} is {v}?
    Is it true that {v} is {np}?
    Can you confirm that {np} is {v}?
    Is {np} {v}?
    Is {np} {v}? Answer yes or no.
    Please check: is {v} {np}?
    Somebody says {np} is {v}. Is that right?
    Somebody told me that {np} is {v}. Is that true?
    Somebody says that {np} is {v}. Is it true?
    True or not: {np} is {v}. Answer yes or no.
    Do you agree that {np} is {v}?
    Is it correct that {v} is {np}?
    Please confirm: is {v} {np}?""")


_PHRASE = "the {a} of {e}"
"""How the training side calls what it checks; the test side has its own ways."""


def check(w: Writer) -> Turns:
    """Whether a claim agrees with the passage: Yes or No. False ones often are true of something else in it."""
    told = facts.passage(w, w.number(1, 4))
    turns: Turns = []
    for i in w.shuffled(range(len(told.facts)))[: w.times(1, 3)]:
        fact = told.facts[i]
        is_true = w.chance(0.5)
        alike = [f.value for f in told.facts if f.relation.make is fact.relation.make and f is not fact]
        other = w.one(alike) if alike and w.chance(0.4) else fact.relation.make(w)
        claimed = fact.value if is_true else other
        noun = w.one(fact.relation.nouns)
        slots = {"a": noun, "e": fact.entity.called}
        phrase = w.say(PHRASES, **slots) if w.side == "test" else _PHRASE.format(**slots)
        asked = facts.capital(w.say(_CHECK, np=phrase, v=claimed))
        turns += _open(w, told.text, asked) if not turns else [("user", asked)]
        turns.append(("assistant", "Yes" if claimed == fact.value else "No"))
    return turns


_OF_OTHER = forms(r"""And for {e}?
    What about {e}?
    And {e}?
    And what about {e}?
    How about {e}?
    The same for {e}?
    Now for {e}.
    And now for {e}?
    And the same for {e}?
    Same question for {e}.
    I ask the same about {e}.
    Now the same question for {e}.
    OK, and {e}?
    And now {e}?
    Thanks. And for {e}?
    OK, and what about {e}?
    Then {e}?
    Tell me the same for {e}.
    And how about {e}?
    Thanks. How about {e}?""")
_OF_SAME = forms(r"""And the {a}?
    What about the {a}?
    And {its} {a}?
    And what about the {a}?
    How about the {a}?
    And what is the {a}?
    What is {its} {a}?
    And what is {its} {a}?
    Also the {a}.
    Now the {a}.
    The {a}, too, please.
    Also the {a}, please.
    Tell me the {a} as well.
    OK, and the {a}?
    Thanks. What about the {a}?
    Thanks. And the {a}?
    And tell me {its} {a}.
    Now {its} {a}, please.
    And how about the {a}?
    Now the {a}, please.""")
_TOLD = forms(r"""{s}
    Please note: {s}
    For your information: {s}
    Please note for your information: {s}
    Remember this: {s}
    Keep in mind: {s}
    I have news. {s}
    Please keep this in mind: {s}
    Note this: {s}
    You should know: {s}
    Please remember: {s}
    Please note this. {s}""")


def follow_up(w: Writer) -> Turns:
    """A second question that leans on the first, or on something that the user told before."""
    return _told_before(w) if w.chance(0.3) else _leaning(w)


def _told_before(w: Writer) -> Turns:
    """Something that the user told, and a question about it."""
    told = facts.passage(w, w.number(1, 2))
    turns: Turns = [
        ("user", w.say(_TOLD, s=" ".join(f.sentence for f in told.facts))),
        ("assistant", "Noted."),
    ]
    thing, about, value = _stated(w.one(told.facts)) if w.chance(0.8) else _lacking(w, told)
    return [*turns, ("user", facts.question(w, thing, about)), ("assistant", value)]


def _leaning(w: Writer) -> Turns:
    """Two or three things with two relations each; the later questions name only what changes."""
    kind = w.one(KINDS)
    things = entities(w, kind, w.number(2, 3))
    abouts = facts.apart(w, kind, 2)
    pairs = {(t, a.nouns): facts.fact(w, t, a) for t in things for a in abouts}
    text = " ".join(f.sentence for f in w.shuffled(list(pairs.values())))
    thing, about = w.one(things), w.one(abouts)
    turns = _open(w, text, facts.question(w, thing, about))
    turns.append(("assistant", pairs[thing, about.nouns].value))
    for _ in range(w.times(1, 4)):
        if w.chance(0.5):
            thing = w.one([t for t in things if t != thing])
            asked = w.say(_OF_OTHER, e=thing.called)
        else:
            about = abouts[1] if about is abouts[0] else abouts[0]
            asked = w.say(_OF_SAME, a=w.one(about.nouns), its=thing.its)
        turns += [("user", asked), ("assistant", pairs[thing, about.nouns].value)]
    return turns


_LIST = forms(r"""List every {n} named in the text.
    Which {ns} does the text name?
    Name all {ns} in the text.
    List all {ns} named in the text.
    Give me each {n} that is mentioned.
    What {ns} are mentioned?
    Make a list of the {ns}.
    Which {ns} are mentioned?
    Which {ns} are named?
    Name every {n}.
    List all {ns} that you find.
    List the {ns}.
    All {ns}, please.
    Tell me which {ns} the text names.
    Write down each {n} in the text.
    Name the {ns} in the text.""")
_PLURALS = {
    "product": "products",
    "person": "people",
    "company": "companies",
    "project": "projects",
    "event": "events",
    "machine": "machines",
}


def list_names(w: Writer) -> Turns:
    """Every entity of a passage, in its order, one after the other."""
    kind = w.one(tuple(_PLURALS))
    things = entities(w, kind, w.number(1, 4))
    lines = [facts.fact(w, t, _naming_no_other(w, kind)) for t in things]
    text = " ".join(line.sentence for line in lines)
    in_order = sorted({t.name for t in things}, key=text.find)
    turns = _open(w, text, w.say(_LIST, n=kind, ns=_PLURALS[kind]))
    return [*turns, ("assistant", ", ".join(in_order))]


def _naming_no_other(w: Writer, kind: str) -> Relation:
    """A relation whose value is nothing that a list of this kind would have to hold, too."""
    while True:
        about = facts.relation(w, kind)
        if about.make not in (Writer.person, Writer.company):
            return about
