"""Classification: one of a few labels, each described in the prompt, for a message.

The label's own name may say nothing (an invented word, a code, a letter), and then its description does. What
the messages are about is in `topics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recipes.seedling.questions import capital
from recipes.seedling.reading import Turns
from recipes.seedling.relations import entities
from recipes.seedling.topics import TOPICS, Topic
from recipes.seedling.writer import Forms, Make, Writer, forms

W = Writer

_SORT = forms(r"""Classify the message.\nLabels:\n{l}\nMessage: {m}
    Which label fits?\n{l}\n\n{m}
    {m}\n\nChoose one label:\n{l}
    Labels:\n{l}\n\nMessage: {m}\nAnswer with the label only.
    Sort this message into one of these:\n{l}\n"{m}"
    Message: {m}\nLabels:\n{l}\nLabel:
    Pick the right label for the text.\n{l}\nText: {m}
    Choose the label that fits the message.\n{l}\nMessage: {m}
    Here are labels:\n{l}\nGive one of them to this message: {m}
    Labels:\n{l}\nText:\n{m}\nLabel:
    Answer with one of these labels.\n{l}\n\n{m}
    Text: {m}\nWhich of these labels fits the text?\n{l}
    Read the message and answer with its label.\nMessage: {m}\n{l}
    These are the labels:\n{l}\nWhat is the label of this text? {m}
    Which of these is the message about?\n{l}\n{m}
    Pick one label for this message.\n{l}\n{m}
    {l}\nClassify this text with one of the labels above: {m}
    Sort the text by these labels:\n{l}\nText: {m}\nReply with the label.
    You sort messages. The labels are:\n{l}\nThe message is: {m}
    Labels:\n{l}\nSort this text: {m}""")
_SORTED_BY_SYSTEM = forms(r"""You sort messages. Answer with one of these labels:\n{l}
    Classify each message. Labels:\n{l}
    Reply with the label that fits the message, and nothing else.\n{l}
    Sort each message into one of these labels:\n{l}
    Each message gets one label:\n{l}
    Read the message and answer with its label. The labels are:\n{l}
    Labels:\n{l}\nAnswer with one label only.
    Classify the message with one of these labels:\n{l}""")
_NEXT = forms(r"""And this one: {m}
    Next message: {m}
    Now this: {m}
    And this message: {m}
    The next one: {m}
    And the label of this? {m}
    Message: {m}
    Now this message: {m}""")
"""How a further message comes; the test side never sends one."""

_LINE = forms("""{l} - {d}
    {l} = {d}
    {l} ({d})
    Use {l} for {d}
    {l}, for {d}
    {l} means: {d}
    {l} is for this: {d}
    {l} is the label for {d}""")
_PLAIN_LINE = "{}: {}"
"""The commonest way; the test side never lists labels like this."""


def classify(w: Writer) -> Turns:
    """The label of a message by its topic, by something it says, or by the thing it names."""
    kind = w.random.random()
    if kind < 0.2:
        return _by_name(w)
    return _by_trait(w) if kind < 0.32 else _by_topic(w)


def _by_topic(w: Writer) -> Turns:
    topics = w.some(TOPICS, w.number(2, w.number(3, 6)))
    naming = w.random.random()
    labels = [w.one(t.names) for t in topics] if naming < 0.5 else _empty_labels(w, len(topics))
    is_described = naming >= 0.1
    descriptions = [w.say(t.descriptions) if is_described else "" for t in topics]
    return _asked(w, labels, descriptions, lambda i: message(w, topics[i]))


def _empty_labels(w: Writer, count: int) -> list[str]:
    """Labels that say nothing of what they stand for."""
    style = w.random.random()
    if style < 0.45:
        return [w.word().lower() for _ in range(count)]
    if style < 0.55:
        return [w.word() for _ in range(count)]
    if style < 0.75:
        return [w.code() for _ in range(count)]
    return list("ABCDEFG"[:count]) if style < 0.9 else [str(i + 1) for i in range(count)]


def _asked(
    w: Writer, labels: Sequence[str], descriptions: Sequence[str], write: Callable[[int], str]
) -> Turns:
    """Labels and messages as turns: one message, and on the training side more of them."""
    is_plain = w.chance(0.6) and w.side == "train"
    form = _PLAIN_LINE if is_plain else w.say(_LINE).replace("{l}", "{}").replace("{d}", "{}")
    lines = [form.format(a, d) if d else a for a, d in zip(labels, descriptions, strict=True)]
    listed = "\n".join(f"- {line}" for line in lines) if w.chance(0.5) else "\n".join(lines)
    count = w.times(1, 5)
    turns: Turns = []
    is_by_system = w.chance(0.25)
    if is_by_system:
        turns.append(("system", w.say(_SORTED_BY_SYSTEM, l=listed)))
    for i in range(count):
        chosen = w.number(0, len(labels) - 1)
        text = write(chosen)
        if i and w.chance(0.3):
            text = w.say(_NEXT, m=text)
        elif not i and not is_by_system:
            text = w.say(_SORT, l=listed, m=text)
        turns += [("user", text), ("assistant", labels[chosen])]
    return turns


# ── messages on a topic ───────────────────────────────────────────────────────────────────────────────────

_LETTER = forms(r"""Hello,\n{m}
    Hello. {m}
    Hi, a short message: {m}
    Hi,\n{m}
    Dear team,\n{m}
    Good morning. {m}
    A short note: {m}
    A good day to you. {m}
    {m} Please reply soon.
    {m}\nBest regards,\n{n}
    {m} Please call me.
    {m}\nRegards,\n{n}
    Dear {n},\n{m}
    {n} here. {m}
    Hi all. {m}
    Hello {n},\n{m}
    {m} What do you say?
    {m} Please let me know.
    To whom it may concern: {m}
    {m} Let me know soon.""")


def message(w: Writer, topic: Topic) -> str:
    """What somebody writes on a topic, now and then as a letter."""
    text = capital(_filled(w, w.say(topic.messages), topic.words))
    if w.chance(0.25):
        letter = w.say(_LETTER)
        text = letter.format(m=text, n=w.person() if "{n}" in letter else "")
    return text


_SLOTS: dict[str, Make] = {
    "{n}": W.person, "{v}": W.money, "{c}": W.city, "{d}": W.weekday, "{t}": W.title, "{o}": W.company,
    "{e}": lambda w: f"the {w.product()}",
}  # fmt: skip


def _filled(w: Writer, text: str, own: Sequence[str]) -> str:
    """A message with its slots filled, "a" turned into "an" where it must be."""
    for slot, make in _SLOTS.items():
        if slot in text:
            text = _put(text, slot, make(w))
    return _put(text, "{x}", w.one(own)) if "{x}" in text else text


def _put(text: str, slot: str, value: str) -> str:
    if value[0] in "aeio":
        text = text.replace(f" a {slot}", f" an {slot}").replace(f"A {slot}", f"An {slot}")
    return text.replace(slot, value)


# ── by the thing that a message names ─────────────────────────────────────────────────────────────────────

_MENTION = forms("""messages about {e}
    anything on {e}
    {e}
    anything about {e}
    all about {e}
    questions about {e}
    messages on {e}
    all messages about {e}""")
_MENTIONED = forms(r"""I have a question about {e}.
    Who can help me with {e}?
    Please call me about {e}.
    I have a question about {e}. Who can help?
    Something is wrong with {e}.
    Can you tell me more about {e}?
    We talked about {e} yesterday.
    Please tell me more about {e}.
    {e} needs our help.
    Is there any news on {e}?
    I would like to know more about {e}.
    Is there any news about {e}?
    What do you know about {e}?
    Please send me the file on {e}.
    My boss asks about {e}.
    Please send me some news on {e}.
    I heard about {e} and want to know more.
    We need help with {e}.
    Let us talk about {e} today.
    I need to talk about {e}.""")


def _by_name(w: Writer) -> Turns:
    """Labels that stand for invented things: the message names one of them."""
    kind = w.one(("product", "company", "project", "team", "person"))
    things = entities(w, kind, w.number(2, 4))
    descriptions = [w.say(_MENTION, e=t.called) for t in things]
    write = lambda i: capital(w.say(_MENTIONED, e=things[i].called))  # noqa: E731
    return _asked(w, _empty_labels(w, len(things)), descriptions, write)


# ── by something that a message says ──────────────────────────────────────────────────────────────────────

_TRAITS: tuple[tuple[Make, Forms], ...] = (
    (W.money, forms("""a price is named
        the message names a price
        says an amount of money
        the message says an amount of money
        with an amount of money
        some money is named
        a sum of money is given
        an amount of money is given""")),
    (W.date, forms("""a date is named
        the message names a date
        says a day and a month
        the message says a day and a month
        with a date
        a day of a month is named
        a date is given
        a day and a month are given""")),
    (W.email, forms("""an email address is named
        the message names an email address
        says an email address
        the message says an email address
        with an email address
        an address for mail is named
        an email address is given
        an address for email is given""")),
    (W.time, forms("""a time of day is named
        the message names a time of day
        says at what time
        the message says a time of day
        with a time of day
        an hour of the day is named
        a time such as 9:00 is given
        an hour or time of day is given""")),
    (W.percent, forms("""a percentage is named
        the message names a percentage
        says how many percent
        the message says a percentage
        with a number of percent
        a number of percent is named
        a percentage is given
        a number of percent is given""")),
    (W.weekday, forms("""a weekday is named
        the message names a weekday
        says which day of the week
        the message says a day of the week
        with a weekday
        a day of the week is named
        a weekday is given
        a day of the week is given""")),
    (W.colour, forms("""a colour is named
        the message names a colour
        says which colour
        the message says a colour
        with a colour
        some colour is named
        a colour is given
        a colour such as red is given""")),
    (W.person, forms("""a person is named
        the message names a person
        says who
        the message says who
        with the name of a person
        somebody's name is given
        a person's name is given
        the name of a person is given""")),
)  # fmt: skip
_TRAIT_MESSAGES = forms("""The answer was {v}.
    We agreed on {v}.
    The note says {v}.
    They agreed on {v}.
    I wrote {v} on the form.
    Somebody told me {v}.
    {v} is what they told me.
    {v} is what the note says.
    It was {v} in the end.
    Please write down {v}.
    They said {v}, I think.
    Please note {v} on the form.
    The first line reads {v}.
    I think it was {v}.
    In the letter it says {v}.
    In the end, they said {v}.
    It should be {v}.
    We were told {v} again.
    My answer is {v}.
    I think it should be {v}.""")


def _by_trait(w: Writer) -> Turns:
    """Labels for what a message holds: an amount, a date, a name; each message holds one such thing."""
    traits = w.some(_TRAITS, w.number(2, 4))
    descriptions = [w.say(description) for _, description in traits]
    labels = _empty_labels(w, len(traits))
    return _asked(w, labels, descriptions, lambda i: capital(w.say(_TRAIT_MESSAGES, v=traits[i][0](w))))
