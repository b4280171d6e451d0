"""Tasks whose reply has a form given in the prompt: a rewriting, a system's rule; JSON and labels beside them.

JSON by a schema is in `schemas`, a label for a message in `labels`.
"""

from __future__ import annotations

from recipes.seedling import facts
from recipes.seedling.facts import Fact
from recipes.seedling.labels import classify
from recipes.seedling.reading import UNKNOWN, Turns
from recipes.seedling.relations import entity
from recipes.seedling.schemas import extract
from recipes.seedling.writer import Forms, Writer, forms

__all__ = ["classify", "extract", "obey", "rewrite"]

# ── rewriting ─────────────────────────────────────────────────────────────────────────────────────────────

_REWRITES: dict[str, Forms] = {
    "upper": forms(r"""Write this in capital letters: {s}
        Put this in upper case: {s}
        {s}\nMake it all capitals.
        Put this in capital letters: {s}
        {s}\nWrite that in upper case.
        Turn this into capital letters: {s}
        In capitals, please: {s}
        Make this upper case: {s}
        Change this to capitals: {s}
        {s}\nPut that in capitals, please.
        Upper case, please: {s}
        {s}\nIn capital letters, please."""),
    "lower": forms(r"""Write this in small letters: {s}
        Put this in lower case: {s}
        {s}\nMake it all small letters.
        Put this in small letters: {s}
        {s}\nWrite that in lower case.
        Turn this into small letters: {s}
        In small letters, please: {s}
        Make this lower case: {s}
        Change this to lower case: {s}
        {s}\nPut that in lower case, please.
        Lower case, please: {s}
        {s}\nIn small letters, please."""),
    "repeat": forms(r"""Repeat this: {s}
        Say this back to me: {s}
        Copy this sentence: {s}
        Copy this: {s}
        Repeat this sentence: {s}
        {s}\nRepeat that.
        Say this again: {s}
        {s}\nSay that again.
        Write this again: {s}
        Repeat after me: {s}
        {s}\nCopy that, please.
        Repeat this sentence, please: {s}"""),
    "replace": forms(r"""Replace {x} with {y}: {s}
        {s}\nWrite {y} in place of {x}.
        Change {x} to {y} in this sentence: {s}
        Replace {x} with {y} in this sentence: {s}
        {s}\nReplace {x} with {y}.
        Put {y} in place of {x}: {s}
        It is {y}, not {x}. Change this: {s}
        {s}\nChange {x} to {y}.
        Write this with {y} in place of {x}: {s}
        {s}\nPut {y} where it says {x}.
        {x} is wrong here; it is {y}: {s}
        {s}\nPut {y} in place of {x}."""),
    "bullets": forms(r"""Turn this into bullet points: {s}
        Make a bullet list of these sentences: {s}
        {s}\nAs bullet points, please.
        Turn these sentences into a bullet list: {s}
        Put a dash before each sentence: {s}
        {s}\nMake that a list with dashes.
        Write each sentence on a line with a dash: {s}
        {s}\nMake bullet points of that.
        Make a list, one sentence on each line: {s}
        Bullet points, please: {s}
        {s}\nTurn that into a bullet list.
        {s}\nPut that into bullet points."""),
    "short": forms(r"""Make this shorter: {s}
        Shorten this: {s}
        Summarise: {s}
        Summarise this in one sentence: {s}
        {s}\nSay that in one sentence.
        What matters here? {s}
        Keep only what matters: {s}
        Shorten this to what matters: {s}
        Which sentence matters here? {s}
        {s}\nSummarise that.
        Give me the short version: {s}
        {s}\nGive me a short version of that.
        {s}\nWhat is the main point?
        Give me the main point of this: {s}
        A summary, please: {s}
        {s}\nMake that shorter, please."""),
    "polite": forms(r"""Make this polite: {s}
        Say this in a polite way: {s}
        Turn this into a polite question: {s}
        Make this more polite: {s}
        {s}\nMake that polite.
        Write this as a polite question: {s}
        Ask this in a polite way: {s}
        {s}\nSay that in a polite way.
        Be polite: {s}
        How do I say this politely? {s}
        {s}\nAsk that politely.
        Say this politely: {s}"""),
}  # fmt: skip
_SAME_AGAIN = forms(r"""And this: {s}
    The same with this: {s}
    Now this: {s}
    And the same with this: {s}
    Next: {s}
    Now the same with this: {s}
    This one, too: {s}
    And this one, too: {s}""")
