"""JSON extraction: values of a passage under the keys that a prompt gives, in its order.

Each value is the passage's own, letter for letter; a number in digits is an integer, and a key that the passage
says nothing of is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from recipes.seedling import facts
from recipes.seedling.questions import capital
from recipes.seedling.reading import Turns
from recipes.seedling.relations import KINDS, Entity, Relation, clash, entities, entity
from recipes.seedling.writer import Forms, Writer, forms

Value = str | int | None

# ── wordings ──────────────────────────────────────────────────────────────────────────────────────────────

_BY_KEYS = forms(r"""Extract as JSON with the keys {k}.\n{p}
    {p}\n\nReturn a JSON object with the keys {k}.
    Turn the text into JSON. Keys: {k}.\n\n{p}
    Turn this into a JSON object with the keys {k}.\n{p}
    {p}\nWhat are {k}? Reply in JSON.
    Return only JSON, with {k}.\n{p}
    I want a JSON object. Its keys are {k}. The text is:\n{p}
    {p}\n\nReply with JSON. The keys are {k}.
    Text: {p}\nKeys: {k}\nJSON:
    Find {k} in the text and answer as JSON.\n\n{p}
    Write {k} as JSON.\n{p}
    Read the text and return JSON with {k}.\n{p}
    Keys: {k}\nText:\n{p}\nJSON:
    {p}\nGive me {k} as a JSON object.
    Please extract {k}. Answer in JSON.\n{p}
    {p}\nExtract {k} as JSON.
    Take {k} from this text, as JSON:\n{p}
    Make a JSON object with {k} from this text:\n{p}
    JSON with the keys {k}, please.\n{p}
    Text:\n{p}\n\nFind {k} in the text. Answer in JSON.""")
_BY_SCHEMA = forms(r"""Fill in this schema: {s}\n{p}
    {p}\n\nAnswer as JSON that follows {s}
    Text: {p}\nSchema: {s}\nJSON:
    {p}\n\nFill in this JSON schema: {s}
    Give me JSON like {s} from this:\n{p}
    Schema:\n{s}\n\nWrite what this says as JSON:\n{p}
    Read the text and return {s}\n{p}
    Schema: {s}\nText: {p}\nReturn JSON.
    Extract JSON that follows this schema.\n{s}\n\n{p}
    {p}\n\nReply with JSON of this form: {s}
    Return a JSON object by this schema: {s}\nText:\n{p}
    Extract from the text by this schema: {s}\n{p}
    Turn the text into JSON of this form:\n{s}\n\n{p}
    JSON schema: {s}\n{p}
    {p}\n\nTurn it into JSON. Use this schema: {s}
    Turn this text into JSON that follows the schema {s}\n{p}
    Use this schema: {s}\nThe text is:\n{p}
    {p}\nReturn only JSON that fits {s}
    Please fill in {s} from the text.\n{p}
    Use this schema for the text.\n{s}\n{p}""")
_AGAIN_BY_KEYS = forms("""Now the same with {k}.
    Now JSON with {k}.
    And {k}, as JSON.
    Now only {k}.
    Now return {k} as JSON.
    The same text, but with the keys {k}.
    Again, with the keys {k}.
    Again, but with {k}.""")
_AGAIN_BY_SCHEMA = forms("""Now the same with {s}
    Now fill in {s}
    And by this schema: {s}
    Now with this schema: {s}
    Again, but as {s}
    The same text, but return {s}
    Now return JSON that follows {s}
    Again, with {s}""")
_RULE_BY_KEYS = forms("""You turn texts into JSON with the keys {k}.
    Answer each text with a JSON object. Its keys are {k}.
    Extract {k} from each text, as JSON.
    Turn each text into JSON with {k}.
    Reply in JSON only, with the keys {k}.
    Return {k} as JSON for each text.
    From each text, take {k} and reply in JSON.
    Extract JSON with the keys {k} from each text.""")
_RULE_BY_SCHEMA = forms("""You turn texts into JSON that follows {s}
    Answer each text with JSON by this schema: {s}
    Extract JSON from each text. Schema: {s}
    Turn each text into JSON by this schema: {s}
    Reply in JSON only, in this form: {s}
    Fill in {s} for each text.
    You return JSON that fits this schema: {s}
    Answer each text with JSON that follows {s}""")
_ABOUT = forms("""This is about {e} only.
    Only {e} matters.
    I ask about {e}.
    I ask about {e} only.
    Do it for {e}.
    Look at {e} only.
    I want to know about {e}.
    Do it only for {e}.""")
_NULLS = forms("""Use null for what the text does not say.
    If the text does not give a value, write null.
    Write null for a key that the text lacks.
    Write null for what the text does not give.
    What is missing in the text is null.
    Use null if a value is missing.
    A missing value is null.
    Use null for a missing value.""")
_ASIDES = forms("""Please keep this on file.
    The list is up to date.
    This was checked last week.
    The file was checked and is up to date.
    All of this is for internal use.
    More will follow next week.
    Please tell the team.
    More is on file.""")
_DESCRIPTIONS = forms("""the {a}
    {a} of the {k}
    the {a} of the {k}
    the {k}'s {a}""")

