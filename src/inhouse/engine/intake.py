"""A call's text as tokens, checked: what may be refused is refused here, before the engine's step knows of it.

It knows text, limits, which adapters exist and what a memory makes of a call; it knows no queues and no tensors.
Safe to use from several threads, so that rendering, tokenising and routing happen off the step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from inhouse.engine.library import Library
from inhouse.engine.memory import Memory, expert_of, with_records, without_model
from inhouse.engine.proof import Proof
from inhouse.engine.recall import Recall
from inhouse.engine.request import Request, Sequence
from inhouse.engine.verify import PROBE, Verifier
from inhouse.engine.voice import Voice
from inhouse.errors import ContextLengthExceeded, InvalidRequest
from inhouse.schema import Check, EngineRequest, Message, Structure, ToolUse
from inhouse.text import json_schema, tools
from inhouse.text.grammar import Grammars, Matcher, grammar_of, json_rule
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

REPLY_ROOM = 64
"""Tokens kept for a reply beside records, where the call names no number."""
MOST_STOPS = 64
MOST_STOP_CHARACTERS = 16 * 1024
"""Stop strings are looked for at each token, in the step that everybody shares."""
NAMING_S = 2.0
"""How long to look for the tool that a refusal is due to; others wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Turns calls into requests."""

    tokenizer: Tokenizer
    template: ChatTemplate
    library: Library
    limit: int
    """Tokens of prompt and reply together: the model's context, or the whole cache where that is smaller."""
    vocab_size: int
    stop_ids: frozenset[int]
    grammars: Grammars
    memory: Memory | None = None
    proof: Proof | None = None
    """Says what an expert does; asked when a call runs with one."""

    def prepare(self, call: EngineRequest, request_id: str) -> Request:
        """A request ready to be queued. Raises InvalidRequest, NotFound or BadCheckpoint."""
        sampling = call.sampling
        prompt = self._prompt(call)
        asked = 0 if call.embeds else sampling.max_new_tokens
        if not prompt:
            raise InvalidRequest("The prompt holds no tokens. Write at least one word.", param="prompt")
        if len(prompt) + (1 if asked is None else asked) > self.limit:
            raise ContextLengthExceeded.of(
                limit=self.limit, prompt=len(prompt), asked=1 if asked is None else asked
            )
        if not all(sampling.stop):
            raise InvalidRequest("A stop string is empty. Leave it out.", param="stop")
        if len(sampling.stop) > MOST_STOPS or sum(map(len, sampling.stop)) > MOST_STOP_CHARACTERS:
            raise InvalidRequest(
                f"There are too many stop strings, or too long ones: an engine takes {MOST_STOPS}, with "
                f"{MOST_STOP_CHARACTERS:,} characters in all. Send fewer.",
                param="stop",
            )
        foreign = [i for i in sampling.logit_bias if not 0 <= i < self.vocab_size]
        if foreign:
            raise InvalidRequest(
                f"logit_bias names token {foreign[0]}; the model has tokens 0 to {self.vocab_size - 1}.",
                param="logit_bias",
            )
        if sampling.ignore_eos and (call.structure or call.tools or call.memory):
            raise InvalidRequest(
                "ignore_eos writes on past the end, which a format, tools or a memory's answer has. Leave it out.",
                param="ignore_eos",
            )
        adapter_rows = 0 if call.adapter is None else self.library.check(call.adapter)
        matcher = self._matcher(call)
        recall = self._recall(call, prompt, matcher)
        if recall is not None and recall.way == "retrieval":
            prompt, recall = self._with_records(call, prompt, recall)
        expert = None if recall is None else expert_of(recall)
        return Request(
            id=request_id,
            prompt=tuple(prompt),
            sampling=sampling,
            seed=sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(8), "big"),
            limit=self.limit if asked is None else len(prompt) + asked,
            stop_ids=frozenset() if sampling.ignore_eos else self.stop_ids,
            adapter=call.adapter,
            expert=expert,
            recall=recall,
            adapter_rows=adapter_rows,
            expert_rows=0 if expert is None else self.library.check(expert),
            matcher=matcher,
            has_tools=call.tools is not None,
            is_free=call.is_free,
            embeds=call.embeds,
            echo=call.echo,
            prompt_text=call.prompt if call.prompt is not None else self.tokenizer.decode(prompt),
            n=call.n,
            project=call.project,
            priority=call.priority,
        )

    def voice(self, sequence: Sequence) -> Voice:
        """Speaks for a sequence of one of these requests."""
        request = sequence.request
        if request.matcher is None:
            return Voice(sequence, self.tokenizer)
        reader = None
        if request.has_tools:
            reader = tools.CallReader(self.template.calls, anywhere=request.is_free)
        return Voice(sequence, self.tokenizer, read_as=self.grammars, calls=reader)

    def explain(self, call: EngineRequest) -> dict[str, Any]:
        """What the call's memory sees in its last message, and why. Raises what `prepare` raises."""
        return self._needed_memory().explain(call)

    def verify(self, call: EngineRequest) -> list[Check]:
        """Whether the call's adapter does what it says. Raises InvalidRequest, NotFound."""
        if call.adapter is None or self.proof is None:
            raise InvalidRequest("Name an adapter to verify: the base has none.", param="model")
        probe = self.tokenizer.encode(call.prompt or PROBE)[: self.limit]
        return Verifier(self.proof.decoder, self.library, call.adapter, probe).run()

    def _needed_memory(self) -> Memory:
        if self.memory is None:
            raise InvalidRequest("This engine serves no memories. Ask the base itself.", param="model")
        return self.memory

    def _matcher(self, call: EngineRequest) -> Matcher | None:
        """What a reply must look like; None: any text. Raises InvalidRequest for what cannot be kept in every reply."""
        if call.structure is None and call.tools is None:
            return None
        if call.sampling.stop:
            raise InvalidRequest(
                "A stop string could cut the reply off inside its format or a call. Leave stop out.",
                param="stop",
            )
        if call.tools is not None:
            return self._tools_matcher(call.tools, call.structure)
        assert call.structure is not None, "one of the two was asked for"
        return self.grammars.matcher(grammar_of(call.structure), param=call.structure.param)

    def _tools_matcher(self, use: ToolUse, structure: Structure | None) -> Matcher:
        """A reply that may call tools; its text, where it calls none, is free or JSON of the structure's schema."""
        content = None
        if structure is not None:
            if structure.json_schema is None:
                raise InvalidRequest(
                    "Tools go with a response_format of JSON, and with no other format. Leave one of them out.",
                    param=structure.param,
                )
            content = json_rule(json_schema.ready(structure.json_schema, param=structure.param))
        whole = tools.grammar_of(use, self.template.calls, content)
        try:
            return self.grammars.matcher(whole, param="tools")
        except InvalidRequest:
            until = time.monotonic() + NAMING_S
            for tool in tools.offered(use):  # which of them it is
                if time.monotonic() > until:
                    break
                alone = f"start: {json_rule(tools.parameters(tool))}"
                self.grammars.matcher(alone, param="tools", what=f"The parameters of {tool.name}")
            raise

    def _recall(self, call: EngineRequest, prompt: list[int], matcher: Matcher | None) -> Recall | None:
        """The memory's way for the call, with an expert's proof; None where it names no memory."""
        if call.memory is None:
            return None
        fits = None if matcher is None else matcher.accepts
        recall = self._needed_memory().recall(call, call.memory, fits)
        expert = expert_of(recall)
        if expert is None or self.proof is None:
            return recall
        answer = self.tokenizer.encode(recall.hits[0].fact.answer, special=False)
        gain = self.proof.gain(prompt, answer, adapter=call.adapter, expert=expert)
        return replace(recall, delta_logprob=gain)

    def _with_records(
        self, call: EngineRequest, prompt: list[int], recall: Recall
    ) -> tuple[list[int], Recall]:
        """The prompt with as many records as fit. Raises ContextLengthExceeded where a task finds no room for one."""
        assert call.messages is not None, "a memory answers messages"
        asked = call.sampling.max_new_tokens
        for count in range(len(recall.hits), 0, -1):
            hits = recall.hits[:count]
            longer = self._rendered(call, with_records(call.messages, hits))
            if len(longer) + (REPLY_ROOM if asked is None else asked) <= self.limit:
                return longer, replace(recall, hits=hits)
        if recall.is_held:
            return prompt, without_model(recall)
        raise ContextLengthExceeded.of(limit=self.limit, prompt=len(longer), asked=asked or REPLY_ROOM)

    def _rendered(self, call: EngineRequest, messages: Iterable[Message]) -> list[int]:
        return self.template.prompt(tuple(messages), () if call.tools is None else call.tools.tools)

    def _prompt(self, call: EngineRequest) -> list[int]:
        given = [field for field in (call.messages, call.prompt, call.tokens) if field is not None]
        if len(given) != 1:
            raise InvalidRequest(
                f"Give one of messages, prompt and tokens; {len(given)} were given.", param="prompt"
            )
        if call.messages is not None:
            return self._rendered(call, call.messages)
        if call.prompt is not None:
            return self.tokenizer.encode(call.prompt)
        tokens = list(call.tokens or ())
        foreign = [token for token in tokens if not 0 <= token < self.vocab_size]
        if foreign:
            raise InvalidRequest(
                f"The prompt holds token {foreign[0]}; the model has tokens 0 to {self.vocab_size - 1}.",
                param="prompt",
            )
        return tokens
