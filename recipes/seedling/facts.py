"""Facts and passages about invented things.

Beside the relations written out, others are composed on the spot from an adjective, a noun and a kind of value,
which makes attributes as endless as names. It knows nothing of chats.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.seedling.questions import ASKS, capital
from recipes.seedling.questions import question as question
from recipes.seedling.relations import KINDS, Entity, Relation, clash, entities, entity, look_alike
from recipes.seedling.said_of_people import PEOPLE
from recipes.seedling.said_of_things import THINGS
from recipes.seedling.said_of_work import WORK
from recipes.seedling.writer import Make, Writer, forms, word_side, words

W = Writer
WRITTEN = (*PEOPLE, *WORK, *THINGS)


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation of one entity, with its value and a sentence that states it."""

    entity: Entity
    relation: Relation
    value: str
    sentence: str


# ── composed relations ────────────────────────────────────────────────────────────────────────────────────

ADJECTIVES = words(
    "spare main annual monthly second backup winter summer internal external official temporary regional first "
    "special standard guest night weekend visitor general joint local final early late yearly emergency overseas "
    "holiday third basic extra shared old new current weekly daily partial full combined central national seasonal "
    "preferred usual alternative permanent initial minimum maximum average private public outside"
)
Nouns = dict[Make, tuple[str, ...]]
_ANYWHERE: Nouns = {
    W.person: ("contact", "reviewer", "sponsor", "inspector", "trainer", "owner", "helper", "auditor", "adviser"),
    W.date: ("audit date", "review date", "inspection date", "renewal date", "test date", "report date"),
    W.money: ("fee", "deposit", "allowance", "penalty", "bonus", "charge", "subsidy", "refund", "reserve"),
    W.code: ("access code", "file number", "folder number", "reference number", "password", "case number"),
    W.duration: ("trial period", "waiting time", "reply time", "lead time", "grace period", "review period"),
    W.percent: ("discount", "tax rate", "share", "target", "error rate", "rating"),
    W.phone: ("hotline", "phone number", "fax number", "help line"),
    W.weekday: ("report day", "review day", "call day", "planning day"),
    W.colour: ("label colour", "file colour", "folder colour", "code colour"),
    W.department: ("partner department", "home department", "sponsor department", "support department"),
}  # fmt: skip
_AT_A_PLACE: Nouns = {
    W.person: ("caretaker", "driver", "host", "guard"),
    W.count: ("quota", "capacity", "number of seats", "number of lockers", "order count", "visitor count"),
    W.city: ("depot", "branch", "training place", "archive city", "test city"),
    W.room: ("meeting room", "storage room", "service desk", "archive", "help desk", "print room"),
    W.money: ("rent", "heating bill", "power bill"),
    W.weekday: ("delivery day", "cleaning day", "pickup day"),
    W.time: ("opening time", "closing time", "lunch time", "pickup time", "cleaning time"),
}
_OF_A_PERSON: Nouns = {
    W.person: ("mentor", "assistant", "buddy"),
    W.code: ("badge number", "locker code", "door code", "staff number"),
    W.colour: ("badge colour",),
    W.room: ("meeting room", "storage room", "archive", "quiet room"),
    W.city: ("training place", "test city", "branch"),
    W.time: ("lunch time", "arrival time", "call time", "break time"),
}
_OF_GOODS: Nouns = {
    W.count: ("quota", "page count", "batch size", "order count", "number of parts"),
    W.code: ("batch number", "door code", "box number"),
    W.city: ("depot", "test city", "repair place"),
    W.duration: ("shelf life", "cooling time"),
    W.time: ("pickup time", "test time"),
    W.weekday: ("delivery day", "pickup day"),
}


def _together(*tables: Nouns) -> Nouns:
    makes = {make: None for table in tables for make in table}
    return {make: tuple(n for table in tables for n in table.get(make, ())) for make in makes}


NOUNS: dict[str, Nouns] = {
    "product": _together(_ANYWHERE, _OF_GOODS),
    "person": _together(_ANYWHERE, _OF_A_PERSON),
    "company": _together(_ANYWHERE, _AT_A_PLACE),
    "project": _together(_ANYWHERE, _AT_A_PLACE),
    "team": _together(_ANYWHERE, _AT_A_PLACE),
    "event": _together(_ANYWHERE, _AT_A_PLACE),
    "order": _together(_ANYWHERE, _OF_GOODS),
    "site": _together(_ANYWHERE, _AT_A_PLACE),
    "rule": _ANYWHERE,
    "policy": _ANYWHERE,
    "contract": _ANYWHERE,
    "machine": _together(_ANYWHERE, _OF_GOODS),
}
"""The nouns that suit each kind of thing."""
_MAKES = {kind: tuple(nouns) for kind, nouns in NOUNS.items()}
_COMPOSED_STATEMENTS = forms("""The {a} of {e} is {v}.
    {e} has {v} as {its} {a}.
    The {a} for {e} is {v}.
    For {e}, {v} is the {a}.
    For {e}, the {a} is {v}.
    As for {e}, the {a} is {v}.
    {e}: {a} {v}.
    As the {a}, {e} has {v}.
    {a} of {e}: {v}.
    The {a} of {e} was set to {v}.
    The {a} that belongs to {e} is {v}.
    The {a} that {e} has is {v}.
    {e} has the {a} {v}.
    The {a} used for {e} is {v}.
    {v} is noted as the {a} for {e}.
    The {a} noted for {e} is {v}.
    {e} was given {v} as {its} {a}.
    We have {v} as the {a} for {e}.
    The {a} given for {e} is {v}.
    {e} was given the {a} {v}.
    As {its} {a}, {e} uses {v}.
    {e} uses {v} as {its} {a}.
    {a} for {e}: {v}.
    For {e}, we have {v} as the {a}.""")


