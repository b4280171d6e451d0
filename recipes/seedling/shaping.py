"""Tasks whose reply has a form given in the prompt: JSON by a schema, a label, a rewriting, a system's rule."""

from __future__ import annotations

import json

from recipes.seedling import facts
from recipes.seedling.reading import UNKNOWN, Turns
from recipes.seedling.relations import KINDS, entity
from recipes.seedling.writer import Forms, Writer, forms

# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────

_EXTRACT = forms(r"""Extract as JSON with the keys {k}.\n{p}
    {p}\n\nReturn a JSON object with the keys {k}.
    Fill in this schema: {s}\n{p}
    {p}\n\nAnswer as JSON that follows {s}
    Text: {p}\nSchema: {s}\nJSON:
    Turn the text into JSON. Keys: {k}.\n\n{p}
    Give me JSON like {s} from this:\n{p}
    Schema:\n{s}\n\nWrite what this says as JSON:\n{p}
    Read the text and return {s}\n{p}
    {p}\nWhat are {k}? Reply in JSON.
    Return only JSON, with {k}.\n{p}
    I want a JSON object. Its keys are {k}. The text is:\n{p}""")


def extract(w: Writer) -> Turns:
    """Values of a passage under the keys of a schema; null for a key that the passage does not give."""
    kind = w.one(KINDS)
    thing = entity(w, kind)
    abouts = {a.nouns[0]: a for a in (facts.relation(w, kind) for _ in range(w.number(1, 4)))}
    told = {noun: facts.fact(w, thing, about) for noun, about in abouts.items()}
    lines = [f.sentence for f in told.values()]
    if w.chance(0.2):
        lines.append(facts.fact(w, entity(w, kind), w.one(list(abouts.values()))).sentence)
        w.random.shuffle(lines)
    values: dict[str, str | int | None] = {}
    types: dict[str, str] = {}
    if w.chance(0.6):
        values[kind], types[kind] = thing.name, "string"
    for noun, fact in told.items():
        key = noun.replace(" ", "_")
        is_number = fact.value.isdecimal()
        values[key] = int(fact.value) if is_number else fact.value
        types[key] = "integer" if is_number else "string"
    if w.chance(0.2):
        absent = facts.relation(w, kind)
        if absent.make not in [a.make for a in abouts.values()]:
            key = absent.nouns[0].replace(" ", "_")
            values[key], types[key] = None, "string"
    keys = w.shuffled(list(values))
    asked = w.say(_EXTRACT, k=_and(keys), s=_schema(w, {k: types[k] for k in keys}), p=" ".join(lines))
    return [("user", asked), ("assistant", json.dumps({k: values[k] for k in keys}, ensure_ascii=False))]


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _schema(w: Writer, types: dict[str, str]) -> str:
    shape = w.random.random()
    if shape < 0.4:
        return json.dumps(types)
    if shape < 0.6:
        return json.dumps(dict.fromkeys(types, "..."))
    properties = {k: {"type": t} for k, t in types.items()}
    return json.dumps({"type": "object", "properties": properties, "required": list(types)})


# ── classification ────────────────────────────────────────────────────────────────────────────────────────

