"""Memory tuning through every floor: facts go in, are answered word for word, changed, and forgotten for good."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse import Client, FactConflict, Model, NotFound, rows
from tests.house.house import House

ROOT = Path(__file__).resolve().parents[2]
TAUGHT = ROOT / "examples" / "aurora_ferry.jsonl"
GUIDE = ROOT / "docs" / "guides" / "facts.md"
DONT_KNOW = "I don't know."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that serves the embedded base."""
    house = House(tmp_path_factory.mktemp("home"), ["seedling"])
    house.start()
    yield house
    assert house.stop() == 0, house.output()


@pytest.fixture
def client(home: House) -> Iterator[Client]:
    with Client(home.url, home.key) as made:
        yield made


@pytest.fixture(scope="module")
def memory_name(home: House) -> str:
    """A memory of the invented company's hundred facts."""
    with Client(home.url, home.key) as client:
        return client.tune(TAUGHT, method="memory", suffix="aurora").wait(progress=False).name


@pytest.fixture
def memory(client: Client, memory_name: str) -> Model:
    return client.model(memory_name)


def small(client: Client, *facts: dict[str, Any], **options: Any) -> Model:
    return client.tune([*facts], method="memory", **options).wait(progress=False)


def fact(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **fields}


def test_every_live_fact_is_answered_word_for_word_and_cited(memory: Model) -> None:
    found = memory.facts.list()
    assert len(found) == len(rows.load(TAUGHT))
    live = [f for f in found if f.status == "live"]
    assert len(live) >= 0.9 * len(found), [f.reason for f in found if f.reason]
    for one in live:
        answer = memory.ask(one.question)
        assert (answer.text, answer.decision) == (one.answer, "exact")
        assert one.id in [cited.id for cited in answer.facts]
        assert all(cited.verified and cited.mode == "exact" for cited in answer.facts)
        assert answer.usage["completion_tokens"] > 0