_SINGULAR = (
    ("the keys", "the key"), ("keys are", "key is"), ("The keys", "The key"), ("Keys:", "Key:"),
    ("What are", "What is"),
)  # fmt: skip

# ── the task ──────────────────────────────────────────────────────────────────────────────────────────────


def extract(w: Writer) -> Turns:
    """Values of a passage under the keys of a schema; null for a key that the passage does not give."""
    kind = w.one(KINDS)
    abouts = facts.apart(w, kind, w.number(1, w.number(1, 5)))
    absent = _absent(w, kind, abouts) if w.chance(0.18) else None
    keys = _Keys(w, kind, abouts, absent)
    return _by_system(w, keys) if w.chance(0.2) else _by_prompt(w, keys)


def _absent(w: Writer, kind: str, abouts: list[Relation]) -> Relation | None:
    """A relation that nothing told can be taken for; mostly it has another kind of value, too."""
    about = facts.relation(w, kind)
    is_like = about.make in [a.make for a in abouts] and w.chance(0.7)
    return None if is_like or any(clash(about, a) for a in abouts) else about


class _Keys:
    """The keys that may be asked for, and how they are written: parking_space or parkingSpace."""

    def __init__(self, w: Writer, kind: str, abouts: list[Relation], absent: Relation | None) -> None:
        self._is_camel = w.chance(0.2)
        self.kind = kind
        self.noun: dict[str, str] = {}
        """Each key's noun in plain words."""
        self.relation: dict[str, Relation] = {}
        self.absent: str | None = None
        for about in [*abouts, absent] if absent else abouts:
            noun = w.one(about.nouns)
            key = self._written(noun)
            self.noun[key], self.relation[key] = noun, about
            if about is absent:
                self.absent = key
        is_told_as_named = kind != "rule"  # a rule's name has a capital where it begins a sentence
        self.name = kind if is_told_as_named and kind not in self.noun else None
        if self.name:
            self.noun[self.name] = f"name of the {kind}"

    def _written(self, noun: str) -> str:
        if not self._is_camel:
            return noun.replace(" ", "_")
        first, *others = noun.split(" ")
        return first + "".join(map(capital, others))

    @property
    def told(self) -> list[str]:
        return [key for key in self.relation if key != self.absent]

    def asked(self, w: Writer, *, is_first: bool) -> list[str]:
        """Some of the keys, in any order: all of them more often than not when they are first asked for."""
        told = self.told
        chosen = told if is_first and w.chance(0.6) else w.some(told, w.number(1, len(told)))
        if self.name and w.chance(0.35):
            chosen = [self.name, *chosen]
        if self.absent and (is_first or w.chance(0.5)):
            chosen = [*chosen, self.absent]
        return w.shuffled(chosen[:5])


def _told(w: Writer, keys: _Keys, thing: Entity) -> tuple[list[str], dict[str, Value]]:
    """Sentences that state the relations of a thing, and the value of each key."""
    stated = {key: facts.fact(w, thing, keys.relation[key]) for key in keys.told}
    values: dict[str, Value] = {key: _value(fact.value) for key, fact in stated.items()}
    if keys.name:
        values[keys.name] = thing.name
    if keys.absent:
        values[keys.absent] = None
    return [fact.sentence for fact in stated.values()], values


def _value(text: str) -> Value:
    return int(text) if text.isdecimal() else text


def _by_prompt(w: Writer, keys: _Keys) -> Turns:
    """Passage and keys in one turn; on the training side other keys of the same passage may follow."""
    thing, other = entities(w, keys.kind, 2)
    lines, values = _told(w, keys, thing)
    notes: list[str] = []
    if w.chance(0.15):
        lines.append(facts.fact(w, other, keys.relation[w.one(keys.told)]).sentence)
        w.random.shuffle(lines)
        notes.append(w.say(_ABOUT, e=thing.called))
    if (keys.absent and w.chance(0.6)) or w.chance(0.1):
        notes.append(w.say(_NULLS))
    turns: Turns = []
    passage = _passage(w, lines)
    count = 1 if w.side == "test" or len(keys.noun) < 3 else w.number(1, 2)
    before: list[list[str]] = []
    for i in range(count):
        chosen = keys.asked(w, is_first=i == 0)
        if chosen in before:
            continue
        before.append(chosen)
        is_by_keys = w.chance(0.45)
        form = {"k": _listed(w, chosen)} if is_by_keys else {"s": _schema(w, keys, chosen, values)}
        if i:
            asked = _said(w, _AGAIN_BY_KEYS if is_by_keys else _AGAIN_BY_SCHEMA, chosen, form)
        else:
            request = _said(w, _BY_KEYS if is_by_keys else _BY_SCHEMA, chosen, form | {"p": passage})
            asked = _noted(w, notes, request)
        turns += [("user", asked), ("assistant", _reply(values, chosen))]
    return turns


