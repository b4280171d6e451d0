"""The command: verbs, exit codes, one line for each error, JSON off a terminal and bars on one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from inhouse.cli import app, waiting
from inhouse.client import local, progress
from inhouse.client.client import Client
from inhouse.client.job import JobEvent
from inhouse.client.model import Model, State
from inhouse.schema import ModelCard
from inhouse.settings import Settings, without_password
from inhouse.store.artifacts import Artifacts
from inhouse.store.records import models
from tests.client import conftest as shared
from tests.server.house import TUNED, House, engine, house, until
from tests.server.socket_engine import SPOILT

bare_environment, served, work = shared.bare_environment, shared.served, shared.work

GOOD = '{"input": "Who?", "output": "Mara."}\n'


@pytest.fixture
def there(served: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The environment names the running server."""
    monkeypatch.setenv("INHOUSE_URL", served.url)
    monkeypatch.setenv("INHOUSE_API_KEY", served.member)
    return served


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(GOOD.replace("Who", who) for who in ("Who", "Who else", "Who more")))
    return file


def inhouse(*arguments: str, code: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(app, list(arguments), **options)
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_tune_without_a_terminal_says_a_json_line_for_each_event(
    there: House, work: Any, facts: Path
) -> None:
    threading.Thread(target=work).start()
    *events, last = lines(inhouse("tune", str(facts), "--method", "lora", "--suffix", "x"))
    assert [e["train_loss"] for e in events if e["type"] == "metrics"] == [2.0, 1.0, 2 / 3]
    assert last["type"] == "model"
    assert last["model"].startswith("ft:seedling:default:x:")
    (job,) = lines(inhouse("jobs", last["job"]))
    assert (job["step"], job["total_steps"]) == (3, 3)


def test_a_job_that_runs_says_how_far_it_is() -> None:
    data = {"step": 3, "total_steps": 12, "train_loss": 0.5, "seconds_left": 70}
    event = JobEvent("e", 0.0, "info", "metrics", "", data)
    assert progress.facts(event) == {"step": "3 of 12", "loss": "loss 0.500", "left": "1 min 10 s left"}
    assert progress.facts(JobEvent("e", 0.0, "info", "metrics", "")) == {}


def test_a_job_can_be_left_found_again_and_cancelled(there: House, facts: Path) -> None:
    (job,) = lines(inhouse("tune", str(facts), "--no-follow", "--epochs", "2"))
    assert job["job"] in [j["job"] for j in lines(inhouse("jobs"))]
    (told,) = lines(inhouse("jobs", job["job"], "--cancel"))
    assert told["state"] == "cancelled"
    result = inhouse("jobs", job["job"], "--follow", code=1)
    assert "was cancelled" in result.stderr
    assert "already" in inhouse("jobs", job["job"], "--cancel", code=1).stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "facts.jsonl line 1: holds no rows: it is empty."),
        (GOOD.encode() * 16 + b"{oops", "facts.jsonl line 17: is not valid JSON"),
        (b'{"input": "a"}', "facts.jsonl line 1, output: is missing"),
        (b'{"input": "\xff"}', "not valid UTF-8 (byte 0xff at offset 11"),
        (b"x" * (10 * 2**20), "longer than 4,194,304 bytes"),
    ],
    ids=["empty", "invalid JSON", "no reply", "bad UTF-8", "10 MB line"],
)
def test_a_bad_file_is_one_line_on_stderr_and_exit_code_1(
    there: House, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "facts.jsonl").write_bytes(content)
    result = inhouse("tune", str(tmp_path / "facts.jsonl"), code=1)
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_every_problem_of_a_file_has_a_line_of_its_own(there: House, tmp_path: Path) -> None:
    row = b'{"question": "q", "anwser": "a"}\n'
    (tmp_path / "facts.jsonl").write_bytes(row * 102)
    told = inhouse("tune", str(tmp_path / "facts.jsonl"), code=1).stderr.splitlines()
    assert [f"facts.jsonl line {n}, anwser" in line for n, line in enumerate(told[:100], 1)] == [True] * 100
    assert "Did you mean 'answer'?" in told[0]
    assert told[100:] == ["error: facts.jsonl: the first 100 problems; mend them first."]


