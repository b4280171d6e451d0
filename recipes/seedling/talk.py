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
            Good morning to you
            Hello there!
            Hi!
            Good afternoon
            A good day to you
            Good evening
            Hello, good day
            Hello, model
            Hey there"""),
        "Hello! How can I help you?",
    ),
    (
        forms("""Who are you?
            What are you?
            What is your name?
            Who are you, and what is your name?
            Tell me who you are.
            Are you a person?
            What kind of model are you?
            What model are you?
            Introduce yourself.
            Are you a robot?
            Which model is this?
            Are you a person or a model?
            Tell me about yourself.
            What should I call you?
            Say who you are.
            Tell me what you are."""),
        WHO,
    ),
    (
        forms("""What can you do?
            How can you help me?
            What are you good for?
            What can you do for me?
            What do you do?
            Which tasks can you do?
            What can I ask you?
            What can you help me with?
            How do you help?
            What are you able to do?
            Can you help me?
            How do you help me?"""),
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
            Thanks, great.
            Thanks!
            That is great, thank you.
            Thank you so much.
            Thank you, that is great."""),
        "You are welcome.",
    ),
    (
        forms("""Bye
            Goodbye
            See you
            Bye, see you
            Goodbye!
            That is all, bye.
            See you later.
            Goodbye, see you later.
            Bye for now.
            Bye bye
            Goodbye for now.
            That is all for now, bye."""),
        "Goodbye!",
    ),
    (
        forms("""How are you?
            How are you doing?
            Are you well?
            How are you today?
            How is it going?
            All well?
            How are things?
            How are things going?
            How do you do?
            How do you feel today?
            Are you well today?
            Is all well today?"""),
        "I am well, thank you.",
    ),
    (
        forms("""Are you there?
            Can you hear me?
            Are you ready?
            Are you there and ready?
            Is anybody there?
            Can I ask you something?
            May I ask you a question?
            Can I ask you a question?"""),
        "Yes. What would you like to know?",
    ),
    (
        forms("""OK
            Good.
            All right.
            OK, good.
            Very good
            Well done
            Good answer.
            Very good, well done."""),
        "Is there anything else?",
    ),
)


def small_talk(w: Writer) -> Turns:
    """Greetings, thanks, and who the model is."""
    turns: Turns = []
    for _ in range(w.times(1, 4)):
        wordings, reply = w.one(_SMALL_TALK)
        turns += [("user", w.say(wordings)), ("assistant", reply)]
    return turns


