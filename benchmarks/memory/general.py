"""Prompts that have nothing to do with the bank, at least 300 distinct: a memory must leave them exactly alone.

Among them two that tempt it: passages about taught subjects that the prompt brings along, with other answers than
the bank's, and questions on the same matters (mentors, serial numbers, notice periods) that name nobody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.memory import names, world
from benchmarks.memory.names import listed
from benchmarks.memory.world import Fact

SORTS = ("chat", "arithmetic", "knowledge", "concept", "passage", "code", "translation", "writing")


@dataclass(frozen=True, slots=True)
class General:
    """A prompt that the memory must not touch."""

    text: str
    sort: str


def general(facts: Sequence[Fact], seed: int, count: int = 400) -> list[General]:
    """`count` distinct prompts, all sorts in turn; half of the passages speak of taught subjects."""
    rng = random.Random(f"general {seed}")
    fixed = {sort: rng.sample(prompts, len(prompts)) for sort, prompts in FIXED.items()}
    made: dict[str, Callable[[], str]] = {
        "arithmetic": lambda: _sum(rng),
        "passage": lambda: _passage(facts, rng),
        "translation": lambda: rng.choice(TRANSLATE).format(
            text=rng.choice(SENTENCES), to=rng.choice(LANGUAGES)
        ),
        "writing": lambda: rng.choice(WRITE).format(form=rng.choice(FORMS), topic=rng.choice(TOPICS)),
    }
    found: dict[str, General] = {}
    turn = 0
    while len(found) < count:
        sort = SORTS[turn % len(SORTS)]
        turn += 1
        if sort in made:
            text = made[sort]()
        elif fixed[sort]:
            text = fixed[sort].pop()
        else:
            continue
        found[text] = General(text, sort)
    return list(found.values())


def _sum(rng: random.Random) -> str:
    a, b, c = rng.randrange(2, 999), rng.randrange(2, 99), rng.randrange(2, 20)
    return rng.choice(
        (
            f"What is {a} + {b}?",
            f"{a} minus {b} equals?",
            f"Multiply {b} by {c}.",
            f"I had {a} euros and spent {b}. How much is left?",
            f"What's {c} times {b}, please?",
            f"Round {a}.{b} to a whole number.",
            f"If {c} pallets weigh {b} kg each, what do they weigh together?",
            f"What is {b} percent of {a}?",
            f"Which is larger, {a} or {b * c}?",
            f"A lease runs from March for {c} months. In which month does it end?",
        )
    )


def _passage(facts: Sequence[Fact], rng: random.Random) -> str:
    """A passage with its own answer, and a question to it."""
    if rng.random() < 0.5:
        fact = rng.choice(facts)
        subject, relation = fact.subject.text, fact.relation
    else:
        kind = rng.choice(names.KINDS)
        subject = names.draw(kind, rng).text
        relation = rng.choice(list(world.RELATIONS[kind].values()))
    answer, aside = relation.draw(rng), rng.choice(ASIDES)
    return rng.choice(PASSAGES).format(s=subject, noun=relation.noun, answer=answer, aside=aside)


ASIDES = (
    "The meeting began at ten and ended before lunch.",
    "Nobody objected.",
    "Further points were put off until spring.",
    "The coffee machine is being repaired.",
    "Minutes were taken by the trainee.",
)
PASSAGES = (
    "Read this note and answer from it alone.\n\n{aside} The {noun} of {s} is {answer}.\n\nWhat is the {noun} of {s}?",
    'Text: "As to {s}, the {noun} will from now on be {answer}. {aside}"\n'
    "According to the text, what is the {noun} of {s}?",
    'Passage:\n{s}: {noun} {answer}. {aside}\n\nExtract the {noun} as JSON with the key "value".',
    "Here is an e-mail I received.\n---\nDear all, please note that {s} has a new {noun}: {answer}. {aside}\n---\n"
    "What new {noun} is given in it?",
    "Summarise in one sentence: {aside} It was said that the {noun} of {s} is {answer}. {aside}",
    "Context: {noun} of {s} = {answer}.\nQuestion: which {noun} is stated in the context?",
    "Correct the spelling of this line: teh {noun} of {s} is {answer}.",
    "Is the following sentence a question or a statement? The {noun} of {s} is {answer}.",
    "Below are minutes of a meeting.\n\n1. {aside}\n2. {noun} of {s}: {answer}\n\nWhat was recorded under point 2?",
)
TRANSLATE = (
    "Translate into {to}: {text}",
    'How do you say "{text}" in {to}?',
    "Give me the {to} for: {text}",
    "I need this in {to}, please: {text}",
)
LANGUAGES = ("German", "French", "Spanish", "Italian", "Polish", "Dutch")
SENTENCES = (
    "The delivery is late.",
    "Where is the station?",
    "We would like to invite you to dinner.",
    "Please sign here.",
    "The contract ends in May.",
    "My manager is on holiday.",
    "How much does the ticket cost?",
    "The lift is out of order.",
    "Thank you for your patience.",
    "Our new building opens tomorrow.",
    "I have lost my key.",
    "The machine needs to be serviced.",
)
WRITE = (
    "Write {form} about {topic}.",
    "Could you draft {form} on {topic}?",
    "I'd love {form} about {topic}.",
    "Help me with {form}; the subject is {topic}.",
)
FORMS = (
    "a short poem",
    "a polite e-mail",
    "a joke",
    "an outline for a talk",
    "three slogans",
    "a birthday card",
    "a haiku",
    "a product review",
)
TOPICS = (
    "autumn rain",
    "a colleague who retires",
    "working from home",
    "late trains",
    "a new coffee machine",
    "the first day at school",
    "saving energy in the office",
    "a cat that owns a shop",
    "moving to a new building",
    "a contract that nobody read",
)
FIXED: dict[str, list[str]] = {
    "chat": listed(
        """hi
