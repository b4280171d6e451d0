"""Grammars that would stop a step, or the process, are refused within bounds, in a process that may end for it."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inhouse.errors import EngineOverloaded, InvalidRequest
from inhouse.text import taster
from inhouse.text.grammar import Grammars

from .schemas import BOMBS, closed
from .test_grammar import matcher


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_schema_is_refused_within_bounds(grammars: Grammars, name: str) -> None:
    """Faults 32 and 33: each once built by the library alone ends the process, takes seconds or fills the memory, or
    is merely too large; that this process goes on is part of the test."""
    taster.shared().taste("start: /a/")  # its process is there: what is measured is the grammar
    gc.collect()  # nor is it a look through all that other tests have left
    began = time.thread_time(), time.monotonic()
    with pytest.raises(InvalidRequest) as refused:
        matcher(grammars, json_schema=BOMBS[name])
    assert time.thread_time() - began[0] < 1.0
    assert time.monotonic() - began[1] < 20.0, (
        "another process's second, on a machine that others use as well"
    )
    assert refused.value.param == "response_format"
    assert len(refused.value.message) < 600


GROWS = "(a+)+b"
"""By trying, each further letter doubles what a text of a's alone takes."""


def test_a_pattern_that_others_try_for_ever_is_read_in_one_go(grammars: Grammars) -> None:
    """Fault 33: by a linear engine: a thousand letters, each looked at once."""
    pattern = closed(a={"type": "string", "pattern": f"^{GROWS}$"})
    letters = "a" * 1000
    began = time.process_time()
    assert not matcher(grammars, regex=GROWS).accepts(letters)
    assert matcher(grammars, regex=GROWS).accepts(letters + "b")
    assert matcher(grammars, json_schema=pattern).accepts(json.dumps({"a": letters + "b"}))
    assert time.process_time() - began < 1.0


def test_control_an_engine_that_tries_does_not_end_over_forty_letters() -> None:
    """Fault 33, the control: Python's own, with a second of the processor."""
    code = (
        "import re, resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1)); "
        f"re.fullmatch({GROWS!r}, 'a' * 40)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


HOSTILE_LARK = {
    "rules in a chain": "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4000)) + '\nr4000: "a"',
    "terminals in a chain": "start: R0\n"
    + "\n".join(f"R{i}: R{i + 1}" for i in range(4000))
    + '\nR4000: "a"',
    "parentheses": "start: " + "(" * 20_000 + '"a"' + ")" * 20_000,
    "alternatives": "start: " + " | ".join(f'"{i}"' for i in range(9000)),
    "nothing at all": "start: x\nx: x",
    "no grammar": "hello",
    "a schema that is none": 'start: %json {"type": "strng"}',
}


@pytest.mark.parametrize("name", HOSTILE_LARK)
def test_a_hostile_grammar_is_refused(grammars: Grammars, name: str) -> None:
    """Fault 32: grammars, too."""
    with pytest.raises(InvalidRequest):
        matcher(grammars, grammar=HOSTILE_LARK[name])


@pytest.mark.parametrize("name", ["rules in a chain", "terminals in a chain"])
def test_without_the_taster_a_hostile_grammar_ends_the_process(name: str) -> None:
    """Fault 32, the control: the same grammar, given to the library as the engine would."""
    code = (
        "import sys; from llguidance import LLMatcher, LLTokenizer\n"
        "print(LLMatcher(LLTokenizer('byte'), sys.stdin.read(), log_level=0).is_error())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=HOSTILE_LARK[name], capture_output=True, text=True, check=False
    )
    assert done.returncode < 0, "a signal ended it"


def test_a_refusal_is_remembered_and_so_is_a_grammar(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest):
        matcher(grammars, grammar="start: nobody_1")
    matcher(grammars, regex="remembered")
    monkeypatch.setattr(taster.Taster, "taste", lambda self, grammar: pytest.fail("it was tasted again"))
    with pytest.raises(InvalidRequest, match="nobody_1"):
        matcher(grammars, grammar="start: nobody_1")
    assert matcher(grammars, regex="remembered").accepts("remembered")


@pytest.mark.parametrize("length", [1, 10**6], ids=["it says nothing", "it takes nothing"])
def test_a_taster_that_stands_still_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    own, stopped = taster.Taster(), None
    with ThreadPoolExecutor(1) as caller:
        try:
            assert own.taste('start: "a"') is None
            stopped = own.child.process
            assert stopped is not None
            os.kill(stopped.pid, signal.SIGSTOP)
            monkeypatch.setattr(taster, "WAIT_S", 0.2)
            tasted = caller.submit(own.taste, f'start: "{"a" * length}"')
            with pytest.raises(EngineOverloaded, match="Try again"):
                tasted.result(10)
            monkeypatch.setattr(taster, "WAIT_S", 20.0)
            assert own.taste('start: "a"') is None, "another has taken its place"
            assert stopped.poll() is not None, "and the one that stood still is gone"
        finally:
            if stopped is not None and stopped.poll() is None:
                stopped.kill()
            own.close()


def test_a_grammar_that_was_not_tried_in_time_is_not_remembered_as_refused(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taster, "WAIT_S", 0.0)
    late = ""
    with pytest.raises(EngineOverloaded):
        for number in range(20):  # one of them may be done before it is looked for
            late = f"late{number}"
            matcher(grammars, regex=late)
    monkeypatch.undo()
    assert matcher(grammars, regex=late).accepts(late)


def test_the_taster_lives_on_after_a_grammar_that_ended_it() -> None:
    own = taster.Taster()
    try:
        assert own.taste('start: "a"') is None
        assert "Make it smaller" in (own.taste(HOSTILE_LARK["rules in a chain"]) or "")
        assert own.taste('start: "a"') is None
    finally:
        own.close()


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only some systems can limit a process's memory"
)
def test_the_taster_s_memory_is_bounded() -> None:
    code = "from inhouse.text import taster; taster.MEMORY_BYTES = 16 * 2**20; taster.main()"
    large = "start: " + " | ".join(f'"{i}"' for i in range(7000))
    for grammar, is_whole in (('start: "a"', True), (large, False)):
        tasted = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(grammar) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (tasted.returncode == 0 and bool(tasted.stdout)) is is_whole


def test_text_that_is_forced_on_end_is_bounded(grammars: Grammars) -> None:
    """Each step reads all of it, and everybody in the batch waits."""
    assert matcher(grammars, choice=["x" * taster.MOST_FORCED])
    for asked in ({"choice": ["x" * (taster.MOST_FORCED + 1)]}, {"regex": "a{200000}"}):
        with pytest.raises(InvalidRequest, match="leaves no choice for"):
            matcher(grammars, **asked)


def test_a_reply_whose_masks_take_too_long_is_refused_and_guesses_nothing(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = matcher(grammars, choice=["yes, indeed", "yes, please"])
    control = at.clone()
    for _ in range(20):
        control.mask()
    assert control.forced(), "none of these was slow"
    monkeypatch.setattr("inhouse.text.grammar.SPARE_S", -0.2)  # so each counts as a fifth of a second
    at.mask()
    assert at.forced() == ()
    with pytest.raises(InvalidRequest, match="takes too long at each step"):
        [at.mask() for _ in range(3)]