def composed(w: Writer, kind: str) -> Relation:
    """A relation whose noun is put together on the spot; nouns have sides as words have."""
    nouns = NOUNS[kind]
    while True:
        make = w.one(_MAKES[kind])
        noun = w.one(nouns[make])
        if w.chance(0.7):
            noun = f"{w.one(ADJECTIVES)} {noun}"
        if word_side(noun) == w.side:
            w.names.append(noun)
            return Relation(kind, (noun,), make, _COMPOSED_STATEMENTS, ASKS, is_composed=True)


_WRITTEN_OF = {kind: tuple(r for r in WRITTEN if r.kind == kind) for kind in KINDS}


def relation(w: Writer, kind: str) -> Relation:
    return w.one(_WRITTEN_OF[kind]) if w.chance(0.55) else composed(w, kind)


def apart(w: Writer, kind: str, count: int) -> list[Relation]:
    """So many relations of a kind of which no question for one could be taken for another."""
    found: list[Relation] = []
    while len(found) < count:
        new = relation(w, kind)
        if not any(clash(new, known) for known in found):
            found.append(new)
    return found


def fact(w: Writer, thing: Entity, about: Relation) -> Fact:
    """Says something of a thing; its value stands in the sentence letter for letter."""
    value = about.make(w)
    noun = w.one(about.nouns)
    statements = _COMPOSED_STATEMENTS if w.chance(0.15) else about.statements
    while True:
        said = capital(w.say(statements, a=noun, e=thing.called, v=value, its=thing.its))
        if value in said:
            return Fact(thing, about, value, said)


# ── passages ──────────────────────────────────────────────────────────────────────────────────────────────

_ASIDES = forms("""The room was quiet that day.
    Everyone agreed on the next steps.
    More details will follow soon.
    More steps will follow soon.
    No other changes were made.
    Please keep this page up to date.
    The list was checked last week.
    This page was checked last week.
    Questions go to the front desk.
    The old version is no longer valid.
    This note is for internal use.
    This page is for internal use.
    Some points are still open.
    Thanks to all who helped.
    The rest was left as it was.
    All other points were left open.
    This is the latest version.
    We thank all who took part.
    Nothing else has changed.
    Nothing else was agreed.""")


@dataclass(frozen=True, slots=True)
class Passage:
    """Facts and the text that states them."""

    text: str
    facts: tuple[Fact, ...]

    def names(self, thing: Entity) -> bool:
        """Whether it is one of the passage's; of rules, also when one is on the same matter at another limit."""
        if thing.kind == "rule":
            matter = thing.name.split()[0]
            return any(f.entity.kind == "rule" and f.entity.name.startswith(matter) for f in self.facts)
        return any(f.entity == thing for f in self.facts)

    def says(self, thing: Entity, about: Relation) -> bool:
        """Whether a fact of this thing could be taken for an answer to a question about the relation."""
        return any(f.entity == thing and clash(f.relation, about) for f in self.facts)


def facts(w: Writer, count: int) -> list[Fact]:
    """Facts of a few entities, often of one kind and one relation, so that a reader must tell them apart."""
    kind = w.one(KINDS)
    things = entities(w, kind, w.number(1, max(1, (count + 1) // 2)))
    abouts = apart(w, kind, w.number(1, 3))
    pairs = [(t, a) for t in things for a in abouts]
    while len(pairs) < count:
        other = w.one(KINDS) if w.chance(0.3) else kind
        thing = entity(w, other) if other != kind or w.chance(0.4) else w.one(things)
        pairs.append((thing, relation(w, other)))
    told: list[Fact] = []
    for thing, about in w.shuffled(pairs)[:count]:
        if not any(f.entity == thing and clash(f.relation, about) for f in told):
            told.append(fact(w, thing, about))
    return told


def passage(w: Writer, count: int) -> Passage:
    told = facts(w, count)
    lines = [f.sentence for f in told]
    if w.chance(0.2):
        lines.insert(w.number(0, len(lines)), w.say(_ASIDES))
    layout = w.random.random()
    text = (
        " ".join(lines) if layout < 0.75 else "\n".join(lines) if layout < 0.87 else "- " + "\n- ".join(lines)
    )
    return Passage(text, tuple(told))


def missing(w: Writer, told: Passage) -> tuple[Entity, Relation]:
    """What a passage does not say: something else of a thing in it, or of another thing what it says of one."""
    kind = w.random.random()
    known = w.one(told.facts)
    if kind < 0.25:
        about = w.one(told.facts).relation
        if about.kind == known.entity.kind and not told.says(known.entity, about):
            return known.entity, about
    if kind < 0.55:
        for _ in range(20):
            about = relation(w, known.entity.kind)
            if not told.says(known.entity, about):
                return known.entity, about
    if kind < 0.9:
        stranger = look_alike(w, known.entity) if w.chance(0.25) else entity(w, known.entity.kind)
        if not told.names(stranger):
            return stranger, known.relation
    while True:
        stranger = entity(w, w.one(KINDS))
        if not told.names(stranger):
            return stranger, relation(w, stranger.kind)