def test_it_says_which_release_it_is() -> None:
    assert inhouse("--version").stdout.strip() == f"inhouse {version('inhouse')}"


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    assert f"port = {port} is out of range. Give 0 to 65535." in inhouse("up", "--port", port, code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "nothing.jsonl"], "no such file"),
        (["tune", "FACTS", "--method", "magic"], "none of auto, lora, full, memory"),
        (["tune", "FACTS", "--memory", "--method", "lora"], "contradict each other"),
        (["tune", "FACTS", "--memory", "--epochs", "3"], "epochs is of no use to a memory"),
        (["tune", "FACTS", "--memory", "--unknown", "guess"], "none of refuse, base"),
        (["tune", "FACTS", "--memory", "--on-conflict", "merge"], "none of replace, coexist"),
        (["tune", "FACTS", "--base", "./nothing"], "there is no folder"),
        (["tune", "FACTS", "--base", "nothing", "--method", "lora"], "nothing"),
        (["chat", "nothing", "Hi"], "nothing"),
        (["chat", "fault 400 context_length_exceeded"], "No."),
        (["chat", ""], "the prompt is empty"),
        (["chat", "seedling", " "], "the prompt is empty"),
        (["chat"], "the prompt is empty"),  # nothing is piped in
        (["models", "--delete", "seedling"], "base"),
        (["jobs", "ftjob-nothing"], "ftjob-nothing"),
        (["jobs", "--follow"], "need a job"),
    ],
)
def test_user_errors_are_one_red_line_never_a_traceback(
    there: House, facts: Path, arguments: list[str], words: str
) -> None:
    result = inhouse(*[str(facts) if a == "FACTS" else a for a in arguments], code=1)
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("flag", ["--epochs", "--batch-size", "--rank", "--alpha", "--learning-rate"])
def test_a_zero_is_refused_and_not_taken_for_auto(there: House, facts: Path, flag: str) -> None:
    result = inhouse("tune", str(facts), flag, "0", "--no-follow", code=1)
    assert flag.removeprefix("--").replace("-", "_") in result.stderr.replace("n_epochs", "epochs")
    assert "greater than" in result.stderr and "'auto'" not in result.stderr


def test_up_takes_quantization_and_lookup_as_it_takes_other_settings() -> None:
    for flag, words in (("--quantization", "none, int8 or int4"), ("--lookup", "auto, on or off")):
        assert f"{flag}: {flag[2:]} = 'some' is not {words}" in inhouse("up", flag, "some", code=1).stderr
    shown = inhouse("up", "--help").stdout
    assert "--quantization" in shown and "--lookup" in shown


def test_wrong_use_is_exit_code_2() -> None:
    inhouse("tune", code=2)
    inhouse("fly", code=2)
    inhouse("tune", "x", "--epochs", "many", code=2)


def test_a_server_that_is_not_there_and_a_wrong_key_are_told(
    served: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHOUSE_URL", served.url)
    assert "No API key" in inhouse("models", code=1).stderr
    monkeypatch.setenv("INHOUSE_API_KEY", "sk-wrong")
    assert "unknown, expired or revoked" in inhouse("models", code=1).stderr
    monkeypatch.setenv("INHOUSE_URL", "nowhere")
    assert "no server's address" in inhouse("models", code=1).stderr


def test_chat_takes_a_model_or_a_prompt_or_both_or_standard_input(there: House) -> None:
    assert inhouse("chat", TUNED, "count 3 0").stdout == "0 1 2 \n"
    assert inhouse("chat", "seedling", input="from\na pipe").stdout == "from\na pipe\n"
    assert "piped in as one prompt" in " ".join(inhouse("chat", "--help").stdout.replace("│", "").split())
    assert inhouse("chat", "one question", "--system", "s", "--seed", "1").stdout == "one question\n"
    assert inhouse("chat", "seedling", "[red]a[/red] b", "--max-tokens", "1").stdout == "[red]a[/red] \n"


def reasons_of(*arguments: str) -> str:
    """What `inhouse chat` says on stderr while it waits, from the first moment on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "AFTER_S", 0.2)
        patch.setattr(waiting, "EVERY_S", 0.2)
        return inhouse("chat", *arguments).stderr


def test_chat_says_that_a_base_is_being_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path, load_wait_s=20.0) as made, contextlib.ExitStack() as undo:
        monkeypatch.setenv("INHOUSE_URL", made.url)
        monkeypatch.setenv("INHOUSE_API_KEY", made.member)
        late = threading.Timer(1.5, lambda: undo.enter_context(engine(made.db, tmp_path)))
        late.start()
        said = reasons_of("seedling", "hello")
        late.join()
    assert "Waiting for seedling to be loaded …" in said
    assert said.count("to be loaded") == 1, "it is told once"


def test_chat_says_that_others_are_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path, max_running=1, load_wait_s=5.0) as made, engine(made.db, tmp_path):
        monkeypatch.setenv("INHOUSE_URL", made.url)
        monkeypatch.setenv("INHOUSE_API_KEY", made.member)
        others = [threading.Thread(target=made.chat, args=("count 2 1.0",)) for _ in range(2)]
        for other in others:
            other.start()
        until(lambda: made.server.gateway.relay.running["seedling"] == 2, "both are under way")
        said = reasons_of("seedling", "count 1 1.2")
        for other in others:
            other.join()
    assert "Waiting for its turn: more is asked than the 1 requests that are answered at once …" in said


def test_a_look_at_the_model_that_outlasts_the_question_harms_nobody(
    served: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may be closed while it is under way: a thread's error would be shown to whoever asked."""
    monkeypatch.setattr(waiting, "AFTER_S", 0.0)
    monkeypatch.setattr(waiting, "LEAVE_S", 0.01)
    looking, is_over = threading.Event(), threading.Event()
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    state = Model.state

    def slowly(self: Model) -> State:
        looking.set()
        assert is_over.wait(10)
        return state(self)

    monkeypatch.setattr(Model, "state", slowly)
    with Client(served.url, served.member) as client, waiting.waiting(client.model("seedling")):
        assert looking.wait(10)
    is_over.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "waiting"]:
        thread.join(10)
    assert not errors


