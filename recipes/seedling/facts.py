"""Facts, questions and passages about invented things.

Beside the relations written out in `relations`, others are composed on the spot from an adjective, a noun and a
kind of value, which makes attributes as endless as names. It knows nothing of chats.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.seedling.relations import KINDS, WRITTEN, Entity, Relation, entity
from recipes.seedling.writer import Forms, Make, Writer, forms, word_side, words

W = Writer


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation of one entity, with its value and a sentence that states it."""

    entity: Entity
    relation: Relation
    value: str
    sentence: str


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ── composed relations ────────────────────────────────────────────────────────────────────────────────────

ADJECTIVES = words(
    "spare main annual monthly second backup winter summer internal external official temporary regional first "
    "special standard guest night weekend visitor general joint local final early late yearly emergency overseas "
    "holiday"
)
NOUNS: dict[Make, tuple[str, ...]] = {
    W.person: tuple(
        words("contact reviewer sponsor deputy inspector trainer owner buyer escort caretaker driver host")
    ),
    W.date: ("audit date", "review date", "inspection date", "renewal date", "closing date", "test date"),
    W.money: ("fee", "deposit", "allowance", "penalty", "rent", "bonus", "limit", "charge", "subsidy"),
    W.code: (
        "access code",
        "file number",
        "batch number",
        "badge number",
        "locker code",
        "door code",
        "password",
    ),
    W.count: ("quota", "capacity", "stock", "number of seats", "number of desks", "page count"),
    W.duration: ("notice period", "trial period", "waiting time", "shelf life", "lead time", "reply time"),
    W.percent: ("discount", "tax rate", "share", "target", "error rate"),
    W.city: ("depot", "destination", "branch", "training place", "warehouse"),
    W.room: ("meeting room", "storage room", "service desk", "archive"),
    W.phone: ("hotline", "phone number", "fax number"),
    W.weekday: ("delivery day", "cleaning day", "pickup day", "rest day"),
    W.colour: ("badge colour", "label colour", "file colour", "code colour"),
    W.time: ("opening time", "closing time", "lunch time", "pickup time"),
    W.department: ("partner department", "home department", "sponsor department"),
}
_MAKES = tuple(NOUNS)
_COMPOSED_STATEMENTS = forms("""The {a} of {e} is {v}.
    {e} has {v} as its {a}.
    The {a} for {e} is {v}.
    {v} is the {a} of {e}.
    For {e}, the {a} is {v}.
    As for {e}, its {a} is {v}.
    {e}: {a} {v}.
    {v} serves as the {a} for {e}.
    {a} of {e}: {v}.
    The {a} of {e} was set to {v}.
    The {a} that belongs to {e} is {v}.
    {e} got {v} for its {a}.""")
_BY_VALUE: dict[Make, Forms] = {
    W.person: forms("""Who is {np}?
        Can you say who {np} is?
        Who acts as {np}?
        Who would be {np}?"""),
    W.date: forms("""When is {np}?
        On which day is {np}?
        On what date is {np}?
        What day is {np}?"""),
    W.money: forms("""How much is {np}?
        What amount is {np}?
        How high is {np}?
        How much money is {np}?"""),
    W.duration: forms("""How long is {np}?
        How much time is {np}?
        For how long is {np}?
        What length of time is {np}?"""),
    W.city: forms("""Where is {np}?
        In which city is {np}?
        In what place is {np}?
        Which city is {np} in?"""),
    W.room: forms("""Where is {np}?
        Where do I find {np}?
        In which part of the building is {np}?
        Where can {np} be found?"""),
}
_ASKS = forms("""What is {np}?
    Tell me {np}.
    Do you know {np}?
    Please give me {np}.
    I need {np}.
    Can you tell me {np}?
    I would like to know {np}.
    What's {np}?
    Look up {np}.
    {np}?
    Find {np}, please.
    Could you look up {np} for me?
    State {np}.
    What do we have as {np}?
    Any idea what {np} is?
    Quick question: what is {np}?
    I am looking for {np}.
    Name {np}.
    Give me {np}.
    Somebody asked me for {np}; what is it?
    Hello, what is {np}?
    What did they say {np} was?
    Remind me of {np}.
    Let me know {np}, will you?""")
_PHRASES = forms("""the {a} of {e}
    {e}'s {a}
    the {a} for {e}
    the {a} that {e} has
    the {a} of {e}
    the {a} used for {e}
    the {a} at {e}
    the {a} belonging to {e}""")


