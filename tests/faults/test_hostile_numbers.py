"""Numbers out of range, whatever they are and wherever they stand: a 400 that names the field, and never more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from inhouse.server.openai import chat
from inhouse.server.openai.chat import ChatRequest
from tests.engine.test_reliability_gateway import Whole, whole
from tests.engine.world import World
from tests.server.house import House, house

NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "min_p", "top_k",
           "n", "seed", "max_tokens", "max_completion_tokens", "top_logprobs")  # fmt: skip
KNOBS = ("n_epochs", "batch_size", "learning_rate_multiplier", "x_rank", "x_alpha", "x_learning_rate",
         "x_checkpoint_every", "x_evaluate_every")  # fmt: skip
FAR = [-(10**30), -(2**63) - 1, -1, 0, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**9, 10**30, -1e308, -5e-324, 5e-324,
       0.5, 1.0000001, 2.0000001, 1e308]  # fmt: skip
numbers = (
    st.sampled_from(FAR)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["1", "", True, [], [1], {}, "١"])
)
raws = numbers.map(json.dumps) | st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e999", "-0", "0x10", "1_000", "01"]
)
tried = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
SLOWEST_S = 20.0


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with whole(folder, World(folder / "world")) as made:
        yield made


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    """A server without a worker, and an upload."""
    with house(tmp_path_factory.mktemp("house")) as made:
        sent = {"file": ("f.jsonl", b'{"input":"a","output":"b"}\n')}
        yield made, made.client().post("/v1/files", data={"purpose": "fine-tune"}, files=sent).json()["id"]


def told(made: House, path: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and body for raw fields: what no JSON writer would write may be among them."""
    content = "{" + ", ".join(f'"{name}": {raw}' for name, raw in fields.items()) + "}"
    headers = {"content-type": "application/json"}
    reply = made.client().post(path, content=content.encode(), headers=headers, timeout=SLOWEST_S)
    return reply.status_code, reply.json()


def holds(status: int, answer: dict[str, Any], fields: dict[str, str]) -> None:
    assert status in (200, 400), answer
    if status == 400:
        error = answer["error"]
        named = (error["param"] or "").partition("[")[0].partition(".")[0]
        said = error["code"] in ("invalid_json", "context_length_exceeded")
        assert error["type"] == "invalid_request_error" and (said or named in fields), answer


@tried
@given(st.dictionaries(st.sampled_from(NUMBERS), raws, min_size=1, max_size=3))
def test_no_number_of_a_chat_does_more_than_be_refused(there: Whole, given: dict[str, str]) -> None:
    """Fault 31: a real engine behind it, which answers or never hears of it."""
    fixed = {"model": '"seedling"', "messages": '[{"role": "user", "content": "q"}]', "max_tokens": "2"}
    if "max_completion_tokens" in given:
        del fixed["max_tokens"]
    if "top_logprobs" in given:
        fixed["logprobs"] = "true"
    holds(*told(there.made, "/v1/chat/completions", fixed | given), fixed | given)


@tried
@given(
    st.dictionaries(st.sampled_from([*NUMBERS[:10], "logprobs"]), raws, max_size=2),
    st.lists(numbers, min_size=1, max_size=3)
    | st.lists(st.lists(numbers, max_size=2), min_size=1, max_size=2),
)
def test_no_number_of_a_completion_does_more_than_be_refused(
    there: Whole, given: dict[str, str], prompt: list[Any]
) -> None:
    """Fault 31: token ids too, which are looked up in a table."""
    fixed = {"model": '"seedling"', "prompt": json.dumps(prompt), "max_tokens": "2"}
    holds(*told(there.made, "/v1/completions", fixed | given), fixed | given)


@tried
@given(st.dictionaries(st.sampled_from(KNOBS), raws, min_size=1, max_size=3), raws | st.none())
def test_no_number_of_a_job_does_more_than_be_refused(
    tuning: tuple[House, str], given: dict[str, str], seed: str | None
) -> None:
    """Fault 31: what is accepted can be read back, by lists as well."""
    made, file = tuning
    knobs = "{" + ", ".join(f'"{name}": {raw}' for name, raw in given.items()) + "}"
    method = '{"type": "supervised", "supervised": {"hyperparameters": ' + knobs + "}}"
    fields = {"model": '"seedling"', "training_file": json.dumps(file), "method": method}
    if seed is not None:
        fields["seed"] = seed
    status, answer = told(made, "/v1/fine_tuning/jobs", fields)
    holds(status, answer, fields)
    if status == 200:
        assert made.client().get(f"/v1/fine_tuning/jobs/{answer['id']}").status_code == 200
        assert made.client().get("/v1/fine_tuning/jobs", params={"limit": 1}).status_code == 200


@tried
@given(st.sampled_from(["/v1/files", "/v1/fine_tuning/jobs"]), numbers.map(str) | st.text(max_size=5))
def test_no_number_of_a_query_does_more_than_be_refused(
    tuning: tuple[House, str], path: str, limit: str
) -> None:
    """Fault 31: in an address."""
    assert tuning[0].client().get(path, params={"limit": limit}).status_code in (200, 400)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({"messages": [{"role": "user", "content": "x" * 1000}]}, ("256", "10")),
        ({"max_tokens": 10**9}, ("256", "1000000000")),
        ({"max_tokens": -1}, ("1",)),
        ({"n": 10**9}, ("128",)),
        ({"n": 0}, ("1",)),
    ],
    ids=["prompt over context", "max_tokens over", "max_tokens negative", "n = 10^9", "n = 0"],
)
def test_a_number_out_of_range_is_told_with_the_range(
    there: Whole, fields: dict[str, Any], numbers: tuple[str, ...]
) -> None:
    """Fault 31: with the numbers, at once, and the next request is answered."""
    began = time.monotonic()
    reply = there.post(there.body("q") | fields)
    assert reply.status_code == 400 and time.monotonic() - began < 5
    assert all(number in reply.json()["error"]["message"] for number in numbers)
    assert there.post(there.body("q")).json()["choices"][0]["message"]["content"] == there.expected("q")


def test_control_without_its_range_a_billion_choices_are_no_longer_a_400(
    there: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 31, the control: only the second wall, the engine's own frame, still stands, and it answers 500."""

    class Unbounded(ChatRequest):
        n: Annotated[int, Field(ge=1)] | None = None

    monkeypatch.setattr(chat, "ChatRequest", Unbounded)
    assert there.post(there.body("q", n=10**9)).status_code == 500
