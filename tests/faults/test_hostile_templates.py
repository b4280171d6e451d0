"""Chat templates are programs that come with a checkpoint: what a hostile one takes, it takes of a child process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse import bases
from inhouse.errors import BadCheckpoint, EngineOverloaded, InternalError, InvalidRequest
from inhouse.schema import Message, Tool, ToolCall
from inhouse.text import renderer, sandbox
from inhouse.text.limited import LimitedProcess
from inhouse.text.template import PLAIN, ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.tiny import base_folder

LOOPS = "{% for i in range(30000) %}{% for j in range(200) %}{% set x = i * j %}{% endfor %}{% endfor %}"
"""Stays in the sandbox, says nothing, and takes seconds."""
FILLED = (
    "{% set all = namespace(text='a') %}"
    "{% for i in range(28) %}{% set all.text = all.text ~ all.text %}{% endfor %}{{ all.text | length }}"
)
"""Says nine characters, and holds 268 MB on the way."""
HONEST = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
ASKED = [Message(role="user", content="Grüße, 世界 \u2028 <|end|> \x7f")]
CPU_SLACK_S = 0.5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(base_folder(tmp_path_factory.mktemp("base")))


@pytest.fixture
def child() -> Iterator[None]:
    """Another process than other tests have, so that each begins with a fresh one."""
    renderer.shared().close()
    yield
    renderer.shared().close()


def trusted(source: str) -> set[str]:
    return {renderer.digest_of(source)}


def cpu_s() -> float:
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


@pytest.mark.parametrize("source", [LOOPS, FILLED], ids=["loops", "filled memory"])
def test_a_template_that_takes_too_much_is_refused_and_the_next_is_rendered(
    source: str, tokenizer: Tokenizer, child: None
) -> None:
    """Fault 41: at most a second and 64 MB, both of another process."""
    good = ChatTemplate(HONEST, tokenizer)
    before, peak = cpu_s(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    template = ChatTemplate("{% if add_generation_prompt %}" + source + "{% endif %}", tokenizer)
    with pytest.raises(InvalidRequest, match="more than 1 s or 64 MB"):
        template.prompt(ASKED)
    renderer.shared().close()  # what it used is counted when it has ended
    # making a template asks it three times at most, before anybody else does
    assert cpu_s() - before < 4 * (renderer.CPU_S + CPU_SLACK_S)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 32 * 1024, "kB of this process"
    assert good.prompt(ASKED), "another process renders the next one"


@pytest.mark.parametrize("source", [LOOPS, FILLED], ids=["loops", "filled memory"])
def test_control_in_the_same_process_it_takes_seconds_and_hundreds_of_megabytes(source: str) -> None:
    """Fault 41, the control: Jinja's sandbox alone stops neither."""
    code = (
        "import re, sys, time; from pathlib import Path; from inhouse.text.sandbox import Template\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "template = Template(sys.stdin.read()); cpu, before = time.process_time(), peak(); template.render({})\n"
        "print(time.process_time() - cpu, (peak() - before) / 1024)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], input=source, capture_output=True, text=True, check=True
    )
    seconds, megabytes = map(float, told.stdout.split())
    assert seconds > renderer.CPU_S if source is LOOPS else megabytes > 3 * 64


def test_only_templates_of_known_digests_are_rendered_in_this_process(
    tokenizer: Tokenizer, child: None
) -> None:
    """Fault 41: the embedded base's and the plain one pay for no process; a letter more, and another pays."""
    seedling = (Path(bases.__file__).parent / "seedling" / "chat_template.jinja").read_text(encoding="utf-8")
    for source in (seedling, PLAIN):
        assert ChatTemplate(source, tokenizer).prompt(ASKED)
    assert ChatTemplate(HONEST, tokenizer, trusted(HONEST)).prompt(ASKED)
    assert renderer.shared().process is None
    assert not ChatTemplate(seedling + " ", tokenizer).is_trusted
    assert renderer.shared().process is not None


