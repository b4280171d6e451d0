"""Questions about a relation of a thing, in endless wordings put together from few.

A question is asked in the relation's own words or by its noun, straight or behind an opener ("Can you tell me").
Behind an opener, "Where does Anna work?" becomes "where Anna works". It knows nothing of passages.
"""

from __future__ import annotations

from functools import cache

from recipes.seedling.relations import Entity, Relation
from recipes.seedling.writer import Forms, Make, Writer, forms, words

W = Writer

BY_VALUE: dict[Make, Forms] = {
    W.person: forms("""Who is {np}?
        Can you say who {np} is?
        Who acts as {np}?
        Which person is {np}?
        Which person acts as {np}?
        Whom do we have as {np}?
        What is the name of {np}?
        Can you say which person is {np}?"""),
    W.date: forms("""When is {np}?
        On which day is {np}?
        On what date is {np}?
        On which date is {np}?
        Which day is {np}?
        What date is {np}?
        What is the date of {np}?
        Which date is {np}?"""),
    W.money: forms("""How much is {np}?
        What amount is {np}?
        How high is {np}?
        How large a sum is {np}?
        How much money is {np}?
        What sum is {np}?
        To how much does {np} come?
        What sum of money is {np}?"""),
    W.count: forms("""How large is {np}?
        How high is {np}?
        What figure is {np}?
        What number is {np}?
        Which figure do we have for {np}?
        What is the number for {np}?
        Which number do we have for {np}?
        What is the figure for {np}?"""),
    W.duration: forms("""How long is {np}?
        How much time is {np}?
        How long does {np} last?
        How long a time is {np}?
        Which length of time is {np}?
        What is the length of {np}?
        For how long does {np} go?
        What length of time is {np}?"""),
    W.percent: forms("""What percent is {np}?
        What percentage is {np}?
        How high is {np} in percent?
        Which percentage is {np}?
        Which percentage do we have as {np}?
        How large is {np} in percent?
        At what percentage is {np}?
        At what percent is {np}?"""),
    W.city: forms("""Where is {np}?
        In which city is {np}?
        In what place is {np}?
        In what city is {np}?
        Which city has {np}?
        Which place is {np} in?
        Where do I find {np}?
        Which city is {np} in?"""),
    W.room: forms("""Where is {np}?
        Where do I find {np}?
        In which part of the building is {np}?
        Where in the building is {np}?
        Where can I find {np}?
        Where in the building do I find {np}?
        Where would I find {np}?
        Where in the building can I find {np}?"""),
    W.weekday: forms("""Which weekday is {np}?
        Which day of the week is {np}?
        On which day of the week is {np}?
        On which weekday is {np}?
        What weekday is {np}?
        When in the week is {np}?
        Which day is {np}?
        What day of the week is {np}?"""),
    W.time: forms("""When is {np}?
        At what time is {np}?
        At what hour is {np}?
        At which time is {np}?
        What hour is {np}?
        Which time is {np}?
        What hour of the day is {np}?
        At which hour is {np}?"""),
    W.department: forms("""Which department is {np}?
        Which department acts as {np}?
        What department do we have as {np}?
        What department is {np}?
        Which of the departments is {np}?
        Which department do we have as {np}?
        What is the name of {np}?
        What department acts as {np}?"""),
    W.colour: forms("""Which colour is {np}?
        What colour is {np}?
        Which colour do we use as {np}?
        Which colour do we have as {np}?
        Which of the colours is {np}?
        What colour do we have as {np}?
        In which colour is {np}?
        What colour do we use as {np}?"""),
}  # fmt: skip
"""How a noun of some sort of value is asked for; {np} is the noun of the thing."""

ASKS = forms("""What is {np}?
    Tell me {np}.
    Do you know {np}?
    Please give me {np}.
    I need {np}.
    Can you tell me {np}?
    I would like to know {np}.
    Please tell me {np}.
    What's {np}?
    Look up {np}.
    {np}?
    Could you tell me {np}?
    Find {np}, please.
    Could you look up {np} for me?
    Give {np}.
    Can you look up {np}?
    State {np}.
    What do we have as {np}?
    Any idea what {np} is?
    Do you know what {np} is?
    Show me {np}.
    I am looking for {np}.
    Name {np}.
    Name {np}, please.
    Give me {np}.
    Somebody asked me for {np}; what is it?
    May I ask for {np}?
    May I know {np}?
    What did they say {np} was?
    Remind me of {np}.
    Let me know {np}, will you?
    Let me know what {np} is.
    Please find {np}.
    Can you find {np} for me?
    I want to know {np}.
    I want to know what {np} is.
    Could you give me {np}, please?
    Would you tell me {np}?
    We need to know {np}.
    Would you look up {np}, please?
    Check {np} for me.
    Please state {np}.
    I have to know {np}; what is it?
    I have to find {np}.
    I forgot {np}; what is it?
    Say what {np} is.
    Write down {np}.
    Can you say what {np} is?""")
"""How any noun is asked for."""

PHRASES = forms("""the {a} of {e}
    {e}'s {a}
    the {a} for {e}
    the {a} that {e} has
    the {a} that belongs to {e}
    the {a} used for {e}
    the {a} given for {e}
    the {a} that is used for {e}
    the {a} we have for {e}
    the {a} that goes with {e}
    the {a} recorded for {e}
    the {a} that we have for {e}
    the right {a} for {e}
    the {a} named for {e}
    the {a} noted for {e}
    the {a} that is given for {e}""")