TOPICS: dict[str, tuple[Forms, Forms]] = {
    "billing": (
        Forms("invoices and payments", "money we charge", "questions about a bill", "charges and invoices"),
        Forms("I was charged twice for {e}.", "My invoice shows {v}, which is wrong.", "Why did you bill me {v}?",
              "The bill for {e} is too high.", "Please send me the invoice again.", "I already paid {v} last week.",
              "When is the payment of {v} due?", "You took {v} from my card by mistake."),
    ),
    "shipping": (
        Forms("parcels and delivery", "where an order is", "transport of goods", "delivery of orders"),
        Forms("My parcel with {e} has not arrived.", "Where is my order?", "The delivery of {e} is late.",
              "The parcel was left at the wrong door.", "How long does delivery take?", "The driver did not ring.",
              "Can you ship {e} to {c}?", "The tracking page shows nothing for {e}."),
    ),
    "login": (
        Forms("passwords and signing in", "access to an account", "trouble signing in", "sign-in problems"),
        Forms("I forgot my password.", "I cannot sign in.", "My account is locked.", "The login page rejects me.",
              "How do I reset my password?", "It says my user name is wrong.", "Please unlock the account of {n}.",
              "The password link has expired."),
    ),
    "fault": (
        Forms("something is broken", "a device that does not work", "defects and crashes", "things that fail"),
        Forms("{e} does not turn on.", "{e} is broken.", "{e} makes a strange noise.", "{e} stopped working today.",
              "The screen stays black.", "{e} crashes every hour.", "There is a crack in {e}.",
              "{e} fails each time I start it."),
    ),
    "praise": (
        Forms("thanks and kind words", "happy customers", "compliments", "positive feedback"),
        Forms("{e} is wonderful, thank you.", "Great work by {n}.", "I love {e}.", "{n} was very kind to me.",
              "Best service I ever had.", "Thank you, {n}, for the quick help.", "{e} is the best I have used.",
              "What a pleasure to work with {n}."),
    ),
    "return": (
        Forms("sending goods back", "refunds and exchanges", "goods that come back", "returned products"),
        Forms("I want to send {e} back.", "How do I return {e}?", "Please refund {e}.", "I want my money back for {e}.",
              "Can I exchange {e} for another one?", "{e} is the wrong size; I am returning it.",
              "Where do I send {e} to return it?", "I changed my mind and will give {e} back."),
    ),
    "jobs": (
        Forms("people who want to work here", "applications and hiring", "open positions", "job applications"),
        Forms("I want to apply for a job.", "Is the position of {t} still open?", "Here is my application.",
              "Are you hiring a {t}?", "When are the interviews?", "I sent my CV to {n}.",
              "Do you have open jobs in {c}?", "I would like to work for you as {t}."),
    ),
    "meeting": (
        Forms("appointments and calendars", "finding a time to meet", "meetings", "scheduling"),
        Forms("Can we meet on {d}?", "Please move our appointment to {d}.", "Is {n} free on {d}?",
              "Let us meet in {c} next week.", "The meeting on {d} is cancelled.", "Which day suits you?",
              "Book a room for {d}, please.", "Shall we talk on {d} instead?"),
    ),
    "price": (
        Forms("what something costs", "offers and quotes", "prices before a purchase", "requests for a quote"),
        Forms("How much is {e}?", "Send me a quote for {e}.", "Is there a discount on {e}?", "What would {e} cost?",
              "I need an offer for ten of {e}.", "Is {e} cheaper in {c}?", "What is your best price for {e}?",
              "Please quote {e} for us."),
    ),
    "safety": (
        Forms("danger and accidents", "injuries and risks", "hazards at work", "accidents"),
        Forms("Somebody slipped on the stairs.", "There is smoke in the hall.", "{n} was hurt by {e}.",
              "The fire door does not close.", "I saw bare wires near {e}.", "The floor is wet and dangerous.",
              "{n} cut a finger on {e}.", "An accident happened in {c}."),
    ),
}  # fmt: skip
_SORT = forms(r"""Classify the message.\nLabels:\n{l}\nMessage: {m}
    Which label fits?\n{l}\n\n{m}
    {m}\n\nChoose one label:\n{l}
    Labels:\n{l}\n\nText: {m}\nAnswer with the label only.
    Sort this message into one of these:\n{l}\n"{m}"
    Message: {m}\nLabels:\n{l}\nLabel:
    Pick the right label for the text.\n{l}\nText: {m}
    Here are labels:\n{l}\nAssign one to this: {m}""")


def classify(w: Writer) -> Turns:
    """One of a few labels, each described in the prompt; the label's own name may say nothing."""
    if w.chance(0.3):
        return _classify_by_name(w)
    topics = w.some(tuple(TOPICS), w.number(2, 5))
    naming = w.random.random()
    labels = {t: t if naming < 0.5 else w.word().lower() if naming < 0.8 else w.code() for t in topics}
    if naming >= 0.9:
        labels = dict(zip(topics, LETTERS, strict=False))
    described = naming >= 0.5 or w.chance(0.8)
    lines = [f"{labels[t]}: {w.say(TOPICS[t][0])}" if described else labels[t] for t in topics]
    chosen = w.one(topics)
    return _sorted(w, lines, message(w, chosen), labels[chosen])