def test_whoever_renders_it_the_text_is_the_same(tokenizer: Tokenizer) -> None:
    """Fault 41: the child changes nothing of what an honest template says, and nothing of how one refuses."""
    call = ToolCall(id="a12345678", name="look", arguments='{"é": [1.5, 1e300, null, 12345678901234567890]}')
    told = [
        *ASKED,
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="user", content="b"),
    ]
    tools = [Tool(name="look", description="\ud7ff\ue000 \\ \n", parameters={"type": "object"})]
    for source in (
        HONEST,
        PLAIN + " ",
        "{{ strftime_now('%Y') }}{{ bos_token }}{{ messages | tojson(indent=2) }}",
    ):
        inside = ChatTemplate(source, tokenizer, trusted(source))
        outside = ChatTemplate(source, tokenizer)
        assert inside.is_trusted and not outside.is_trusted
        assert outside.prompt(told, tools) == inside.prompt(told, tools)
        assert outside.example(told[:2]) == inside.example(told[:2])
        assert (outside.calls, outside.stop_ids) == (inside.calls, inside.stop_ids)
    for source in (
        "{{ raise_exception('no') }}",
        "{{ messages.__class__.x }}",
        "{{ 1 / 0 }}",
        "{{ 'a' * 10**8 }}",
    ):
        refusals = []
        for own in (trusted(source), set()):
            with pytest.raises(InvalidRequest) as caught:
                ChatTemplate(source, tokenizer, own).prompt(ASKED)
            refusals.append((caught.value.message, caught.value.param))
        assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    "source",
    [
        "{% if a %}" * 20_000,
        "{{ " + "(" * 100_000,
        "{{ a" + "|e" * 50_000 + " }}",
        "{{ " + "-" * 200_000 + "1 }}",
    ],
    ids=["blocks", "brackets", "filters", "signs"],
)
def test_a_template_that_cannot_be_compiled_is_no_base_s(source: str, tokenizer: Tokenizer) -> None:
    """Fault 41: what overflows a parser ends the child, and the base is refused with the reason."""
    with pytest.raises(BadCheckpoint, match="chat template"):
        ChatTemplate(source, tokenizer).prompt(ASKED)


def test_a_child_that_stands_still_is_replaced(
    tokenizer: Tokenizer, child: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 41: the caller is told to try again, and the next one finds a process that works."""
    template = ChatTemplate(HONEST, tokenizer)
    stopped = renderer.shared().process
    assert stopped is not None
    os.kill(stopped.pid, signal.SIGSTOP)
    monkeypatch.setattr(renderer, "WAIT_S", 0.2)
    for content in ("short", "long" * 100_000):
        began = time.monotonic()
        with pytest.raises(EngineOverloaded, match="Try again"):
            template.prompt([Message(role="user", content=content)])
        assert time.monotonic() - began < 5
        monkeypatch.setattr(renderer, "WAIT_S", 20.0)
        assert template.prompt(ASKED)
        now = renderer.shared().process
        assert now is not None and now.pid != stopped.pid
        os.kill(now.pid, signal.SIGSTOP)
        stopped = now
        monkeypatch.setattr(renderer, "WAIT_S", 0.2)


def test_a_child_that_cannot_start_is_no_fault_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the installation is not whole: the conversation is not to blame, and a shorter one does not help."""
    monkeypatch.setattr(renderer, "shared", lambda: LimitedProcess("inhouse.text.no_such_module"))
    with pytest.raises(InternalError, match="an error of its own"):
        renderer.Guarded("{{ messages }}")


def test_a_long_honest_conversation_has_room(tokenizer: Tokenizer) -> None:
    """Fault 41: a million characters, far more than a context of 128k tokens, are within 1 s and 64 MB."""
    template = ChatTemplate(HONEST, tokenizer)
    for letter in "a世":
        text = template.render([Message(role="user", content=letter * 1_000)] * 1_000, ask=True)
        assert len(text) > 1_000_000
    assert sandbox.MAX_PROMPT_CHARS > 1_000_000