_ORDERS = forms(r"""Call {n}.
    Send {n} the file.
    Ask {n} about {e}.
    Tell {n} about {e}.
    Remind {n} of {e}.
    Book a room in {c}.
    Order {e}.
    Order {e} for {n}.
    Return {e} to {c}.
    Send {e} to {c}.
    Write to {n} about {e}.
    Send {e} to {n}.
    Meet {n} in {c}.
    Bring me {e}.
    Check {e} again.
    Bring {e} to {n}.
    Wait for {n}.
    Repair {e}.
    Show {n} how to use {e}.
    Meet {n} and wait for me in {c}.""")
_BEFORE = forms("""As you may have heard, there is something to share.
    We had a long talk about many things.
    Hello all, I hope that you are well.
    Hello, I hope that you had a good week.
    The weather was fine and the room was full.
    After a short break we went on.
    I looked into this for you.
    After a long talk we looked into this.
    It took a while to find out.
    Many of you have asked.
    Thank you for the long letter.
    Thank you all for the talk that we had.
    I am sorry that you had to wait.
    We talked about the weather first.
    You asked me about this last week.
    Many of you asked about this last week.""")
_AFTER = forms("""That is all for today.
    Everybody went home after that.
    Have a good week.
    Have a good week, all of you.
    There was coffee and cake.
    Nothing else was said.
    Let me know if you need more.
    Let me know if that is all.
    I hope that this helps.
    Thank you for waiting.
    We will talk again soon.
    I hope that we talk again soon.
    After that there was a short break.
    Call me if you have questions.
    I will write again next week.
    Call me next week if you need more.""")


def rewrite(w: Writer) -> Turns:
    """The same text in another form; on the training side more texts may follow."""
    kind = w.one(tuple(_REWRITES))
    turns: Turns = []
    for i in range(w.number(1, w.number(1, 3)) if w.side == "train" else 1):
        if kind == "replace":
            source, reply, old, new = _replaced(w)
            asked = w.say(_REWRITES[kind], s=source, x=old, y=new)
        else:
            source, reply = _rewritten(w, kind)
            asked = w.say(_SAME_AGAIN if i and w.chance(0.6) else _REWRITES[kind], s=source)
        turns += [("user", asked), ("assistant", reply)]
    return turns


def _rewritten(w: Writer, kind: str) -> tuple[str, str]:
    """A text and the same in the form wanted."""
    if kind == "polite":
        source = w.say(_ORDERS, n=w.person(), e=f"the {w.product()}", c=w.city())
        return source, f"Could you please {source[0].lower()}{source[1:-1]}?"
    if kind == "bullets":
        lines = [f.sentence for f in facts.facts(w, w.number(2, 3))]
        return " ".join(lines), "\n".join(f"- {line}" for line in lines)
    sentence = facts.facts(w, 1)[0].sentence
    if kind == "short":
        before = [w.say(_BEFORE)] if w.chance(0.7) else []
        after = [w.say(_AFTER)] if not before or w.chance(0.7) else []
        return " ".join([*before, sentence, *after]), sentence
    return sentence, {"upper": sentence.upper(), "lower": sentence.lower()}.get(kind, sentence)


def _replaced(w: Writer) -> tuple[str, str, str, str]:
    """A sentence, the same with another value, and both values."""
    while True:
        fact = facts.facts(w, 1)[0]
        old, new = fact.value, fact.relation.make(w)
        if fact.sentence.count(old) == 1 and old != new:
            return fact.sentence, fact.sentence.replace(old, new), old, new


# ── a system's rule ───────────────────────────────────────────────────────────────────────────────────────