_OPENERS = forms("""Can you tell me {c}?
    Please tell me {c}.
    I would like to know {c}.
    Could you tell me {c}?
    Do you know {c}?
    Tell me {c}.
    I want to know {c}.
    Do you happen to know {c}?
    I need to know {c}.
    Can you say {c}?
    Could you say {c}, please?
    Can you please tell me {c}?
    Let me know {c}.
    Please let me know {c}.
    I wonder {c}.
    I would like you to tell me {c}.
    Would you tell me {c}?
    I have to know {c}.
    Somebody wants to know {c}.
    Somebody would like to know {c}.
    Can you find out {c}?
    Please look up {c}.
    Could you look up {c}?
    Can you look up {c}?
    I am not sure {c}.
    We need to know {c}.
    I forgot {c}.
    We would like to know {c}.
    Please say {c}.
    Any idea {c}?
    Can you see {c}?
    Please find out {c}.""")
"""What stands before a question that has become a clause, {c}."""
_GREETINGS = forms("""Quick question: {q}
    Hello, {q}
    Please answer: {q}
    A quick question: {q}
    I have a question: {q}
    Hi, {q}
    My question is this: {q}
    Hello, I have a question: {q}
    Another thing: {q}
    Excuse me, {q}
    Dear helper, {q}
    Hi, a quick question: {q}""")
_HAS_BARE_NAME = ("project", "team")
"""Kinds that are now and then called by their name alone."""


def question(w: Writer, thing: Entity, about: Relation, *, is_first: bool = True) -> str:
    """Asks for a relation of an entity, in one of many wordings; a first question may come with a greeting."""
    called = thing.name if thing.kind in _HAS_BARE_NAME and w.chance(0.1) else thing.called
    ask = _by_noun if about.is_composed or w.chance(0.35) else _in_own_words
    asked = capital(ask(w, called, about))
    if is_first and w.chance(0.06):
        asked = led_in(w, _GREETINGS, asked)
    return asked.lower() if w.chance(0.03) and w.side == "train" else asked


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_LOWERED = frozenset(
    words(
        "What Who When Where How Which The In On For Tell At By From To Under With Since Until Whose Whom Can Could Do "
        "Does Please Give Look Find State Name Remind Let Would Up After Within Of As Any Check Say Write "
        "Show May Somebody"
    )
)
"""First words of questions that are no names."""


def led_in(w: Writer, wordings: Forms, asked: str) -> str:
    """A question behind some words of its asker's, in one sentence with them or in its own."""
    wording = w.say(wordings)
    is_apart = wording.removesuffix("{q}").rstrip().endswith((".", "!", "?"))
    return wording.format(q=asked if is_apart else lower(asked))


def lower(text: str) -> str:
    """A question as it stands inside a sentence."""
    return text[0].lower() + text[1:] if text.split(" ", 1)[0] in _LOWERED else text


def _by_noun(w: Writer, called: str, about: Relation) -> str:
    phrase = w.say(PHRASES, a=w.one(about.nouns), e=called)
    while "'s " in phrase and about.kind == "rule":  # nobody says "travel over $50's form"
        phrase = w.say(PHRASES, a=w.one(about.nouns), e=called)
    asks = BY_VALUE[about.make] if about.make in BY_VALUE and w.chance(0.4) else ASKS
    return w.say(asks, np=phrase)


def _in_own_words(w: Writer, called: str, about: Relation) -> str:
    wording = w.say(about.questions)
    clause = as_clause(wording)
    if clause and w.chance(0.4):
        return w.say(_OPENERS, c=clause.format(e=called))
    return wording.format(e=called)


# ── a question as a clause ────────────────────────────────────────────────────────────────────────────────

_AHEAD = frozenset(words("is are was were will can may must should has have did"))
_DOES = frozenset(("does", "do"))
_SUBJECTS = frozenset(
    words("{e} a the our there invoices tickets claims I we customers guests somebody nobody")
)
"""What a subject begins with; anything else after the verb means that the asking word is itself the subject."""
_NAMED_AT_END = frozenset(words("{e} a the our invoices tickets claims"))
"""Subjects that go on up to the thing's name, as in "the head office of {e}"."""
_BY_HEART = {"have": "has", "do": "does", "go": "goes", "apply": "applies"}


@cache
def as_clause(question: str) -> str | None:
    """A question as the clause of another: "Where does {e} work?" as "where {e} works".

    None where that takes more than putting the verb behind its subject.
    """
    if ";" in question or question.split()[0] not in _LOWERED:
        return None
    said = words(lower(question.rstrip("?")))
    verb = next((i for i, word in enumerate(said) if word in _AHEAD | _DOES), None)
    if verb is None:
        return " ".join(said)
    if said[verb] == "did":
        return None
    if "{e}" in said[:verb] or said[verb + 1] not in _SUBJECTS:
        return " ".join(said) if said[verb] in _AHEAD else None
    ends = said.index("{e}") if said[verb + 1] in _NAMED_AT_END else verb + 1
    asking, subject, rest = said[:verb], said[verb + 1 : ends + 1], said[ends + 1 :]
    if said[verb] == "does":
        if not rest or rest[0] == "not":
            return None
        return " ".join([*asking, *subject, _third(rest[0]), *rest[1:]])
    return " ".join([*asking, *subject, *([] if said[verb] == "do" else [said[verb]]), *rest])


def _third(verb: str) -> str:
    """The form of a verb that goes with he, she or it."""
    return _BY_HEART.get(verb) or verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")
