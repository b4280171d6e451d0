"""Small talk, what the model says of itself, and common knowledge: short questions without a passage.

Common knowledge is the same on both sides (it is to be known); only the wordings of its questions are held out.
"""

from __future__ import annotations

from recipes.seedling.reading import Turns
from recipes.seedling.writer import MONTHS, WEEKDAYS, Forms, Writer, forms

NAME = "Seedling"
WHO = f"I am {NAME}, a small language model."

_SMALL_TALK: tuple[tuple[Forms, str], ...] = (
    (
        forms("""Hello
            Hi
            Hello!
            Good day
            Hi there
            Hey
            Good morning
            Good evening
            Hello there!
            Hi!
            Good afternoon
            Hey there"""),
        "Hello! How can I help you?",
    ),
    (
        forms("""Who are you?
            What are you?
            What is your name?
            Say who you are.
            Tell me who you are.
            Are you a person?
            What kind of model are you?
            Introduce yourself.
            Are you a robot?
            What should I call you?
            Which model is this?
            Tell me about yourself."""),
        WHO,
    ),
    (
        forms("""What can you do?
            How can you help me?
            What are you good for?
            What do you do?
            What are you able to do?
            Which tasks can you do?
            What can I ask you?
            How do you help?"""),
        "I can answer from a text, extract, sort and rewrite. I learn more when I am tuned.",
    ),
    (
        forms("""Thanks
            Thank you!
            Thanks a lot.
            Thank you very much.
            Many thanks
            Great, thanks.
            Thank you
            Cheers, thanks."""),
        "You are welcome.",
    ),
    (
        forms("""Bye
            Goodbye
            See you
            Bye bye
            Goodbye!
            That is all, bye.
            See you later.
            Bye for now."""),
        "Goodbye!",
    ),
    (
        forms("""How are you?
            How are you doing?
            Are you well?
            How do you do?
            How is it going?
            All well?
            How are things?
            How do you feel today?"""),
        "I am well, thank you.",
    ),
)


def small_talk(w: Writer) -> Turns:
    """Greetings, thanks, and who the model is."""
    turns: Turns = []
    for _ in range(w.number(1, 3) if w.side == "train" else 1):
        wordings, reply = w.one(_SMALL_TALK)
        turns += [("user", w.say(wordings)), ("assistant", reply)]
    return turns


# ── common knowledge ──────────────────────────────────────────────────────────────────────────────────────


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a.replace("_", " "), b.replace("_", " ")) for a, b in (p.split(":") for p in text.split()))