_SYSTEM: dict[str, Forms] = {
    "capitals": forms(r"""Answer in capital letters.
        Reply in upper case only.
        Write every answer in capitals.
        Reply in capital letters only.
        Use capitals for every answer.
        All answers are in capital letters.
        Put every reply in upper case.
        Put every answer in capitals.
        Only capital letters in your replies, please.
        Write in upper case.
        Each reply is in capitals.
        Write each reply in upper case."""),
    "begin": forms(r"""Begin every answer with "{x}".
        Start each reply with "{x}".
        Every answer starts with "{x}".
        Start every answer with "{x}".
        Each reply begins with "{x}".
        The first words of each answer are "{x}".
        Put "{x}" before every answer.
        Begin each reply with "{x}".
        Say "{x}" first, then answer.
        Write "{x}" at the start of each reply.
        All your answers begin with "{x}".
        Put "{x}" at the start of every answer."""),
    "end": forms(r"""End every answer with "{x}".
        Finish each reply with "{x}".
        Every answer ends with "{x}".
        End each reply with "{x}".
        Each reply finishes with "{x}".
        The last words of each answer are "{x}".
        Put "{x}" after every answer.
        Finish every answer with "{x}".
        Answer, then say "{x}" at the end.
        Write "{x}" at the end of each reply.
        All your answers end with "{x}".
        Put "{x}" at the end of every answer."""),
    "refuse": forms(r"""If somebody asks about {x}, reply "{y}".
        Questions about {x} get the answer "{y}".
        When asked about {x}, say only "{y}".
        If you are asked about {x}, say "{y}".
        Do not talk about {x}; say "{y}".
        To questions about {x}, reply only "{y}".
        When somebody asks about {x}, answer "{y}".
        When you are asked about {x}, reply "{y}".
        If the question is about {x}, the answer is "{y}".
        All questions about {x} get the reply "{y}".
        Is the question about {x}? Then say "{y}".
        If a question is about {x}, answer "{y}"."""),
    "quote": forms(r"""Put every answer in quotation marks.
        Write each reply in quotation marks.
        Every answer stands in quotation marks.
        Put each reply in quotation marks.
        Use quotation marks around every answer.
        Answer in quotation marks.
        Each answer has quotation marks around it.
        Write every answer in quotation marks."""),
    "name": forms(r"""You are {x}.
        Your name is {x}.
        You are called {x}.
        Your name is {x}, and you help people.
        You are {x}, a helper.
        Users know you as {x}.
        You are {x} and help people at work.
        You are called {x} and help people.
        Call yourself {x}.
        You help people, and your name is {x}.
        People call you {x}.
        You are a helper called {x}."""),
}  # fmt: skip
_BEGINS = Forms(
    "Sure:", "Answer:", "Of course:", "Sure, the answer:", "Certainly:", "Result:", "Here you are:", "Of course, sure:",
    "Yes:", "Found it:", "I looked it up:", "Yes, found it:", "My answer:", "With pleasure:", "It says:", "My result:",
)  # fmt: skip
_ENDS = Forms(
    "Have a good day.", "Thank you.", "Is that all?", "Thank you, is that all?", "Kind regards.", "Anything else?",
    "I hope this helps.", "Have a good evening.", "Ask me more.", "See you soon.", "Glad to help.",
    "Ask me again soon.", "That is all.", "Call again.", "Over and out.", "I hope that is all.",
)  # fmt: skip
_REFUSALS = Forms(
    "Please call {n}.", "Ask {n}.", "I may not say.", "Please ask {n}.", "{n} can help.", "Write to {n}.",
    "I cannot talk about that.", "Please write to {n}.", "That is a secret.", "{n} knows.", "I cannot help with that.",
    "I may not talk about that.", "I may not help you.", "Talk to {n}.", "That is for {n} to say.", "{n} can say.",
)  # fmt: skip
_NAME_ASKED = forms(r"""Who are you?
    What is your name?
    What are you called?
    Tell me your name.
    Your name?
    Who am I talking to?
    What do I call you?
    May I ask your name?
    What should I call you?
    And you are?
    Please tell me who you are.
    Please tell me your name.""")


def obey(w: Writer) -> Turns:
    """Questions under a rule that the system's turn sets, alone or with a passage."""
    rule = w.one(tuple(_SYSTEM))
    if rule == "name":
        name = w.word()
        asked = w.say(_NAME_ASKED)
        return [("system", w.say(_SYSTEM[rule], x=name)), ("user", asked), ("assistant", f"I am {name}.")]
    told = facts.facts(w, w.number(1, 3) if w.side == "train" else 1)
    x = y = ""
    if rule == "begin":
        x = w.say(_BEGINS)
    elif rule == "end":
        x = w.say(_ENDS)
    elif rule == "refuse":
        y = w.say(_REFUSALS)
        y = y.format(n=w.person()) if "{n}" in y else y
        x = (told[0].entity if w.chance(0.6) else entity(w, told[0].entity.kind)).called
    setting = w.say(_SYSTEM[rule], x=x, y=y)
    is_by_system = w.chance(0.4)
    if is_by_system:
        setting = "\n".join([setting, " ".join(f.sentence for f in told)])
    turns: Turns = [("system", setting)]
    for fact in told:
        asked = facts.question(w, fact.entity, fact.relation)
        reply = fact.value
        if not is_by_system and w.chance(0.8):
            asked = f"{fact.sentence}\n\n{asked}" if w.chance(0.7) else f"{fact.sentence} {asked}"
        elif not is_by_system:
            reply = UNKNOWN
        turns += [("user", asked), ("assistant", _under(rule, x, y, fact, reply))]
    return turns


def _under(rule: str, x: str, y: str, fact: Fact, reply: str) -> str:
    """A reply as a rule wants it."""
    match rule:
        case "capitals":
            return reply.upper()
        case "begin":
            return f"{x} {reply}"
        case "end":
            return f"{reply} {x}"
        case "quote":
            return f'"{reply}"'
        case _:
            return y if fact.entity.called == x else reply
