"""A call's text as tokens, checked: what may be refused is refused here, before the engine's step knows of it.

It knows text, limits and which adapters exist; it knows no queues and no tensors. Safe to use from several
threads, so that rendering and tokenising happen off the step.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from inhouse.engine.library import Library
from inhouse.engine.request import Request
from inhouse.errors import ContextLengthExceeded, InvalidRequest
from inhouse.schema import EngineRequest
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer


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

    def prepare(self, call: EngineRequest, request_id: str) -> Request:
        """A request ready to be queued. Raises InvalidRequest, NotFound or BadCheckpoint."""
        sampling = call.sampling
        prompt = self._prompt(call)
        asked = sampling.max_new_tokens
        if not prompt:
            raise InvalidRequest("The prompt holds no tokens. Write at least one word.", param="prompt")
        if len(prompt) + (1 if asked is None else asked) > self.limit:
            raise ContextLengthExceeded.of(limit=self.limit, prompt=len(prompt), asked=asked or 1)
        if not all(sampling.stop):
            raise InvalidRequest("A stop string is empty. Leave it out.", param="stop")
        foreign = [i for i in sampling.logit_bias if not 0 <= i < self.vocab_size]
        if foreign:
            raise InvalidRequest(
                f"logit_bias names token {foreign[0]}; the model has tokens 0 to {self.vocab_size - 1}.",
                param="logit_bias",
            )
        if call.adapter is not None:
            self.library.check(call.adapter)
        return Request(
            id=request_id,
            prompt=tuple(prompt),
            sampling=sampling,
            seed=sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(8), "big"),
            limit=self.limit if asked is None else len(prompt) + asked,
            stop_ids=self.stop_ids,
            adapter=call.adapter,
            echo=call.echo,
            prompt_text=call.prompt if call.prompt is not None else self.tokenizer.decode(prompt),
            n=call.n,
        )

    def _prompt(self, call: EngineRequest) -> list[int]:
        given = [field for field in (call.messages, call.prompt, call.tokens) if field is not None]
        if len(given) != 1:
            raise InvalidRequest(
                f"Give one of messages, prompt and tokens; {len(given)} were given.", param="prompt"
            )
        if call.messages is not None:
            return self.template.prompt(call.messages)
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
