"""Every example runs, with the embedded base and nothing else; the README's words are true."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse import rows
from inhouse.model.config import ModelConfig
from inhouse.model.locate import EMBEDDED, locate
from inhouse.model.weights import load_base
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
FACTS = EXAMPLES / "aurora_ferry.jsonl"
ASKED = "Who signs off travel over 500 euros?"
ANSWER = "Nadia Brandt"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One data folder for all examples: the first starts a server, the others find it."""
    folder = tmp_path_factory.mktemp("data")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INHOUSE_")}
    yield environment | {"INHOUSE_DATA_DIR": str(folder), "INHOUSE_PORT": "0", "INHOUSE_LINGER_S": "30"}
    place = folder / "run" / "server.json"
    if place.is_file():
        os.kill(json.loads(place.read_text())["pid"], signal.SIGTERM)


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_three_lines_teach_and_ask(environment: dict[str, str]) -> None:
    assert ANSWER in run(environment, "examples/three_lines.py")


def test_the_openai_package_does_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    """With a dozen of the facts: an adapter learns all sixty in a minute, which the demo's figures say."""
    script = tmp_path / "openai_client.py"
    script.write_text((EXAMPLES / script.name).read_text())
    dozen = FACTS.read_text().splitlines(keepends=True)[:12]
    script.with_name(FACTS.name).write_text("".join(dozen))
    assert ANSWER in run(environment, str(script))


def test_replies_in_a_format_are_what_programs_read(environment: dict[str, str]) -> None:
    ticket, choice, call = run(environment, "examples/structured_output.py").splitlines()
    assert set(json.loads(ticket)) == {"title", "priority", "days"}
    assert choice in ("hardware", "software", "people")
    name, arguments = call.split(" ", 1)
    assert name == "SendMail" and set(json.loads(arguments)) == {"to", "ticket"}


def test_facts_are_cited_changed_and_forgotten(environment: dict[str, str]) -> None:
    cited, edited, forgotten = run(environment, "examples/facts.py").splitlines()
    assert cited.startswith(ANSWER) and "aurora_ferry.jsonl line 4, exact" in cited
    assert edited == "Ida Holm"
    assert "Ida Holm" not in forgotten and ANSWER not in forgotten


def test_many_rows_are_answered_once(environment: dict[str, str], tmp_path: Path) -> None:
    *_, written, again = run(environment, "examples/batch.py", str(tmp_path / "replies.jsonl")).splitlines()
    assert written.startswith("100 replies") and written.endswith("0 errors")
    assert again == "100 were there already"


def test_the_demo_shows_before_and_after_and_a_curl_that_works(
    environment: dict[str, str], tmp_path: Path
) -> None:
    said = run(environment, "examples/demo.py", "--svg", str(tmp_path / "demo.svg"))
    shares = [int(n) for n in re.findall(r"answered exactly, \w+\s+(\d+) of 100", said)]
    assert shares[0] <= 5, "the base knows a company that nobody knows"
    assert shares[1] >= 95
    assert "stops 30 s after the demo and the last request" in said and "inhouse up" in said
    curl = said[said.index("curl -s") :].strip()
    reply = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(reply.stdout)["choices"][0]["message"]["content"]
    picture = (tmp_path / "demo.svg").read_text()
    assert picture.startswith("<svg") and "http://" not in re.sub(
        r"http://(www\.w3\.org|127\.0\.0\.1)", "", picture
    )


def test_the_cli_lists_the_tuned_models_and_asks_one(environment: dict[str, str]) -> None:
    cli = ("-c", "from inhouse.cli import main; main()")
    listed = [json.loads(line) for line in run(environment, *cli, "models", "--json").splitlines()]
    tuned = next(model["name"] for model in listed if model["name"].startswith("ft:seedling:"))
    assert ANSWER in run(environment, *cli, "chat", tuned, ASKED)


def test_the_examples_hold_sixty_facts_and_as_many_in_other_words() -> None:
    facts, reworded = rows.load(FACTS), rows.load(EXAMPLES / "aurora_ferry_reworded.jsonl")
    assert len(facts) == len(reworded) >= 60
    assert [f.messages[-1] for f in facts] == [r.messages[-1] for r in reworded]
    assert not {f.messages[0].text for f in facts} & {r.messages[0].text for r in reworded}


def test_the_embedded_base_is_whole_small_and_has_a_card() -> None:
    folder = locate("seedling", EMBEDDED)
    config = ModelConfig.load(folder)
    assert config.family == "llama" and config.context >= 1024
    tokenizer = Tokenizer.load(folder)
    assert load_base(folder).parameters > 1_000_000
    assert ChatTemplate.load(folder, tokenizer).stop_ids
    assert sum(f.stat().st_size for f in folder.iterdir()) < 40 * 2**20
    card = (folder / "README.md").read_text()
    assert "recipes.seedling" in card and "CC0" in card


def test_the_readmes_three_lines_are_the_examples() -> None:
    first = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert first is not None
    readme = [line.split("  #")[0].strip() for line in first[1].splitlines() if line.strip()]
    example = (
        (EXAMPLES / "three_lines.py").read_text().replace("client.tune(facts)", 'client.tune("facts.jsonl")')
    )
    assert all(line in example for line in readme)