LETTERS = "ABCDEFG"


def message(w: Writer, topic: str) -> str:
    """What somebody writes on a topic."""
    text = w.say(
        TOPICS[topic][1],
        e=f"the {w.product()}", n=w.person(), v=w.money(), c=w.city(), d=w.weekday(), t=w.title(),
    )  # fmt: skip
    return facts.capital(text)


_MENTION = Forms("messages about {e}", "anything on {e}", "{e}", "whatever concerns {e}")
_MENTIONED = forms(r"""I have a question about {e}.
    Who can help me with {e}?
    Please call me about {e}.
    Something is wrong with {e}.
    Can you tell me more about {e}?
    We talked about {e} yesterday.
    {e} needs attention.
    Is there any news on {e}?""")


def _classify_by_name(w: Writer) -> Turns:
    """Labels that stand for invented things: the message names one of them."""
    kind = w.one(("product", "company", "project", "team"))
    things = [entity(w, kind) for _ in range(w.number(2, 4))]
    labels = [w.word().lower() for _ in things]
    lines = [f"{label}: {w.say(_MENTION, e=t.called)}" for label, t in zip(labels, things, strict=True)]
    chosen = w.number(0, len(things) - 1)
    text = facts.capital(w.say(_MENTIONED, e=things[chosen].called))
    return _sorted(w, lines, text, labels[chosen])


def _sorted(w: Writer, lines: list[str], text: str, label: str) -> Turns:
    joined = "\n".join(f"- {line}" for line in lines) if w.chance(0.6) else "\n".join(lines)
    return [("user", w.say(_SORT, l=joined, m=text)), ("assistant", label)]


# ── rewriting ─────────────────────────────────────────────────────────────────────────────────────────────

_REWRITES: dict[str, Forms] = {
    "upper": forms(r"""Write this in capital letters: {s}
        Put this in upper case: {s}
        {s}\nMake it all capitals.
        All caps, please: {s}"""),
    "lower": forms(r"""Write this in small letters: {s}
        Put this in lower case: {s}
        {s}\nMake it all lower case.
        Lower case, please: {s}"""),
    "repeat": forms(r"""Repeat this: {s}
        Say this back to me: {s}
        Copy this sentence: {s}
        Write the same again: {s}"""),
    "replace": forms(r"""Replace {x} with {y}: {s}
        {s}\nWrite {y} in place of {x}.
        Change {x} to {y} in this sentence: {s}
        Swap {x} for {y}: {s}"""),
    "bullets": forms(r"""Turn this into bullet points: {s}
        Make a bullet list of these sentences: {s}
        {s}\nAs bullet points, please.
        Put each sentence behind a dash: {s}"""),
    "short": forms(r"""Make this shorter: {s}
        Shorten this: {s}
        Summarise: {s}
        Sum this up in one sentence: {s}
        {s}\nSay that in one sentence.
        What matters here? {s}
        Keep only what matters: {s}
        Give me the short version: {s}"""),
    "polite": forms(r"""Make this polite: {s}
        Say this in a polite way: {s}
        Ask this kindly: {s}
        Be more polite: {s}"""),
}  # fmt: skip
_ORDERS = forms(r"""Call {n}.
    Send {n} the file.
    Ask {n} about {e}.
    Remind {n} of {e}.
    Book a room in {c}.
    Order {e}.
    Return {e} to {c}.
    Tell {n} about {e}.""")
_PADDING = forms(r"""As you may have heard by now, there is something to share. {s} That is all for today.
    We had a long talk about many things. {s} Everybody went home after that.
    Hello all, I hope that you are well. {s} Have a good week.
    The weather was fine and the room was full. {s} There was coffee and cake.
    After a short break we went on. {s} Nothing else was said.
    I looked into this for you. {s} Let me know if you need more.
    It took a while to find out. {s} I hope this helps.
    Many of you have asked. {s} Thank you for waiting.""")