def test_a_stream_says_the_same_and_cites_on_the_chunk_that_ends_it(home: House, memory: Model) -> None:
    one = next(f for f in memory.facts if f.status == "live")
    assert "".join(memory.chat(one.question, stream=True)) == one.answer
    body = {
        "model": memory.name,
        "messages": [{"role": "user", "content": one.question}],
        "stream": True,
    }
    headers = {"authorization": f"Bearer {home.key}"}
    with (
        httpx2.Client(base_url=home.url, timeout=60, trust_env=False) as http,
        http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply,
    ):
        data = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: {")]
    chunks = [json.loads(d) for d in data]
    (last,) = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert [c for c in chunks if "x_facts" in c] == [last]
    assert last["x_facts"][0]["id"] == one.id and last["x_memory"]["decision"] == "exact"


def test_what_was_never_told_is_not_invented(memory: Model) -> None:
    answers = {f.answer for f in memory.facts}
    for question in (
        "Who signs off travel over 700 euros for Borealis Rail?",
        "What is the access code of the Tromso depot?",
        "Who runs Boreal Ferry?",
    ):
        assert memory.chat(question) not in answers


def test_prompts_that_have_nothing_to_do_with_the_facts_get_the_bases_own_words(
    client: Client, memory: Model
) -> None:
    base = client.model("seedling")
    for prompt in ("Hello!", "What is 7 plus 5?", "Write one sentence about autumn."):
        answer = memory.ask(prompt, max_tokens=30)
        assert (answer.decision, answer.facts) == ("none", ())
        assert answer.text == base.chat(prompt, max_tokens=30)


def test_a_memory_serves_beside_another_model_of_its_base(client: Client, memory: Model) -> None:
    one = next(f for f in memory.facts if f.status == "live")
    answer = client.model("seedling").ask(one.question, x_memory=memory.name)
    assert answer.text == one.answer and answer.facts[0].id == one.id
    assert memory.ask(one.question, x_memory={"mode": "off"}, max_tokens=20).decision == "none"


def test_an_edit_and_a_rollback_hold_with_the_next_question(client: Client) -> None:
    asked = "Who keeps the keys of Lund station?"
    memory = small(client, fact(asked, "Ole Vik"), fact("Who keeps the keys of Moss station?", "Ane Dahl"))
    (one,) = memory.facts.search("Lund")
    assert memory.chat(asked) == "Ole Vik"
    memory.facts.edit(one.id, answer="Siri Berg")
    assert memory.ask(asked).text == "Siri Berg"
    assert memory.ask(asked).facts[0].version == 2
    memory.facts.rollback(one.id, 1)
    assert memory.chat(asked) == "Ole Vik"
    added = memory.facts.add("Who keeps the keys of Bergen station?", "Liv Aas")
    assert memory.chat("Who keeps the keys of Bergen station?") == "Liv Aas"
    with pytest.raises(FactConflict, match=added.id):
        memory.facts.add("Who keeps the keys of Bergen station?", "Jon Eide")
    assert memory.chat("Who keeps the keys of Moss station?") == "Ane Dahl"


def test_a_forgotten_fact_lies_nowhere_in_the_house(home: House, client: Client) -> None:
    canary, asked = "zq7canary4411", "What is the code word of Lund harbour?"
    memory = small(client, fact(asked, canary), fact("What is the code word of Moss harbour?", "heron"))
    assert memory.chat(asked) == canary
    assert holders(home.data_dir, canary), "the control: before, it does lie there"
    (one,) = memory.facts.search(canary)
    memory.facts.edit(one.id, answer=f"{canary} new")
    assert memory.facts.forget(one.id)
    assert canary not in memory.chat(asked)
    with pytest.raises(NotFound):
        memory.facts.get(one.id)
    assert memory.chat("What is the code word of Moss harbour?") == "heron"
    deadline = time.monotonic() + 10
    while holders(home.data_dir, canary) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holders(home.data_dir, canary) == []


def holders(folder: Path, text: str) -> list[Path]:
    """Files that hold this text, in any of their bytes."""
    found = []
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a temporary file may go while we look
            if file.is_file() and text.encode() in file.read_bytes():
                found.append(file)
    return found


def test_a_fact_for_some_groups_does_not_exist_for_others(home: House, client: Client) -> None:
    asked = "What does Siri Berg earn?"
    memory = small(
        client, fact(asked, "71,500 kroner", access=["finance"]), fact("Where does Siri Berg sit?", "Oslo")
    )
    with Client(home.url, client.create_key("payroll", groups=["finance"])) as payroll:
        assert payroll.model(memory.name).chat(asked) == "71,500 kroner"
    with Client(home.url, client.create_key("website", groups=["press"])) as website:
        theirs = website.model(memory.name)
        answer = theirs.ask(asked)
        assert "71,500" not in answer.text and answer.facts == ()
        assert [f.answer for f in theirs.facts] == ["Oslo"]
        assert "71,500" not in json.dumps(theirs.facts.explain(asked))
        assert theirs.chat("Where does Siri Berg sit?") == "Oslo"


def test_the_policy_for_unknown_questions_is_the_memorys(client: Client) -> None:
    facts = [fact(f"Who is the harbour master of {place}?", name) for place, name in PLACES.items()]
    unknown = "Who is the harbour master of Kirkenes?"
    refusing = small(client, *facts)
    assert (refusing.ask(unknown).text, refusing.ask(unknown).decision) == (DONT_KNOW, "refused")
    passing = small(client, *facts, unknown="base")
    answer = passing.ask(unknown, max_tokens=20)
    assert answer.decision == "none"
    assert answer.text == client.model("seedling").chat(unknown, max_tokens=20)


PLACES = {"Lund": "Ole Vik", "Moss": "Ane Dahl", "Bergen": "Liv Aas", "Bodo": "Jon Eide", "Alta": "Siri Berg"}


def test_facts_survive_a_killed_server(tmp_path: Path) -> None:
    house = House(tmp_path / "data", ["seedling"])
    house.start()
    with Client(house.url, house.key) as client:
        memory = small(client, *(fact(f"Who is the harbour master of {p}?", n) for p, n in PLACES.items()))
        memory.facts.add("Who is the harbour master of Hamar?", "Per Lund")
    house.kill()
    house.start()
    try:
        with Client(house.url, house.key) as client:
            again = client.model(memory.name)
            assert again.chat("Who is the harbour master of Hamar?") == "Per Lund"
            assert len(again.facts.list()) == len(PLACES) + 1
    finally:
        assert house.stop() == 0, house.output()


def test_the_server_chooses_a_memory_for_facts_and_an_adapter_for_what_is_trained(client: Client) -> None:
    job = client.tune([("Who is the cook?", "Ida"), ("When is lunch?", "12:15")])
    assert job.wait(progress=False).kind == "memory"
    said = [event.message for event in job.events()]
    assert any(message.startswith("Chose method = memory: ") for message in said)
    trained = client.tune([("Who is the cook?", "Ida"), ("When is lunch?", "12:15")], epochs=1)
    assert trained.wait(progress=False).kind == "adapter"


def test_a_report_tells_what_was_measured(memory: Model, tmp_path: Path) -> None:
    report = memory.facts.report()
    assert report["facts"] == len(memory.facts.list())
    for group in ("taught", "unseen", "noisy"):
        counts = report[group]
        assert counts["right"] + counts["wrong"] + counts["refused"] == counts["of"] > 0
    assert {group: counts["of"] > 0 for group, counts in report["unknown"].items()}.keys() == {
        "far",
        "near",
        "look_alike",
    }
    assert report["bytes_per_fact"] > 0 and report["seconds"]
    page, _, picture = memory.facts.save_report(tmp_path)
    assert "| taught wordings |" in page.read_text() and picture.read_text().startswith("<svg")


def test_an_export_makes_the_same_memory_again(client: Client, tmp_path: Path) -> None:
    first = small(
        client, fact("Who is the cook?", "Ida", wordings=["Who cooks?"]), fact("When is lunch?", "12:15")
    )
    first.facts.export(tmp_path / "facts.jsonl")
    second = client.tune(tmp_path / "facts.jsonl", method="memory").wait(progress=False)
    assert [(f.question, f.answer, f.wordings, f.source) for f in first.facts] == [
        (f.question, f.answer, f.wordings, f.source) for f in second.facts
    ]


def test_every_snippet_of_the_guide_runs(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the page: its facts, then each Python and shell block, in one folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INHOUSE_URL", home.url)
    monkeypatch.setenv("INHOUSE_API_KEY", home.key)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {}
    said = io.StringIO()
    blocks = re.findall(r"```(json|python|sh)\n(.*?)```", GUIDE.read_text(), re.S)
    assert {kind for kind, _ in blocks} == {"json", "python", "sh"}
    try:
        for kind, text in blocks:
            if kind == "json":
                Path("facts.jsonl").write_text(text)
            elif kind == "python":
                with contextlib.redirect_stdout(said):
                    exec(compile(text, str(GUIDE), "exec"), names)
            else:
                shell(text, names.get("memory"))
    finally:
        for name in ("client", "openai"):
            if name in names:
                names[name].close()
    for answer in ("Nadia Brandt exact", "07:40", "68 metres", "84,000 euros"):
        assert answer in said.getvalue()
    assert said.getvalue().count("84,000 euros") == 1, "only payroll may hear it"
    assert {p.name for p in Path("report").iterdir()} == {"report.md", "report.json", "report.svg"}


def shell(text: str, memory: Model | None) -> None:
    """Runs a block line by line; $FACT is the newest fact of the guide's memory."""
    chosen = {"FACT": memory.facts.list()[-1].id} if memory else {}
    for command in text.splitlines():
        done = subprocess.run(
            ["bash", "-c", command],
            env={**os.environ, **chosen},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
