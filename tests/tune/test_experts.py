"""Memory experts: exact by the plain path, each for itself, and ordinary adapters once they are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import transformers

import inhouse.bases
from inhouse.data.examples import Example
from inhouse.data.pack import pack
from inhouse.errors import BadCheckpoint, InvalidRequest
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.layers import Linear, Mlp, Packed
from inhouse.model.weights import load_base, save_base
from inhouse.schema import Message
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.expert_file import export_peft, from_bytes, to_bytes
from inhouse.tune.experts import ExpertProgress, ExpertResult, ExpertSettings, ExpertTask, train_experts
from inhouse.tune.grouped import Factors, Place, SideBySide, places
from inhouse.tune.trunk import Cut, compute, join, tail
from tests.tiny import CONFIGS, base_folder

SEEDLING = Path(inhouse.bases.__path__[0]) / "seedling"
END = 2
FACTS = {
    "travel": (("who signs travel?", "travel: who signs?"), "Ines"),
    "door": (("code of the door?", "the door's code is"), "A-71"),
    "fee": (("what is the fee?", "name the fee"), "90 euros"),
    "boss": (("who is the boss?", "the boss is whom?"), "Omar"),
    "start": (("when did it start?", "its first day?"), "3 May"),
}
TINY = ExpertSettings(
    layers=2,
    modules=frozenset(["q", "k", "v", "out", "gate", "up", "down"]),
    ranks=(4,),
    learning_rate=0.01,
    noise=0.3,
    max_steps=150,
)
"""A base of width 32 has little room in one layer; what is shown here does not depend on where an expert sits."""
APART = 3e-2
"""Most that a number of an expert may differ with its neighbours: a few units of bfloat16, for most of them are about
1. Products of other shapes round differently. (Measured: up to 0.008, and losses up to 0.0003.)"""


def sure_base(folder: Path, family: str = "llama", **changes: object) -> Decoder:
    """A tiny base whose logits can be far apart: random heads leave even the best hidden state in doubt."""
    decoder = load_base(base_folder(folder, family, **changes))
    offset = decoder.config.norm_offset
    decoder.norm.weight.add_(offset).mul_(4).sub_(offset)
    save_base(decoder, folder, like=folder)
    return decoder


def example(question: str, answer: str) -> Example:
    """As a chat template would make it, in the bytes of the tiny tokenizer."""
    prompt = [3 + b for b in question.encode()]
    reply = [*(3 + b for b in answer.encode()), END]
    return Example((*prompt, *reply), (False,) * len(prompt) + (True,) * len(reply))


def task(fact: str) -> ExpertTask:
    wordings, answer = FACTS[fact]
    return ExpertTask(fact, tuple(example(wording, answer) for wording in wordings))


def train(decoder: Decoder, tasks: Sequence[ExpertTask], settings: ExpertSettings) -> list[ExpertProgress]:
    return list(train_experts(decoder, tasks, settings))


def spoken(decoder: Decoder, result: ExpertResult, prompt: Sequence[int]) -> list[int]:
    """What the base says with an expert that was kept and read again, by the plain path."""
    adapter = from_bytes(to_bytes(result, "digest", result.fact, 1), decoder)
    return greedy(decoder, list(prompt), 40, LoadedLora(adapter, decoder), frozenset([END]))


def prompt_and_reply(whole: Example) -> tuple[tuple[int, ...], list[int]]:
    start = whole.trained.index(True)
    return whole.ids[:start], [i for i, t in zip(whole.ids, whole.trained, strict=True) if t]


def is_exact(decoder: Decoder, result: ExpertResult, wordings: Sequence[Example]) -> bool:
    asked = [prompt_and_reply(wording) for wording in wordings]
    return all(spoken(decoder, result, prompt) == reply for prompt, reply in asked)


def apart(one: ExpertResult, other: ExpertResult) -> float:
    assert one.tensors.keys() == other.tensors.keys()
    pairs = [(one.tensors[name][i], other.tensors[name][i]) for name in one.tensors for i in (0, 1)]
    return max(float((x.float() - y.float()).abs().max()) for x, y in pairs)


@pytest.mark.parametrize("family", CONFIGS)
def test_every_wording_gets_the_stored_answer_word_for_word(family: str, tmp_path: Path) -> None:
    decoder = sure_base(tmp_path, family)
    tasks = [task(fact) for fact in ("travel", "door", "fee")]
    last = train(decoder, tasks, TINY)[-1]
    assert (last.done, last.failed, last.total) == (3, 0, 3)
    for t in tasks:
        result = last.results[t.fact]
        assert result.worst_loss < TINY.goal
        assert is_exact(decoder, result, t.wordings)
        untouched = greedy(decoder, list(prompt_and_reply(t.wordings[0])[0]), 40, None, frozenset([END]))
        assert untouched != prompt_and_reply(t.wordings[0])[1], "the base knew it without the expert"


def test_a_mixture_s_mlp_is_refused_as_an_expert_s_place(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path, "qwen3_moe")
    with pytest.raises(InvalidRequest, match="mixture of experts there"):
        train(decoder, [task("travel")], ExpertSettings())


def has_cut(decoder: Decoder, cut: Cut) -> bool:
    """Side by side, attention and MLP have nothing between them; a mixture has no first linear layer."""
    block = decoder.blocks[cut.block]
    return cut.before == "attention" or (isinstance(block.mlp, Mlp) and not block.is_parallel)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    "cut", [Cut(0, "attention"), Cut(0, "mlp"), Cut(1, "attention"), Cut(1, "mlp")], ids=str
)
def test_trunk_and_tail_are_the_whole_forward_pass(family: str, cut: Cut, tmp_path: Path) -> None:
    decoder = sure_base(tmp_path, family)
    if not has_cut(decoder, cut):
        with pytest.raises(AssertionError, match="no cut"):
            cut.first(decoder)
        return
    groups = [task(fact).wordings for fact in FACTS]
    batch = pack([e for group in groups for e in group])
    whole = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), None, batch.rows)
    trunk = join(compute(decoder, groups, cut))
    by_parts = tail(decoder, trunk, cut, lambda linear, x: linear.product(x))
    assert torch.equal(trunk.targets, batch.targets)
    assert (by_parts - whole).abs().max() < 1e-4


class Plain:
    """One LoRA by autograd alone, as the formula says."""

    def __init__(self, spots: list[Place], factors: list[torch.Tensor]) -> None:
        half = len(spots)
        self.pairs = {s.name: pair for s, *pair in zip(spots, factors[:half], factors[half:], strict=True)}

    def __call__(self, linear: Linear, x: torch.Tensor) -> torch.Tensor:
        y = linear.product(x)
        updates = [
            (x @ self.pairs[p.name][0].T) @ self.pairs[p.name][1].T
            if p.name in self.pairs
            else torch.zeros(len(x), p.stop - p.start)
            for p in linear.parts
        ]
        return y + torch.cat(updates, 1)


def test_gradients_side_by_side_are_each_ones_own(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    spots = places(decoder, 1, TINY.modules)
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    a = [noise(2, 3, p.inputs) for p in spots]
    b = [noise(2, p.outputs, 3) for p in spots]
    streams = [list(b"one stream"), list(b"and a longer one")]
    factors = [f.requires_grad_() for f in (*a, *b)]
    lengths = [len(s) for s in streams]
    spans = [(0, lengths[0]), (lengths[0], sum(lengths))]
    together = decoder.score(streams, SideBySide(spots, Factors.of(factors), {sum(lengths): spans}))
    grads = torch.autograd.grad(together.square().sum(), factors)
    for i, stream in enumerate(streams):
        mine = [f.detach()[i].clone().requires_grad_() for f in factors]
        score = decoder.score([stream], Plain(spots, mine))
        assert torch.allclose(score, together[slice(*spans[i])], atol=1e-4)
        for whole, own in zip(grads, torch.autograd.grad(score.square().sum(), mine), strict=True):
            assert torch.allclose(whole[i], own, rtol=1e-3, atol=1e-2)


def test_an_expert_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    facts = ["travel", "boss", "start"]
    together = train(decoder, [task(fact) for fact in facts], TINY)[-1].results
    by_turns = train(decoder, [task(f) for f in reversed(facts)], replace(TINY, side_by_side=2))[-1].results
    for fact in facts:
        alone = train(decoder, [task(fact)], TINY)[-1].results[fact]
        for other in (together[fact], by_turns[fact]):
            assert other.is_exact and other.steps == alone.steps
            assert other.worst_loss == pytest.approx(alone.worst_loss, abs=1e-3)
            assert apart(alone, other) < APART
    assert apart(together["travel"], together["boss"]) > 10 * APART, (
        "what is compared could not tell them apart"
    )


def test_the_same_call_gives_the_same_bytes(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    tasks = [task("travel"), task("boss")]
    runs = [train(decoder, tasks, TINY)[-1].results for _ in range(2)]
    for fact in ("travel", "boss"):
        assert to_bytes(runs[0][fact], "d", fact, 1) == to_bytes(runs[1][fact], "d", fact, 1)


def test_a_place_that_is_free_goes_to_the_next_fact(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    progress = train(decoder, [task(fact) for fact in FACTS], replace(TINY, side_by_side=2))
    assert progress[-1].done == len(FACTS)
    assert [p.steps for p in progress] == list(range(len(progress)))
    ended = [result.fact for p in progress for result in p.finished]
    assert sorted(ended) == sorted(FACTS)
    steps = [progress[-1].results[fact].steps + 1 for fact in FACTS]
    assert max(steps) < progress[-1].steps < sum(steps), "they trained neither all at once nor one by one"


def test_a_fact_that_is_not_finite_takes_nobody_with_it(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)  # its head is not tied, so this reaches no other fact
    decoder.embedding[3 + ord("#")] = math.nan
    broken = ExpertTask("broken", (example("what is # ?", "Ines"),))
    with_it = train(decoder, [task("travel"), broken, task("door")], TINY)[-1].results
    without = train(decoder, [task("travel"), task("door")], TINY)[-1].results
    assert with_it["broken"].tensors == {} and "not finite" in str(with_it["broken"].reason)
    for fact in ("travel", "door"):
        assert with_it[fact].is_exact and apart(with_it[fact], without[fact]) < APART


def test_what_cannot_be_exact_is_given_up_with_a_reason_after_the_last_rank(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    torn = ExpertTask("torn", (example("who?", "Ines"), example("who?", "Omar")))
    settings = replace(TINY, ranks=(1, 4), max_steps=40)
    last = train(decoder, [torn], settings)[-1]
    assert (last.done, last.failed) == (0, 1)
    result = last.results["torn"]
    assert not result.is_exact and result.rank == 4 and result.tensors == {}
    assert "after 40 steps at rank 4" in str(result.reason) and "Ines" not in str(result.reason)


def test_a_fact_that_rank_1_cannot_hold_gets_rank_4(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    narrow = replace(TINY, layers=1, modules=frozenset(["down"]), ranks=(1,), max_steps=60)
    assert not train(decoder, [task("travel")], narrow)[-1].results["travel"].is_exact
    wider = train(decoder, [task("travel")], replace(TINY, ranks=(1, 4), max_steps=1))
    assert wider[-1].results["travel"].rank == 4


def test_what_does_not_fit_is_given_up_before_training(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    long = ExpertTask("long", (example("?" * 300, "Ines"),))
    silent = ExpertTask("silent", (Example((5, 6), (False, False)),))
    empty = ExpertTask("empty", ())
    progress = train(decoder, [long, silent, empty, task("door")], TINY)
    assert (progress[0].failed, progress[-1].done, progress[-1].total) == (3, 1, 4)
    assert "the base's context holds 256" in str(progress[-1].results["long"].reason)
    assert "without an answer" in str(progress[-1].results["silent"].reason)
    assert train(decoder, [], TINY)[-1].results == {}


def test_negatives_keep_the_bases_own_answer(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    prompts = tuple(tuple(3 + b for b in text) for text in (b"who is in?", b"who signs letters?"))
    own = [greedy(decoder, list(p), 24, None, frozenset([END])) for p in prompts]
    for has_negatives in (True, False):
        t = replace(task("travel"), negatives=prompts if has_negatives else ())
        result = train(decoder, [t], TINY)[-1].results["travel"]
        assert is_exact(decoder, result, t.wordings)
        kept = [spoken(decoder, result, p)[: len(o)] == o for p, o in zip(prompts, own, strict=True)]
        assert all(kept) is has_negatives


def test_a_kept_expert_says_what_it_is_and_is_small(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path)
    result = train(decoder, [task("door")], TINY)[-1].results["door"]
    data = to_bytes(result, "b" * 64, "fact-1", 7)
    adapter = from_bytes(data, decoder)
    assert adapter.notes == {"base_digest": "b" * 64, "fact": "fact-1", "version": 7}
    assert (adapter.rank, adapter.alpha) == (4, 4.0)
    assert {a.dtype for pair in result.tensors.values() for a in pair} == {torch.bfloat16}
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["model.layers.1.mlp.down_proj.lora_A.weight"]["shape"] == [4, 48]


def test_bytes_that_are_damaged_or_of_another_base_are_refused(tmp_path: Path) -> None:
    decoder = sure_base(tmp_path / "one")
    result = train(decoder, [task("door")], TINY)[-1].results["door"]
    data = to_bytes(result, "b" * 64, "fact-1", 7)
    with pytest.raises(BadCheckpoint, match="damaged"):
        from_bytes(data[:-10], decoder)
    other = sure_base(tmp_path / "two", intermediate_size=40)
    with pytest.raises(BadCheckpoint, match="fact-1 does not fit"):
        from_bytes(data, other)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_loads_an_exported_expert_and_says_the_answer(family: str, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    decoder = sure_base(folder, family)
    t = task("door")
    # In the last layer alone, which PEFT must not take for all layers.
    result = train(decoder, [t], replace(TINY, layers=1))[-1].results["door"]
    assert result.is_exact
    export_peft(to_bytes(result, "digest", "fact-1", 1), tmp_path / "expert", decoder)
    assert Adapter.read(tmp_path / "expert", decoder).notes["fact"] == "fact-1"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    theirs = peft.PeftModel.from_pretrained(model, tmp_path / "expert").eval()
    for wording in t.wordings:
        prompt, reply = prompt_and_reply(wording)
        with torch.no_grad():
            logits = theirs(torch.tensor([wording.ids])).logits[0]
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == reply


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_embedded_base_learns_facts_by_rank_1_in_its_last_layer(dtype: torch.dtype) -> None:
    decoder = load_base(SEEDLING, dtype=dtype)
    template = ChatTemplate.load(SEEDLING, Tokenizer.load(SEEDLING))
    facts = {
        "part": (
            ("What is the part number of the Rosi K23?", "Which part number has the Rosi K23?"),
            "TX-4471",
        ),
        "boss": (("Who does Lemo Nivasa report to?", "Who is the boss of Lemo Nivasa?"), "Dakoru Velli"),
    }
    tasks = []
    for fact, (questions, answer) in facts.items():
        chats = [
            [Message(role="user", content=q), Message(role="assistant", content=answer)] for q in questions
        ]
        tokens = [template.example(chat) for chat in chats]
        tasks.append(ExpertTask(fact, tuple(Example(tuple(ids), tuple(trained)) for ids, trained in tokens)))
    results = train(decoder, tasks, ExpertSettings())[-1].results
    for fact, (questions, answer) in facts.items():
        result = results[fact]
        assert result.is_exact and result.rank == 1
        assert {name.split(".")[2] for name in result.tensors} == {"5"}
        data = to_bytes(result, "digest", fact, 1)
        assert len(data) < 10_000
        lora = LoadedLora(from_bytes(data, decoder), decoder)
        for question in questions:
            prompt = template.prompt([Message(role="user", content=question)])
            said = greedy(decoder, prompt, 40, lora, template.stop_ids)
            assert Tokenizer.load(SEEDLING).decode(said[:-1]) == answer and said[-1] in template.stop_ids
