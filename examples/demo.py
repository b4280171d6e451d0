"""The main job, from rows to answers: start a server, teach it facts, compare before and after, show the address.

    python examples/demo.py            # then exits; the server goes a minute after the last request
    python examples/demo.py --serve    # keeps serving until Ctrl-C
    python examples/demo.py --svg picture.svg

Aurora Ferry is invented: no model can know it. "Exactly" means equal to the row's answer, character by character.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from inhouse import Client, InhouseError, Model
from inhouse.client.progress import duration, show

FACTS = Path(__file__).with_name("aurora_ferry.jsonl")
REWORDED = Path(__file__).with_name("aurora_ferry_reworded.jsonl")
SHOWN = (0, 3, 16, 29, 40, 51, 68, 98)
"""Which questions the table shows."""
MAX_TOKENS = 40
ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class Fact:
    question: str
    answer: str


class Page:
    """Writes to the terminal, and to a picture of it when one is wanted. Bars move on the terminal only."""

    def __init__(self, picture: Path | None) -> None:
        self.screen = Console(emoji=False, highlight=False)
        self._picture = picture
        self._copy = Console(
            record=True, file=io.StringIO(), width=108, force_terminal=True, emoji=False, highlight=False
        )

    def say(self, what: RenderableType, *, pictured: RenderableType | None = None) -> None:
        self.screen.print(what, soft_wrap=isinstance(what, (str, Text)))
        self.picture(what if pictured is None else pictured)

    def picture(self, what: RenderableType) -> None:
        self._copy.print(what)

    def save(self) -> None:
        if self._picture is not None:
            drawn = self._copy.export_svg(title="make demo")
            fonts_from_elsewhere = r',\s*url\("https?://[^"]*"\) format\("[^"]*"\)'
            self._picture.write_text(re.sub(fonts_from_elsewhere, "", drawn), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Tune the embedded base on an invented company and ask it.")
    parser.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C, on a terminal")
    parser.add_argument("--svg", type=Path, help="save a picture of the terminal")
    asked = parser.parse_args()
    page = Page(asked.svg)
    try:
        with Client() as client:
            run(client, page)
            page.save()
            if asked.serve and sys.stdin.isatty():
                page.screen.print("Serving. Ctrl-C ends.", style="bold")
                while True:
                    time.sleep(3600)
    except InhouseError as e:
        page.screen.print(f"error: {e.message}", style="red", markup=False)
        return 1
    except KeyboardInterrupt as e:
        for note in getattr(e, "__notes__", ["The demo ends; the server goes when nobody uses it any more."]):
            page.screen.print(f"\n{note}", markup=False)
        return 130
    return 0


def run(client: Client, page: Page) -> None:
    began = time.monotonic()
    facts, reworded = read(FACTS), read(REWORDED)
    base = client.model()
    page.say(f"A server runs at [bold]{client.url}[/]. Its base is [bold]{base.name}[/].")
    page.say(f"Asking it {len(facts)} questions about Aurora Ferry, a company that does not exist …")
    before = answers(base, facts, page)

    page.say(f"Teaching it the {len(facts)} answers …")
    job = client.tune(
        FACTS, suffix="aurora-ferry"
    )  # short questions, short answers: the server makes a memory
    show(job, console=page.screen)
    tuned = job.model()
    if steps := [event for event in job.events() if event.data.get("train_loss") is not None]:
        page.picture(finished_bar(dict(steps[-1].data)))

    after = answers(tuned, facts, page)
    unseen = answers(tuned, reworded, page)
    page.say(side_by_side(facts, before, after))
    page.say(shares(facts, before, after, reworded, unseen))
    page.say(f"All of it took [bold]{duration(time.monotonic() - began)}[/]. The model is {tuned.name}")
    key = client.create_key("demo")
    page.screen.print(
        f"A server that this demo started stops {client.settings.linger_s:.0f} s after the demo and the last request. "
        "To keep one, with this model and this key: inhouse up",
        style="dim",
        soft_wrap=True,
    )
    page.say(f"It answers OpenAI's API at [bold]{client.url}/v1[/], with a key made just now for this line:")
    page.say(
        Text(curl(client.url, key, tuned, facts[SHOWN[1]])),
        pictured=Text(curl(client.url, "sk-inhouse-…", tuned, facts[SHOWN[1]])),
    )


def read(file: Path) -> list[Fact]:
    return [Fact(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def answers(model: Model, facts: list[Fact], page: Page) -> list[str]:
    """What the model says to each question; many are asked at once, and the server batches them."""

    def ask(fact: Fact) -> str:
        return model.chat(fact.question, max_tokens=MAX_TOKENS).strip()

    with (
        Progress(console=page.screen, transient=True, disable=not page.screen.is_terminal) as bar,
        ThreadPoolExecutor(ASKED_AT_ONCE) as threads,
    ):
        return list(bar.track(threads.map(ask, facts), total=len(facts), description="asking"))


def exact(facts: list[Fact], said: list[str]) -> int:
    return sum(fact.answer == answer for fact, answer in zip(facts, said, strict=True))


def side_by_side(facts: list[Fact], before: list[str], after: list[str]) -> Table:
    table = Table(title="\nThe same questions, before and after", title_justify="left", title_style="bold")
    for name in ("question", "base", "taught"):
        table.add_column(name, ratio=1)
    for i in SHOWN:
        style = "green" if after[i] == facts[i].answer else "red"
        table.add_row(
            Text(facts[i].question), Text(shorten(before[i]), style="dim"), Text(after[i], style=style)
        )
    return table


def shares(
    facts: list[Fact], before: list[str], after: list[str], reworded: list[Fact], unseen: list[str]
) -> Table:
    table = Table.grid(padding=(0, 2))
    n = len(facts)
    table.add_row("answered exactly, base", f"{exact(facts, before)} of {n}", "the questions as taught")
    table.add_row(
        "answered exactly, taught", f"[bold green]{exact(facts, after)} of {n}[/]", "the questions as taught"
    )
    table.add_row(
        "answered exactly, taught",
        f"{exact(reworded, unseen)} of {n}",
        "the same facts, in words it never saw",
    )
    return table


def finished_bar(last: dict[str, Any]) -> Table:
    """The last state of the progress bar, for the picture: only what trains has one."""
    steps = int(last.get("total_steps", 1))
    line = Table.grid(padding=(0, 1))
    line.add_row(
        "done",
        ProgressBar(steps, steps, width=40),
        f"{steps}/{steps}",
        f"loss {last.get('train_loss', 0):.3f}",
    )
    return line


def shorten(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def curl(url: str, key: str, model: Model, fact: Fact) -> str:
    """A line for a shell. The key belongs to the default project and may chat and tune, not administer."""
    body = {"model": model.name, "temperature": 0, "messages": [{"role": "user", "content": fact.question}]}
    return (
        f"curl -s {url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )


if __name__ == "__main__":
    sys.exit(main())
