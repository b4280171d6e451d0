"""What it costs to render a chat template in a process of its own, against rendering it in place.

    python -m benchmarks.templates [--core N]

The embedded base's own template, and the same with a comment behind it, which nobody vouches for.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from benchmarks.core import pin
from benchmarks.results import command, machine, spread, write
from inhouse import bases
from inhouse.schema import Message
from inhouse.text import renderer
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

ROUNDS, EACH = 5, 100


def conversation(turns: int, words: int) -> list[Message]:
    return [Message(role=("user", "assistant")[i % 2], content="word " * words) for i in range(turns)]


CHATS = {
    "1 message of 200 characters": conversation(1, 40),
    "11 messages of 400 characters": conversation(11, 80),
    "1 message of 100,000 characters": conversation(1, 20_000),
}


def took_ms(template: ChatTemplate, messages: list[Message]) -> float:
    """Median milliseconds of a whole prompt, tokens included."""
    found = []
    for _ in range(EACH):
        began = time.perf_counter()
        template.prompt(messages)
        found.append((time.perf_counter() - began) * 1000)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.templates")
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    pin(parser.parse_args().core)
    folder = Path(bases.__file__).parent / "seedling"
    tokenizer = Tokenizer.load(folder)
    source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    inside, outside = ChatTemplate(source, tokenizer), ChatTemplate(source + "{# #}", tokenizer)
    assert inside.is_trusted and not outside.is_trusted
    rows = []
    for name, messages in CHATS.items():
        assert inside.prompt(messages) == outside.prompt(messages)
        pairs = [(took_ms(inside, messages), took_ms(outside, messages)) for _ in range(ROUNDS)]
        rows.append(spread(f"{name}: a prompt, in place", [one for one, _ in pairs], "ms"))
        rows.append(spread(f"{name}: in a process of its own", [other for _, other in pairs], "ms"))
    starts = []
    for _ in range(ROUNDS):
        renderer.shared().close()
        began = time.perf_counter()
        outside.prompt(CHATS["1 message of 200 characters"])
        starts.append((time.perf_counter() - began) * 1000)
    rows.append(spread("the first prompt after the process has ended", starts, "ms"))
    write(
        "templates", {"machine": machine("jinja2"), "command": command("benchmarks.templates"), "rows": rows}
    )


if __name__ == "__main__":
    main()