# ── common knowledge ──────────────────────────────────────────────────────────────────────────────────────


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a.replace("_", " "), b.replace("_", " ")) for a, b in (p.split(":") for p in text.split()))


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeio' or word == 'hour' else 'a'} {word}"


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
            Which is the capital of {a}?
            Tell me the capital of {a}.
            Capital of {a}?
            What is the capital city of {a}?
            Tell me which city is the capital of {a}.
            Do you know the capital of {a}?
            {a} has which capital?
            Give me the capital of {a}.
            Do you know which city is the capital of {a}?"""),
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
            What word is the opposite of {a}?
            Tell me the opposite of {a}.
            Opposite of {a}?
            Give me the opposite of {a}.
            Tell me which word is the opposite of {a}.
            Do you know the opposite of {a}?
            What do you call the opposite of {a}?
            The opposite of {a}?
            Give me the word that is the opposite of {a}."""),
        "The opposite of {a} is {b}.",
    ),
    (
        _pairs("""dog:puppy cat:kitten cow:calf horse:foal sheep:lamb pig:piglet hen:chick goat:kid bear:cub deer:fawn
            duck:duckling goose:gosling swan:cygnet frog:tadpole kangaroo:joey"""),
        forms("""What is a young {a} called?
            What do you call a young {a}?
            What is a baby {a}?
            What is a baby {a} called?
            What is the word for a young {a}?
            A young {a} is called what?
            Give me the word for a baby {a}.
            Give me the word for a young {a}.
            What do people call a baby {a}?
            What is the name of a young {a}?
            Tell me what a baby {a} is called.
            Tell me what a young {a} is called."""),
        "A young {a} is called a {b}.",
    ),
    (
        _pairs("""week:7_days year:12_months hour:60_minutes minute:60_seconds day:24_hours dozen:12_pieces
            kilometre:1,000_metres metre:100_centimetres kilogram:1,000_grams century:100_years decade:10_years
            tonne:1,000_kilograms litre:1,000_millilitres leap_year:366_days"""),
        forms("""How long or large is {a}?
            What makes up {a}?
            What is {a} made of?
            What is {a} made up of?
            How much is {a}?
            What does {a} have in it?
            What is in {a}?
            How much is in {a}?
            Tell me how much {a} is.
            How large is {a}?
            Tell me what is in {a}.
            Tell me what {a} is made of."""),
        "{A} has {b}.",
    ),
    (
        tuple(zip(WEEKDAYS, [*WEEKDAYS[1:], WEEKDAYS[0]], strict=True))
        + tuple(zip(MONTHS, [*MONTHS[1:], MONTHS[0]], strict=True)),
        forms("""What comes after {a}?
            What follows {a}?
            Which one comes after {a}?
            Which one follows {a}?
            What is next after {a}?
            After {a} comes what?
            Tell me what follows {a}.
            Tell me what comes after {a}.
            Name what comes after {a}.
            What do we have after {a}?
            What comes next after {a}?
            What comes right after {a}?"""),
        "{b} comes after {a}.",
    ),
    (
        _pairs("""baker:bread doctor:patients teacher:lessons farmer:fields pilot:planes sailor:ships cook:meals
            tailor:clothes carpenter:wood painter:paint plumber:pipes librarian:books judge:law
            gardener:plants mechanic:machines accountant:accounts journalist:news musician:music"""),
        forms("""What does {a} deal with?
            What does {a} work with?
            With what does {a} work?
            With what does {a} deal?
            Tell me what {a} works with.
            What is {a} busy with?
            What does {a} work with all day?
            Tell me what {a} deals with.
            What is the work of {a}?
            What does {a} take care of?
            What is {a} busy with all day?
            What does {a} deal with all day?"""),
        "{A} works with {b}.",
    ),
    (
        _pairs("""grass:green snow:white coal:black blood:red sky:blue lemon:yellow milk:white chocolate:brown
            tomato:red night:black ivory:white ruby:red emerald:green gold:yellow banana:yellow carrot:orange"""),
        forms("""What colour is {a}?
            Which colour does {a} have?
            Name the colour of {a}.
            Which colour is {a}?
            What is the colour of {a}?
            Tell me the colour of {a}.
            {a} has which colour?
            What colour does {a} have?
            In which colour do we see {a}?
            Do you know the colour of {a}?
            The colour of {a}?
            Tell me which colour {a} has."""),
        "The colour of {a} is {b}.",
    ),
    (
        _pairs("""mouse:mice child:children man:men woman:women foot:feet tooth:teeth goose:geese person:people
            box:boxes city:cities knife:knives leaf:leaves wolf:wolves sheep:sheep fish:fish bus:buses
            story:stories company:companies policy:policies invoice:invoices office:offices"""),
        forms("""What is the plural of {a}?
            Give the plural of {a}.
            What do we say for more than one {a}?
            Give me the plural of {a}.
            How do you write the plural of {a}?
            Plural of {a}?
            Which word is the plural of {a}?
            What word is the plural of {a}?
            One {a}, two what?
            Tell me the plural of {a}.
            What is the word for two or more of {a}?
            How do we write the plural of {a}?"""),
        "The plural of {a} is {b}.",
    ),
    (
        _pairs("""January:winter February:winter April:spring May:spring July:summer August:summer October:autumn
            November:autumn"""),
        forms("""In which season is {a}?
            Which season is {a} in?
            To which season does {a} belong?
            Which season does {a} belong to?
            What season is {a} in?
            Tell me the season of {a}.
            What is the season in {a}?
            What season does {a} belong to?"""),
        "In the north, {a} is in {b}.",
    ),
    (
        _pairs("""pen:write_letters knife:cut_things oven:bake_bread
            broom:sweep_floors shovel:dig_holes telephone:call_people camera:take_photos
            key:lock_doors needle:sew_clothes ruler:measure_lengths pan:fry_food bed:sleep_in chair:sit_on car:drive_in
            hammer:hit_nails lamp:give_light scale:weigh_things"""),
        forms("""What is {a} for?
            What do people do with {a}?
            What do we use {a} for?
            What do people use {a} for?
            Why do people use {a}?
            What can I do with {a}?
            Tell me what {a} is for.
            What can people do with {a}?"""),
        "{A} serves to {b}.",
    ),
)  # fmt: skip
_WITH_AN_ARTICLE = frozenset({"{A} has {b}.", "{A} works with {b}.", "{A} serves to {b}."})


def common(w: Writer) -> Turns:
    """Things that everybody knows, answered in a short sentence."""
    turns: Turns = []
    for _ in range(w.times(2, 5)):
        known, wordings, reply = w.one(_COMMON)
        a, b = w.one(known)
        if reply in _WITH_AN_ARTICLE:
            a = _a(a)
        told = reply.format(a=a, b=b, A=a[:1].upper() + a[1:])
        turns += [("user", w.say(wordings, a=a)), ("assistant", told)]
    return turns
