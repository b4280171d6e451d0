"""Tasks about a passage: answer, admit that it does not say, quote, list, follow up, and questions without one.

A task is a function of a writer that returns the turns of one conversation. Replies have one form on both
sides, so that an exact match means something; only what is asked differs.
"""

from __future__ import annotations

from typing import Literal

from recipes.seedling import facts
from recipes.seedling.facts import Passage
from recipes.seedling.relations import KINDS, Entity, Relation, entity
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
    Notes:\n{p}\nUse them for this. {q}
    Answer from the text.\n{p}\n{q}
    Question: {q}\nText: {p}
    From the handbook:\n{p}\n\n{q}
    {q} The answer may be here:\n{p}""")
_RULES = forms(r"""Answer from the passage. If it does not say, answer "I don't know."
    Use only the text you are given.
    Answer in as few words as you can. If the text lacks the answer, say "I don't know."
    Rely on the passage alone, and admit it when it does not help.
    You answer questions about a text.
    If you cannot find the answer in the text, say "I don't know."
    Do not guess.
    Take answers from the notes only.""")
_HOLDERS = forms(r"""Here is what you know:\n{p}
    Context:\n{p}
    Use these notes.\n{p}
    Company notes follow.\n{p}
    {p}
    Answer from this text:\n{p}
    Facts:\n{p}
    The text to use is this:\n{p}""")
_AGAIN = forms(r"""And {q}
    One more: {q}
    Also, {q}
    Next question: {q}
    Thanks. {q}
    Good. {q}
    OK, {q}
    Then tell me this: {q}""")


def _lower(text: str) -> str:
    """A question as it stands inside a sentence."""
    head = text.split(" ", 1)[0]
    is_plain = head.isalpha() and head in (
        "What",
        "Who",
        "When",
        "Where",
        "How",
        "Which",
        "The",
        "In",
        "On",
        "For",
        "Tell",
    )
    return text[0].lower() + text[1:] if is_plain else text


def _open(w: Writer, text: str, asked: str) -> Turns:
    """The turns up to the first reply: passage and question in one turn, or the passage with the system."""
    place = w.random.random()
    if place < 0.12:
        return [("system", w.say(_HOLDERS, p=text)), ("user", asked)]
    turns: Turns = [("system", w.say(_RULES))] if place < 0.3 else []
    return [*turns, ("user", w.say(_LAYOUTS, p=text, q=asked))]


def _further(w: Writer, told: Passage, turns: Turns, first: int) -> Turns:
    """More questions on the same passage: practice for the training side, which makes each passage worth more."""
    order = w.shuffled(range(len(told.facts)))
    for i in [i for i in order if i != first][: w.number(0, 4) if w.side == "train" else 0]:
        lacks = w.chance(0.25)
        thing, about = _pick_missing(w, told) if lacks else (told.facts[i].entity, told.facts[i].relation)
        asked = facts.question(w, thing, about)
        turns.append(("user", w.say(_AGAIN, q=_lower(asked)) if w.chance(0.2) else asked))
        turns.append(("assistant", UNKNOWN if lacks else told.facts[i].value))
    return turns


def _size(w: Writer) -> int:
    """How many facts a passage holds: more often few, so that each conversation is short."""
    return w.number(1, w.number(1, 7))


def _pick_missing(w: Writer, told: Passage) -> tuple[Entity, Relation]:
    return facts.missing(w, told) if w.chance(0.5) else facts.unlike(w, told)


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
    turns = _open(w, told.text, facts.question(w, *_pick_missing(w, told)))
    return _further(w, told, [*turns, ("assistant", UNKNOWN)], -1)


def unknown(w: Writer) -> Turns:
    """Questions about invented things, with nothing to read."""
    turns: Turns = [("system", w.say(_RULES))] if w.chance(0.05) else []
    for _ in range(w.number(1, 3) if w.side == "train" else 1):
        kind = w.one(KINDS)
        asked = facts.question(w, entity(w, kind), facts.relation(w, kind))
        turns += [("user", asked), ("assistant", UNKNOWN)]
    return turns


_QUOTE = forms(r"""Answer with the sentence that says it.
    Answer in a full sentence.
    Quote the sentence that answers the question.
    Give the whole sentence from the text.
    Reply with the sentence from the passage.
    Copy the sentence that has the answer.
    Repeat the sentence that tells me.
    Which sentence says so? Quote it.""")


def quote(w: Writer) -> Turns:
    """The sentence of the passage that answers, word for word."""
    told = facts.passage(w, 1 + w.number(1, 3))
    turns: Turns = []
    rule = w.say(_QUOTE)
    by_system = w.chance(0.4)
    for i in w.shuffled(range(len(told.facts)))[: w.number(1, 3) if w.side == "train" else 1]:
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
    True that {np} is {v}? Say yes or no.
    Can you confirm that {np} is {v}?
    Is {np} {v}?
    Please check: is {v} {np}?
    Somebody says {np} is {v}. Is that so?""")