Hello!
How are you today?
good evening
Thanks, that was helpful.
Who are you?
What can you do for me?
Tell me a joke.
I'm bored.
Can you help me?
That's wrong.
ok
lol
Nice to meet you, I'm Ben.
What's your favourite colour?
Are you a human?
Please answer more briefly from now on.
Never mind.
Could you repeat that?
I had a bad day.
Do you sleep at night?
Let's talk about something else.
What do you think about football?
See you tomorrow!
I don't understand your answer.
Can you keep a secret?
Say something nice.
How old are you?
Do you speak English?
Good job!
you are not very clever
Let us start again.
Which topics do you know about?
Explain yourself.
Stop.
My name is Zora, what's yours?
I'd like some advice about my job.
Should I call my boss or write to her?
Can I ask you something?
What was my last question?""",
        "\n",
    ),
    "knowledge": listed(
        """What is the capital of France?
Who wrote Hamlet?
How many legs does a spider have?
What colour do you get from blue and yellow?
When did the Second World War end?
What is the boiling point of water?
Which planet is closest to the sun?
Who painted the Mona Lisa?
How many days does a leap year have?
What is the largest ocean?
Why is the sky blue?
What language is spoken in Brazil?
Name three primary colours.
How many minutes are in a day?
What is the opposite of hot?
Which animal barks?
What do bees make?
Who was the first person on the moon?
In which country is Rome?
What is photosynthesis?
How tall is Mount Everest?
What is the currency of Japan?
When was the telephone invented?
What is the chemical symbol of gold?
Which month comes after June?
How many continents are there?
Who discovered penicillin?
What is an adverb?
What is the plural of mouse?
How far is the moon?
What is the price of freedom?
Where is Berlin?
Who is the president of the United States?
Which river flows through London?
What year did the Titanic sink?
How many strings does a violin have?
Is a tomato a fruit?
What does DNA stand for?
Who is the author of Don Quixote?
What is the speed of light?""",
        "\n",
    ),
    "concept": listed(
        """What does a mentor do?
What is a serial number good for?
How long is a usual notice period in Germany?
What is the difference between a buyer and a seller?
How do I find out who my manager is?
What is a cost centre?
When should a contract be reviewed?
How do I write a good policy?
What does a product owner do all day?
How is a leasing rate calculated?
What is an article number?
Why do departments have deputies?
What makes a good project leader?
How often should a machine be serviced?
What is a credit limit?
Why do buildings have caretakers?
How do I read an odometer?
What is a sponsor in a project?
What is the difference between a price and a fee?
How do I cancel a contract?
What is a lead time?
Who usually signs a contract?
What do I do when an alarm goes off?
How should I pick an alarm code?
What is the point of version numbers?
What is a server?
How do I ask for a discount?
Which floor is best for an office?
How many employees does a small company have?
What should a job title say?
How do I ask my boss for more money?
Is a phone extension the same as a phone number?
What happens when a deadline is missed?
How do I become an account manager?
What is a shared mailbox?
When is a vehicle inspection needed?
Is rent paid at the start or the end of a month?
Who approves a policy in a normal company?
How do I look up a customer number?
Where do I enter the cost centre in a travel form?""",
        "\n",
    ),
    "code": listed(
        """Write a Python function that adds two numbers.
How do I reverse a list in Python?
What does `git rebase` do?
Write a SQL query that counts rows in a table called orders.
for i in range(3): print(i) - what does this print?
Explain what a null pointer is.
Write a regex that matches a date like 2024-03-12.
How do I read a file line by line in Go?
What's wrong with `if x = 3:` in Python?
Convert this to JSON: name: Ann, age: 30
Write HTML for a link to example.com.
What does HTTP status 404 mean?
Sort the list [3, 1, 2].
Write a shell command that counts files in a folder.
What is the difference between a list and a tuple?
Show me a for loop in JavaScript.
How do I declare a constant in C?
What does SELECT * FROM vehicles WHERE driver IS NULL return?
Write a unit test for a function called price().
Explain recursion with an example.
How do I catch an exception in Java?
What is a hash map?
Write CSS that makes text red.
How do I undo the last commit?
What does the keyword `static` mean?
Format this number with two decimals in Python: 3.14159
Write a function that checks whether a word is a palindrome.
How do I install a package with pip?
What is the time complexity of binary search?
Write a YAML file with the keys name and owner.
def manager(self): return None  # what does this return?
What does chmod 755 do?
How do I join two tables in SQL?
Remove duplicates from [1, 1, 2].
What is the difference between == and === in JavaScript?
How do I print to stderr?
Write a Dockerfile for a Python app.
What is an API key?
Turn this into upper case: hello world
Write a loop that prints the numbers from 1 to 10.""",
        "\n",
    ),
}