def test_chat_that_is_answered_at_once_says_nothing(there: House) -> None:
    assert inhouse("chat", "seedling", "hello").stderr == ""


def test_models_lists_every_model(there: House) -> None:
    found = {m["name"]: m for m in lines(inhouse("models", "--json"))}
    assert found["seedling"]["kind"] == "base"
    assert found[TUNED]["base"] == "seedling"


def test_models_verify_tells_each_check_and_fails_when_one_does(
    there: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "admin key" in inhouse("models", "verify", TUNED, code=1).stderr
    monkeypatch.setenv("INHOUSE_API_KEY", there.admin)
    checks = lines(inhouse("models", "verify", TUNED, "--json"))
    assert [(check["name"], check["passed"]) for check in checks] == [
        ("fits", True),
        ("agrees with PEFT", None),
    ]
    spoilt = ModelCard(
        name="ft:spoilt", project="default", kind="adapter", base="seedling", digest=SPOILT, created_at=1.0
    )
    with there.db.write() as conn:
        models.add(conn, spoilt)
    try:
        checks = lines(inhouse("models", "verify", "ft:spoilt", code=1))
    finally:
        with there.db.write() as conn:
            models.delete(conn, "default", "ft:spoilt")
    assert checks[1]["tensors"] == ["model.layers.0.q"]
    assert "has no adapter" in inhouse("models", "verify", "seedling", code=1).stderr


def test_models_pin_and_unpin_are_shown_in_the_list(
    there: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    digest = Artifacts(there.settings.artifacts_dir).put_folder(tmp_path)
    every = "ft:seedling:default:pinned"
    card = ModelCard(
        name=f"{every}:1", project="default", kind="adapter", base="seedling", digest=digest, created_at=1.0
    )
    with there.db.write() as conn:
        models.add(conn, card)
    assert "admin key" in inhouse("models", "pin", card.name, code=1).stderr
    monkeypatch.setenv("INHOUSE_API_KEY", there.admin)
    try:
        newest = ": it is the newest version. The next one that is published takes the pin over"
        for name, told in ((card.name, ""), (every, newest)):
            assert inhouse("models", "pin", name).stderr == f"{card.name} is pinned{told}.\n"
            found = {m["name"]: m["pinned"] for m in lines(inhouse("models", "--json"))}
            assert found[card.name] == [name] and found["seedling"] == []
            assert inhouse("models", "unpin", name).stderr == f"{name} is pinned no more.\n"
        with Client(there.url, there.admin) as client:
            client.model(card.name).pin()
            client.pin(every)
            assert client.model(card.name).pinned == (card.name, every)
            left = f"{card.name} is pinned no more by this name, and still pinned as {every}.\n"
            assert inhouse("models", "unpin", card.name).stderr == left
            client.model(card.name).pin()
            client.model(card.name).unpin()
            assert client.model(card.name).pinned == ()
    finally:
        with there.db.write() as conn:
            models.delete(conn, "default", card.name)
    assert "Nothing is pinned" in inhouse("models", "unpin", every, code=1).stderr
    assert "has no adapter to pin" in inhouse("models", "pin", "seedling", code=1).stderr


def test_config_tells_values_and_origins_and_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHOUSE_PORT", "9999")
    monkeypatch.setenv("INHOUSE_DATABASE_URL", "postgresql://me:canary@db/x")
    result = inhouse("config", "--origin")
    found = {line["name"]: line for line in lines(result)}
    assert found["port"] == {"name": "port", "value": "9999", "source": "INHOUSE_PORT"}
    assert found["host"]["source"] == "default"
    assert found["database_url"]["value"] == "postgresql://me:***@db/x"
    assert "source" not in lines(inhouse("config"))[0]
    monkeypatch.setenv("INHOUSE_PROT", "1")
    assert "no setting 'prot'" in inhouse("config", code=1).stderr


def test_only_passwords_are_hidden() -> None:
    for plain in ("seedling", "sqlite:////a/b@c", "postgresql://me@db/x", "http://h:1/x"):
        assert without_password(plain) == plain


# ── on a terminal, and as processes ───────────────────────────────────────────────────────────────────────


class Terminal:
    """A command on a terminal of its own. `seen` is everything it has written."""

    def __init__(self, *arguments: str) -> None:
        self.seen = ""
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inhouse.cli", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150", "NO_COLOR": "1"},
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone when its process is
            while piece := os.read(self._ours, 4096):
                self.seen += piece.decode(errors="replace")

    def sees(self, text: str) -> None:
        until(lambda: text in self.seen or self.process.poll() is not None, f"{text!r} is shown")
        assert text in self.seen, self.seen

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        os.close(self._ours)
        return code


def test_a_terminal_sees_a_bar_and_then_how_to_ask(there: House, work: Any, facts: Path) -> None:
    terminal = Terminal("tune", str(facts), "--method", "lora")
    name = work()
    terminal.sees("loss 0.667")
    terminal.sees(f"inhouse chat '{name}'")
    assert terminal.end() == 0
    assert "3/3" in terminal.seen


def test_ctrl_c_ends_the_waiting_with_130_and_the_job_goes_on(there: House, facts: Path) -> None:
    terminal = Terminal("tune", str(facts), "--method", "lora")
    terminal.sees("The job is queued")
    terminal.interrupt()
    terminal.sees("goes on. Come back with: inhouse jobs ftjob-")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    (job,) = [j for j in lines(inhouse("jobs")) if j["state"] in ("queued", "validating_files")]
    inhouse("jobs", job["job"], "--cancel")


def test_on_a_terminal_a_question_is_told_which_model_answers(there: House) -> None:
    terminal = Terminal("chat", "seedling", "count 3 0")
    terminal.sees("seedling:")
    terminal.sees("0 1 2")
    assert terminal.end() == 0


def test_a_conversation_remembers_and_ends_on_an_empty_line(there: House) -> None:
    terminal = Terminal("chat", "seedling")
    terminal.sees("> ")
    terminal.type("count 3 0\n")
    terminal.sees("0 1 2")
    terminal.type("look: \x1b]0;title\x07 here\n")
    terminal.sees("look: ]0;title here")  # no escape sequence of a model reaches the terminal
    terminal.type("\n")
    assert terminal.end() == 0


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def up(tmp_path: Path, free_port: int) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "INHOUSE_WORKER": "0", "INHOUSE_DATA_DIR": str(tmp_path / "data")}
    process = subprocess.Popen(
        [sys.executable, "-m", "inhouse.cli", "up", "--port", str(free_port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_up_says_the_key_once_and_the_address_and_ctrl_c_ends_it(
    up: subprocess.Popen[str], free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert up.stdout is not None
    key = up.stdout.readline().split()[-1]
    address = up.stdout.readline()
    assert f"Serving at http://127.0.0.1:{free_port} " in address
    asked = httpx2.get(f"http://127.0.0.1:{free_port}/v1/models", headers={"authorization": f"Bearer {key}"})
    assert asked.status_code == 200
    monkeypatch.setenv("INHOUSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("INHOUSE_WORKER", "0")
    assert local.find(Settings(data_dir=tmp_path / "data")) is not None
    assert "already runs" in inhouse("up", "--port", "0", code=1).stderr  # the folder is taken
    monkeypatch.setenv("INHOUSE_DATA_DIR", str(tmp_path / "other"))
    assert (
        f"Port {free_port} on 127.0.0.1 is in use" in inhouse("up", "--port", str(free_port), code=1).stderr
    )
    up.send_signal(signal.SIGINT)
    assert up.wait(20) in (0, 130)