def check(w: Writer) -> Turns:
    """Whether a claim agrees with the passage: Yes, No, or that it does not say."""
    told = facts.passage(w, w.number(1, 4))
    turns: Turns = []
    for i in w.shuffled(range(len(told.facts)))[: w.number(1, 3) if w.side == "train" else 1]:
        fact = told.facts[i]
        is_true = w.chance(0.5)
        claimed = fact.value if is_true else fact.relation.make(w)
        phrase = f"the {w.one(fact.relation.nouns)} of {fact.entity.called}"
        asked = facts.capital(w.say(_CHECK, np=phrase, v=claimed))
        turns += _open(w, told.text, asked) if not turns else [("user", asked)]
        turns.append(("assistant", "Yes" if claimed == fact.value else "No"))
    return turns


_OF_OTHER = forms(r"""And for {e}?
    What about {e}?
    And {e}?
    How about {e}?
    The same for {e}?
    And that of {e}?
    Now for {e}.
    Same question for {e}.""")
_OF_SAME = forms(r"""And the {a}?
    What about the {a}?
    And its {a}?
    How about the {a}?
    The {a}, too?
    And what is the {a}?
    Also the {a}.
    The {a} as well, please.""")
_TOLD = forms(r"""{s}
    Please note: {s}
    For your information: {s}
    Remember this. {s}
    Keep in mind: {s}
    I have news. {s}
    Note that down: {s}
    You should know this: {s}""")


def follow_up(w: Writer) -> Turns:
    """A second question that leans on the first, or on something that the user told before."""
    if w.chance(0.3):
        told = facts.passage(w, w.number(1, 2))
        fact = w.one(told.facts)
        turns: Turns = [("user", w.say(_TOLD, s=told.text)), ("assistant", "Noted.")]
        asked_of = (fact.entity, fact.relation) if w.chance(0.8) else _pick_missing(w, told)
        value = fact.value if asked_of == (fact.entity, fact.relation) else UNKNOWN
        return [*turns, ("user", facts.question(w, *asked_of)), ("assistant", value)]
    kind = w.one(KINDS)
    things = [entity(w, kind) for _ in range(w.number(2, 3))]
    abouts = [facts.relation(w, kind), facts.relation(w, kind)]
    pairs = {(t.called, a.nouns): facts.fact(w, t, a) for t in things for a in abouts}
    text = " ".join(f.sentence for f in w.shuffled(list(pairs.values())))
    thing, about = w.one(things), w.one(abouts)
    first = pairs[thing.called, about.nouns]
    turns = _open(w, text, facts.question(w, thing, about))
    turns.append(("assistant", first.value))
    for _ in range(w.number(1, 3) if w.side == "train" else 1):
        others = [t for t in things if t.called != thing.called]
        if others and w.chance(0.5):
            thing = w.one(others)
            asked = w.say(_OF_OTHER, e=thing.called)
        else:
            about = abouts[1] if about.nouns == abouts[0].nouns else abouts[0]
            asked = w.say(_OF_SAME, a=w.one(about.nouns))
        turns += [("user", asked), ("assistant", pairs[thing.called, about.nouns].value)]
    return turns


_LIST = forms(r"""List every {n} named in the text.
    Which {ns} does the text name?
    Name all {ns} in the text.
    Give me each {n} that is mentioned.
    What {ns} are mentioned?
    Make a list of the {ns}.
    List the {ns}.
    All {ns}, please.""")
_PLURALS = {
    "product": "products",
    "person": "people",
    "company": "companies",
    "project": "projects",
    "event": "events",
}


def list_names(w: Writer) -> Turns:
    """Every entity of a passage, in its order, one after the other."""
    kind = w.one(tuple(_PLURALS))
    things = [entity(w, kind) for _ in range(w.number(1, 4))]
    lines = [facts.fact(w, t, facts.relation(w, kind)) for t in things]
    text = " ".join(line.sentence for line in lines)
    in_order = sorted({t.name for t in things}, key=text.find)
    turns = _open(w, text, w.say(_LIST, n=kind, ns=_PLURALS[kind]))
    return [*turns, ("assistant", ", ".join(in_order))]