def _by_system(w: Writer, keys: _Keys) -> Turns:
    """Keys in the system's turn, a passage in each of the user's."""
    chosen = keys.asked(w, is_first=True)
    count = w.number(1, w.number(1, 3)) if w.side == "train" else 1
    told = [_told(w, keys, entity(w, keys.kind))]
    while len(told) < count:
        further = _told(w, keys, entity(w, keys.kind))
        if all(type(further[1][key]) is type(told[0][1][key]) for key in chosen):
            told.append(further)
    is_by_keys = w.chance(0.5)
    form = {"k": _listed(w, chosen)} if is_by_keys else {"s": _schema(w, keys, chosen, told[0][1])}
    rule = _said(w, _RULE_BY_KEYS if is_by_keys else _RULE_BY_SCHEMA, chosen, form)
    if keys.absent and w.chance(0.6):
        rule = f"{rule} {w.say(_NULLS)}" if is_by_keys else f"{rule}\n{w.say(_NULLS)}"
    turns: Turns = [("system", rule)]
    for lines, values in told:
        turns += [("user", _passage(w, lines)), ("assistant", _reply(values, chosen))]
    return turns


def _said(w: Writer, wordings: Forms, asked: list[str], slots: Mapping[str, str]) -> str:
    """A request, in the singular where it asks for one key."""
    wording = w.say(wordings)
    if len(asked) == 1:
        for several, one in _SINGULAR:
            wording = wording.replace(several, one)
    return wording.format(**slots)


def _passage(w: Writer, lines: list[str]) -> str:
    if w.chance(0.12):
        lines = [*lines, w.say(_ASIDES)]
    layout = w.random.random()
    if layout < 0.8:
        return " ".join(lines)
    return "\n".join(lines) if layout < 0.9 else "- " + "\n- ".join(lines)


def _noted(w: Writer, notes: list[str], request: str) -> str:
    if not notes:
        return request
    return "\n".join([*notes, request] if w.chance(0.5) else [request, *notes])


def _reply(values: Mapping[str, Value], keys: list[str]) -> str:
    return json.dumps({key: values[key] for key in keys}, ensure_ascii=False)


# ── how keys and schemas are written ──────────────────────────────────────────────────────────────────────


def _listed(w: Writer, keys: list[str]) -> str:
    """Keys in a sentence: a, b and c; or "a", "b"."""
    style = w.random.random()
    if style < 0.2:
        return ", ".join(json.dumps(key) for key in keys)
    if style < 0.5 or len(keys) == 1:
        return ", ".join(keys)
    return f"{', '.join(keys[:-1])} and {keys[-1]}"


def _schema(w: Writer, keys: _Keys, asked: list[str], values: Mapping[str, Value]) -> str:
    """A form of the keys: their types, an empty form, or JSON Schema."""
    kind = w.random.random()
    if kind < 0.15:
        return json.dumps(dict.fromkeys(asked, w.one(("...", "", None))))
    is_nullable = keys.absent in asked or w.chance(0.1)
    types = {key: _types(w, values[key], is_nullable) for key in asked}
    if kind < 0.5:
        return json.dumps({key: " or ".join(names) for key, names in types.items()})
    if kind < 0.6:
        return "\n".join(f"- {key} ({' or '.join(names)})" for key, names in types.items())
    properties: dict[str, dict[str, object]] = {
        key: {"type": names[0] if len(names) == 1 else names} for key, names in types.items()
    }
    if kind < 0.75 and len(asked) < 4:
        for key in asked:
            properties[key]["description"] = w.say(_DESCRIPTIONS, a=keys.noun[key], k=keys.kind)
            if key == keys.name:
                properties[key]["description"] = keys.noun[key]
    if kind < 0.8:
        return json.dumps({"properties": properties})
    return json.dumps({"type": "object", "properties": properties, "required": asked})


def _types(w: Writer, value: Value, is_nullable: bool) -> list[str]:
    """The types that a value may have: null beside another where the passage gives none, and elsewhere at random."""
    name = "integer" if isinstance(value, int) else "string"
    return [name, "null"] if value is None or (is_nullable and w.chance(0.6)) else [name]
