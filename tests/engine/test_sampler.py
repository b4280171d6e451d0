"""A draw: what is likely, allowed and asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.engine import sampler
from inhouse.engine.request import Request, Sequence
from inhouse.errors import InternalError
from inhouse.schema import Sampling

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])


def sequence(
    *, prompt: tuple[int, ...] = (0,), said: tuple[int, ...] = (), seed: int = 0, **sampling: Any
) -> Sequence:
    request = Request("a", prompt, Sampling(**sampling), seed, 100)
    request.choices[0].tokens += said
    return request.choices[0]


def many(count: int, **sampling: Any) -> Counter[int]:
    return Counter(sampler.draw(LOGITS, sequence(seed=seed, **sampling)).token for seed in range(count))


def test_temperature_zero_takes_the_likeliest() -> None:
    assert many(20, temperature=0.0) == {0: 20}


def test_draws_follow_the_softmax() -> None:
    drawn = many(4000, temperature=1.0)
    for token, probability in enumerate(LOGITS.softmax(0).tolist()):
        assert drawn[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_temperature_flattens() -> None:
    assert many(2000, temperature=2.0)[0] < many(2000, temperature=0.5)[0]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.8}, {0, 1, 4}),
        ({"top_p": 1e-9}, {0}),
        ({"min_p": 0.3}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"logit_bias": {3: 100.0}}, {3}),
        ({"logit_bias": {0: -100.0, 1: -100.0, 4: -100.0}}, {2, 3}),
    ],
)
def test_only_what_the_request_allows_is_drawn(asked: dict[str, Any], allowed: set[int]) -> None:
    assert set(many(300, temperature=1.0, **asked)) == allowed


def test_penalties_change_what_was_said() -> None:
    def likeliest(**asked: Any) -> int:
        return sampler.draw(LOGITS, sequence(prompt=(4,), said=(0, 0, 1), temperature=0.0, **asked)).token

    assert likeliest() == 0
    assert likeliest(presence_penalty=1.8) == 4
    assert likeliest(frequency_penalty=0.6) == 0
    assert likeliest(frequency_penalty=0.8) == 4
    assert likeliest(repetition_penalty=5.0) == 0
    assert likeliest(repetition_penalty=1.2, presence_penalty=2.0, logit_bias={3: 2.0}) == 3


def test_a_prompt_s_tokens_are_not_penalised_as_said() -> None:
    assert sampler.draw(LOGITS, sequence(prompt=(0, 0), temperature=0.0, frequency_penalty=2.0)).token == 0


def test_a_draw_depends_on_seed_place_and_choice_alone() -> None:
    one = [sampler.draw(LOGITS, sequence(seed=5, said=(1,) * n, temperature=1.0)).token for n in range(50)]
    again = [sampler.draw(LOGITS, sequence(seed=5, said=(1,) * n, temperature=1.0)).token for n in range(50)]
    other = [sampler.draw(LOGITS, sequence(seed=6, said=(1,) * n, temperature=1.0)).token for n in range(50)]
    assert one == again != other


def test_logprobs_are_the_model_s_own_whatever_changes_the_draw() -> None:
    drawn = sampler.draw(
        LOGITS, sequence(temperature=0.7, top_k=1, logit_bias={2: 100.0}, logprobs=2, presence_penalty=1.0)
    )
    expected = LOGITS.log_softmax(0)
    assert drawn.score is not None
    assert (drawn.token, drawn.score.logprob) == (2, pytest.approx(float(expected[2])))
    assert [token for token, _ in drawn.score.top] == [0, 1]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_an_error(broken: float) -> None:
    logits = LOGITS.clone()
    logits[3] = broken
    with pytest.raises(InternalError, match="not finite"):
        sampler.draw(logits, sequence(temperature=0.0))


@settings(deadline=None, max_examples=100)
@given(
    logits=st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=40),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 1e-30, 0.01, 1.0, 2.0]),
        top_p=st.sampled_from([1e-9, 0.5, 1.0]),
        top_k=st.integers(0, 50),
        min_p=st.sampled_from([0.0, 0.5, 1.0]),
    ),
)
def test_whatever_is_asked_a_token_of_the_vocabulary_is_drawn(
    logits: list[float], sampling: Sampling
) -> None:
    one = Request("a", (0,), sampling, 7, 100).choices[0]
    assert 0 <= sampler.draw(torch.tensor(logits), one).token < len(logits)


def test_noise_for_those_alone_that_may_come_draws_the_same_tokens() -> None:
    generator = torch.Generator().manual_seed(3)
    for place in range(50):
        kept = torch.randn(997, generator=generator)
        kept[torch.randperm(997, generator=generator)[: 19 * place]] = -torch.inf
        mine = sequence(said=(5,) * place, seed=7, temperature=1.0)
        wide, narrow = (sampler._drawn(kept, mine, is_narrow=is_narrow) for is_narrow in (False, True))
        assert narrow == wide and kept[narrow] > -torch.inf