def composed(w: Writer, kind: str) -> Relation:
    """A relation whose noun is put together on the spot; nouns have sides as words have."""
    while True:
        make = w.one(_MAKES)
        noun = w.one(NOUNS[make])
        if w.chance(0.7):
            noun = f"{w.one(ADJECTIVES)} {noun}"
        if word_side(noun) == w.side:
            w.names.append(noun)
            return Relation(kind, (noun,), make, _COMPOSED_STATEMENTS, _BY_VALUE.get(make, _ASKS))


_WRITTEN_OF = {kind: tuple(r for r in WRITTEN if r.kind == kind) for kind in KINDS}


def relation(w: Writer, kind: str) -> Relation:
    known = _WRITTEN_OF[kind]
    return w.one(known) if known and w.chance(0.5) else composed(w, kind)


def fact(w: Writer, thing: Entity, about: Relation) -> Fact:
    value = about.make(w)
    noun = w.one(about.nouns)
    statements = _COMPOSED_STATEMENTS if w.chance(0.2) else about.statements
    return Fact(thing, about, value, capital(w.say(statements, a=noun, e=thing.called, v=value)))


def question(w: Writer, thing: Entity, about: Relation) -> str:
    """Asks for a relation of an entity, in one of many wordings."""
    phrase = w.say(_PHRASES, a=w.one(about.nouns), e=thing.called)
    own = about.questions
    if own is _ASKS or w.chance(0.45):
        own = _BY_VALUE[about.make] if about.make in _BY_VALUE and w.chance(0.3) else _ASKS
    asked = capital(w.say(own, e=thing.called, np=phrase))
    return asked.lower() if w.chance(0.03) and w.side == "train" else asked


# ── passages ──────────────────────────────────────────────────────────────────────────────────────────────

_ASIDES = forms("""The room was quiet that day.
    Everyone agreed on the next steps.
    More details will follow soon.
    No other changes were made.
    Please keep this page up to date.
    The list was checked last week.
    Questions go to the front desk.
    The old version is no longer valid.
    This note is for internal use.
    Some points are still open.
    Thanks to all who helped.
    The rest was left as it was.""")


@dataclass(frozen=True, slots=True)
class Passage:
    """Facts and the text that states them."""

    text: str
    facts: tuple[Fact, ...]

    def about(self, thing: Entity) -> list[Fact]:
        return [f for f in self.facts if f.entity == thing]


def facts(w: Writer, count: int) -> list[Fact]:
    """Facts of a few entities, often of one kind and one relation, so that a reader must tell them apart."""
    kind = w.one(KINDS)
    things = [entity(w, kind) for _ in range(w.number(1, max(1, (count + 1) // 2)))]
    abouts = [relation(w, kind) for _ in range(w.number(1, 3))]
    pairs = [(t, a) for t in things for a in abouts]
    while len(pairs) < count:
        other = w.one(KINDS) if w.chance(0.3) else kind
        thing = entity(w, other) if other != kind or w.chance(0.4) else w.one(things)
        pairs.append((thing, relation(w, other)))
    told: list[Fact] = []
    seen: set[tuple[str, str]] = set()
    for thing, about in w.shuffled(pairs)[:count]:
        if not any((thing.called, noun) in seen for noun in about.nouns):
            seen.update((thing.called, noun) for noun in about.nouns)
            told.append(fact(w, thing, about))
    return told


def passage(w: Writer, count: int) -> Passage:
    told = facts(w, count)
    lines = [f.sentence for f in told]
    if w.chance(0.25):
        lines.insert(w.number(0, len(lines)), w.say(_ASIDES))
    layout = w.random.random()
    text = (
        " ".join(lines) if layout < 0.75 else "\n".join(lines) if layout < 0.87 else "- " + "\n- ".join(lines)
    )
    return Passage(text, tuple(told))


def missing(w: Writer, told: Passage) -> tuple[Entity, Relation]:
    """Something that a passage does not say: of an entity in it, or of one like it that it never names."""
    known = w.one(told.facts)
    stated = {f.relation.make for f in told.facts}
    for _ in range(20):
        about = relation(w, known.entity.kind)
        if about.make not in stated:
            return known.entity, about
    return entity(w, known.entity.kind), known.relation


def unlike(w: Writer, told: Passage) -> tuple[Entity, Relation]:
    """A relation that the passage states, of an entity that it never names."""
    known = w.one(told.facts)
    stranger = entity(w, known.entity.kind)
    return (stranger, known.relation) if stranger not in [f.entity for f in told.facts] else missing(w, told)