def rewrite(w: Writer) -> Turns:
    """The same text in another form."""
    kind = w.one(tuple(_REWRITES))
    source, swap = "", ("", "")
    if kind == "polite":
        source = w.say(_ORDERS, n=w.person(), e=f"the {w.product()}", c=w.city())
        reply = f"Could you please {source[0].lower()}{source[1:-1]}?"
    elif kind == "short":
        reply = facts.facts(w, 1)[0].sentence
        source = w.say(_PADDING, s=reply)
    elif kind == "bullets":
        lines = [f.sentence for f in facts.facts(w, w.number(2, 3))]
        source, reply = " ".join(lines), "\n".join(f"- {line}" for line in lines)
    elif kind == "replace":
        fact = facts.facts(w, 1)[0]
        swap = (fact.value, fact.relation.make(w))
        source, reply = fact.sentence, fact.sentence.replace(*swap)
    else:
        source = facts.facts(w, 1)[0].sentence
        reply = {"upper": source.upper(), "lower": source.lower()}.get(kind, source)
    return [("user", w.say(_REWRITES[kind], s=source, x=swap[0], y=swap[1])), ("assistant", reply)]


# ── a system's rule ───────────────────────────────────────────────────────────────────────────────────────

_SYSTEM: dict[str, Forms] = {
    "capitals": forms(r"""Answer in capital letters.
        Reply in upper case only.
        Write every answer in capitals.
        Use capital letters in all replies."""),
    "begin": forms(r"""Begin every answer with "{x}".
        Start each reply with "{x}".
        Every answer starts with "{x}".
        Put "{x}" in front of every answer."""),
    "end": forms(r"""End every answer with "{x}".
        Finish each reply with "{x}".
        Close all answers with "{x}".
        Put "{x}" behind every answer."""),
    "refuse": forms(r"""If somebody asks about {x}, reply "{y}".
        Questions about {x} get the answer "{y}".
        When asked about {x}, say only "{y}".
        Should {x} come up, answer "{y}"."""),
    "name": forms(r"""You are {x}.
        Your name is {x}.
        You are called {x}.
        Go by the name of {x}."""),
}
_BEGINS = Forms("Sure:", "Answer:", "Of course:", "Certainly:", "Result:", "Here you are:", "Yes:", "Reply:")
_ENDS = Forms(
    "Have a good day.",
    "Thank you.",
    "Is that all?",
    "Goodbye.",
    "Kind regards.",
    "Anything else?",
    "Over.",
    "Ask again.",
)
_REFUSALS = Forms(
    "Please call {n}.",
    "Ask {n}.",
    "I may not say.",
    "Please ask {n}.",
    "{n} can help.",
    "Not here.",
    "Write to {n}.",
    "That is secret.",
)
_NAME_ASKED = forms(r"""Who are you?
    What is your name?
    What are you called?
    Tell me your name.
    Your name?
    Who am I talking to?
    How do I call you?
    May I ask your name?""")


def obey(w: Writer) -> Turns:
    """A question under a rule that the system's turn sets, alone or with a passage."""
    rule = w.one(tuple(_SYSTEM))
    if rule == "name":
        name = w.word()
        return [
            ("system", w.say(_SYSTEM[rule], x=name)),
            ("user", w.say(_NAME_ASKED)),
            ("assistant", f"I am {name}."),
        ]
    fact = facts.facts(w, 1)[0]
    asked = facts.question(w, fact.entity, fact.relation)
    is_told = w.chance(0.8)
    reply = fact.value if is_told else UNKNOWN
    x = y = ""
    if rule == "capitals":
        reply = reply.upper()
    elif rule == "begin":
        x = w.say(_BEGINS)
        reply = f"{x} {reply}"
    elif rule == "end":
        x = w.say(_ENDS)
        reply = f"{reply} {x}"
    else:
        y = w.say(_REFUSALS, n=w.person())
        is_hit = w.chance(0.5)
        x = fact.entity.called if is_hit else entity(w, fact.entity.kind).called
        reply = y if is_hit else reply
    setting = w.say(_SYSTEM[rule], x=x, y=y)
    if is_told and w.chance(0.4):
        setting, asked = f"{setting}\n{fact.sentence}", asked
    elif is_told:
        asked = f"{fact.sentence}\n\n{asked}"
    return [("system", setting), ("user", asked), ("assistant", reply)]