_COMMON: tuple[tuple[tuple[tuple[str, str], ...], Forms, str], ...] = (
    (
        _pairs("""France:Paris Germany:Berlin Spain:Madrid Italy:Rome Portugal:Lisbon Austria:Vienna Poland:Warsaw
            Greece:Athens Sweden:Stockholm Norway:Oslo Denmark:Copenhagen Finland:Helsinki Ireland:Dublin
            Hungary:Budapest Belgium:Brussels Japan:Tokyo China:Beijing India:New_Delhi Egypt:Cairo Kenya:Nairobi
            Canada:Ottawa Mexico:Mexico_City Brazil:Brasilia Argentina:Buenos_Aires Chile:Santiago Peru:Lima
            Australia:Canberra Turkey:Ankara Russia:Moscow Ukraine:Kyiv Thailand:Bangkok Vietnam:Hanoi Cuba:Havana
            Morocco:Rabat Nigeria:Abuja Ghana:Accra Iceland:Reykjavik Romania:Bucharest Bulgaria:Sofia Iran:Tehran"""),
        forms("""What is the capital of {a}?
            Which city is the capital of {a}?
            Name the capital of {a}.
            Tell me the capital of {a}.
            What is the capital city of {a}?
            Capital of {a}?
            Which city is the seat of government in {a}?
            Do you know the capital of {a}?"""),
        "The capital of {a} is {b}.",
    ),
    (
        _pairs("""hot:cold big:small tall:short fast:slow old:new open:closed wet:dry full:empty light:dark early:late
            happy:sad rich:poor hard:soft loud:quiet near:far strong:weak thick:thin clean:dirty long:short
            high:low deep:shallow heavy:light cheap:expensive true:false left:right up:down day:night first:last
            buy:sell win:lose begin:end push:pull remember:forget accept:refuse increase:decrease"""),
        forms("""What is the opposite of {a}?
            Name the opposite of {a}.
            Which word is the opposite of {a}?
            Tell me the opposite of {a}.
            Opposite of {a}?
            Give me the opposite of {a}.
            What word means the contrary of {a}?
            What would be the opposite of {a}?"""),
        "The opposite of {a} is {b}.",
    ),
    (
        _pairs("""dog:puppy cat:kitten cow:calf horse:foal sheep:lamb pig:piglet hen:chick goat:kid bear:cub deer:fawn
            duck:duckling goose:gosling swan:cygnet frog:tadpole kangaroo:joey"""),
        forms("""What is a young {a} called?
            What do you call a young {a}?
            Name the young of a {a}.
            How is a baby {a} called?
            What is the word for a young {a}?
            What is a baby {a}?
            Give me the word for a baby {a}.
            A young {a} is called what?"""),
        "A young {a} is called a {b}.",
    ),
    (
        _pairs("""week:7_days year:12_months hour:60_minutes minute:60_seconds day:24_hours dozen:12_pieces
            kilometre:1,000_metres metre:100_centimetres kilogram:1,000_grams century:100_years decade:10_years
            tonne:1,000_kilograms litre:1,000_millilitres leap_year:366_days"""),
        forms("""How long or large is a {a}?
            What makes up a {a}?
            What is a {a} made of?
            How much is a {a}?
            What does a {a} have?
            How many parts does a {a} have?
            What is in a {a}?
            What does a {a} hold?"""),
        "A {a} has {b}.",
    ),
    (
        tuple(zip(WEEKDAYS, [*WEEKDAYS[1:], WEEKDAYS[0]], strict=True))
        + tuple(zip(MONTHS, [*MONTHS[1:], MONTHS[0]], strict=True)),
        forms("""What comes after {a}?
            What follows {a}?
            Which one comes after {a}?
            What is next after {a}?
            After {a} comes what?
            Name what comes after {a}.
            What do we have after {a}?
            Tell me what follows {a}."""),
        "{b} comes after {a}.",
    ),
    (
        _pairs("""baker:bread doctor:health teacher:lessons farmer:fields pilot:planes sailor:ships cook:meals
            tailor:clothes carpenter:wood painter:paint plumber:pipes librarian:books nurse:patients judge:law
            gardener:plants mechanic:machines accountant:accounts journalist:news musician:music baker:bread"""),
        forms("""What does a {a} deal with?
            What does a {a} work with?
            What is the work of a {a}?
            With what does a {a} work?
            What is a {a} busy with?
            Tell me what a {a} works with.
            What does a {a} take care of?
            What is the trade of a {a}?"""),
        "A {a} works with {b}.",
    ),
    (
        _pairs("""grass:green snow:white coal:black blood:red sky:blue lemon:yellow milk:white chocolate:brown
            tomato:red night:black ivory:white ruby:red emerald:green gold:yellow banana:yellow carrot:orange"""),
        forms("""What colour is {a}?
            Which colour does {a} have?
            Name the colour of {a}.
            What is the colour of {a}?
            Tell me the colour of {a}.
            In which colour do we see {a}?
            What colour does {a} have?
            {a} has which colour?"""),
        "The colour of {a} is {b}.",
    ),
    (
        _pairs("""mouse:mice child:children man:men woman:women foot:feet tooth:teeth goose:geese person:people
            box:boxes city:cities knife:knives leaf:leaves wolf:wolves sheep:sheep fish:fish bus:buses
            story:stories company:companies policy:policies invoice:invoices office:offices"""),
        forms("""What is the plural of {a}?
            Give the plural of {a}.
            What do we say for more than one {a}?
            How do you write the plural of {a}?
            Plural of {a}?
            Tell me the plural of {a}.
            One {a}, two what?
            Which word is the plural of {a}?"""),
        "The plural of {a} is {b}.",
    ),
)  # fmt: skip


def common(w: Writer) -> Turns:
    """Things that everybody knows, answered in a short sentence."""
    turns: Turns = []
    for _ in range(w.number(1, 4) if w.side == "train" else 1):
        known, wordings, reply = w.one(_COMMON)
        a, b = w.one(known)
        turns += [("user", w.say(wordings, a=a)), ("assistant", reply.format(a=a, b=b))]
    return turns
