"""One sequence's tokens as the deltas its caller reads.

It knows text and log-probabilities on the wire, and keeps back what the memory wants to see whole; it knows neither
queues nor sockets.
"""

from __future__ import annotations

from typing import Any

from inhouse.engine.embedding import Part, Pool
from inhouse.engine.recall import Recall
from inhouse.engine.request import Sequence
from inhouse.engine.sampler import Draw, Score
from inhouse.engine.settled import Settled, settled
from inhouse.schema import CallDelta, Delta, FinishReason, TokenLogprob
from inhouse.text.stream import TextStream, TokenBytes
from inhouse.text.tokenizer import Tokenizer
from inhouse.text.tools import CallReader


class Voice:
    """Speaks for one sequence. A token's log-probability is told when its text is, so neither leaks a stop string.

    The token that ends a reply has no text and no log-probability, but it is counted.
    Of a held reply only the count of its tokens is told, until all of it can be.
    """

    def __init__(
        self,
        sequence: Sequence,
        tokenizer: Tokenizer,
        *,
        read_as: TokenBytes | None = None,
        calls: CallReader | None = None,
    ) -> None:
        """`read_as` has the bytes of tokens as the sequence's grammar reads them; `calls` reads tool calls."""
        self._sequence = sequence
        self._tokenizer = tokenizer
        self._stream = TextStream(read_as or tokenizer, sequence.request.sampling.stop)
        self._calls = calls
        self._held: list[tuple[int, TokenLogprob]] = []  # (where its text begins, ...), in order
        self._recall = sequence.request.recall
        self._said: list[Delta] = []  # for the memory's word at the end
        self._prompt: list[TokenLogprob] = []
        self._pool = Pool()
        self._owes_echo = sequence.request.echo
        self._prompt_tokens = len(sequence.request.prompt) if sequence.index == 0 else 0

    @property
    def owes_echo(self) -> bool:
        """Whether the prompt is still to be told, and can be: all its scores that are wanted were heard."""
        sequence = self._sequence
        is_scored = not sequence.request.scores_prompt or sequence.scored == sequence.prompt_length
        return self._owes_echo and is_scored

    @property
    def stopped(self) -> bool:
        """Whether a stop string was completed."""
        return self._stream.stopped

    def hear(self, score: Score) -> None:
        """Takes the next prompt token's log-probability, for the echo."""
        if not self._prompt:
            first = Score(self._sequence.request.prompt[0], None)
            self._prompt.append(self._wire(first))
        self._prompt.append(self._wire(score))

    def echo(self) -> Delta:
        """The prompt, with its log-probabilities where asked for; the last delta where nothing is generated."""
        request = self._sequence.request
        self._owes_echo = False
        if request.scores_prompt and not self._prompt:  # a prompt of one token, which nothing precedes
            self._prompt.append(self._wire(Score(request.prompt[0], None)))
        return Delta(
            index=self._sequence.index,
            text=request.prompt_text,
            prompt_tokens=self._told_once(),
            logprobs=self._prompt if request.scores_prompt else None,
            finish_reason=None if request.generates else "length",
        )

    def pool(self, part: Part) -> None:
        """Takes the final states of the next prompt tokens, for the embedding. Raises InternalError."""
        self._pool.add(part)

    @property
    def embedding(self) -> str | None:
        """What the prompt's states come to, once all were taken, where that was asked for."""
        return self._pool.text() if self._sequence.request.embeds else None

    def read(self) -> list[Delta]:
        """Of a request that only reads: how long its prompt is, the first time, and that it has ended."""
        delta = Delta(prompt_tokens=self._told_once(), finish_reason=self._sequence.finish_reason)
        return [delta] if delta.prompt_tokens or delta.finish_reason else []

    def say(self, draw: Draw, *, is_last: bool = True) -> Delta:
        """The delta of one new token, after it was committed, maybe with others behind it (`is_last`). Sets `stopped`
        when it completed a stop string."""
        sequence, stream = self._sequence, self._stream
        is_end = is_last and sequence.is_finished
        text = ""
        if draw.token not in sequence.request.stop_ids:
            if draw.score is not None:
                self._held.append((stream.received, self._wire(draw.score)))
            text = stream.push(draw.token)
        if is_end and not stream.stopped:
            text += stream.finish()
        text, calls = self._parted(text, is_end)
        delta = Delta(
            index=sequence.index,
            text=text,
            calls=tuple(calls),
            tokens=1,
            prompt_tokens=self._told_once(),
            logprobs=self._told(is_end and not stream.stopped),
            finish_reason="stop" if stream.stopped else self._reason() if is_end else None,
        )
        return delta if self._recall is None else self._with_memory(delta, self._recall)

    def _parted(self, text: str, is_end: bool) -> tuple[str, list[CallDelta]]:
        """What is said and what is called in the next piece of text; all of it, when the sequence is finished."""
        if self._calls is None:
            return text, []
        said, calls = self._calls.push(text)
        return said + (self._calls.finish() if is_end else ""), calls

    def _reason(self) -> FinishReason | None:
        reason = self._sequence.finish_reason
        has_called = self._calls is not None and self._calls.begun > 0
        return "tool_calls" if reason == "stop" and has_called else reason

    def recite(self) -> list[Delta]:
        """All deltas of a reply that needs no model, a settled one or an empty one; the sequence is finished then."""
        sequence, request = self._sequence, self._sequence.request
        spoken = self._settled(
            request.preset or ""
        )  # "" where nothing is asked for: then there is no room, either
        sequence.tokens += spoken.ids
        sequence.tokens += [min(request.stop_ids, default=0)] * spoken.has_end
        sequence.finish_reason = spoken.finish_reason
        deltas = [
            Delta(index=sequence.index, text=piece, tokens=1, prompt_tokens=self._told_once())
            for piece in spoken.pieces
        ]
        last = Delta(
            index=sequence.index,
            tokens=int(spoken.has_end),
            prompt_tokens=self._told_once(),
            finish_reason=sequence.finish_reason,
        )
        if self._recall is not None:
            outcome = self._recall.outcome(spoken.text, self._recall.way)
            last = last.model_copy(update={"memory": outcome})
        return [*deltas, last]

    def _with_memory(self, delta: Delta, recall: Recall) -> Delta:
        """The delta with the memory's word, where it is the choice's last. Before that a held one keeps its text."""
        self._said.append(delta)
        if delta.finish_reason is None:
            return delta.model_copy(update={"text": "", "logprobs": None}) if recall.is_held else delta
        text = "".join(said.text for said in self._said)
        # A reply that calls a tool answers nothing yet: there is nothing to look at.
        leaving, way = (text, recall.way) if delta.finish_reason == "tool_calls" else recall.settle(text)
        update: dict[str, Any] = {}
        if recall.is_held:
            logprobs = [logprob for said in self._said for logprob in said.logprobs or ()]
            if leaving != text:
                spoken = self._settled(leaving)
                leaving, logprobs = spoken.text, []
                update["finish_reason"] = spoken.finish_reason
            wants_logprobs = self._sequence.request.sampling.logprobs is not None
            update |= {"text": leaving, "logprobs": logprobs if wants_logprobs else None}
        return delta.model_copy(update={**update, "memory": recall.outcome(leaving, way)})

    def _settled(self, text: str) -> Settled:
        """The text as this request's reply would be cut."""
        request = self._sequence.request
        room = request.limit - len(request.prompt)
        return settled(text, self._tokenizer, room=room, stop=request.sampling.stop)

    def _told_once(self) -> int:
        """The prompt's tokens the first time, then 0."""
        tokens, self._prompt_tokens = self._prompt_tokens, 0
        return tokens

    def _told(self, everything: bool) -> list[TokenLogprob] | None:
        """The held log-probabilities whose text is out by now."""
        if self._sequence.request.sampling.logprobs is None:
            return None
        count = len(self._held) if everything else sum(at < self._stream.emitted for at, _ in self._held)
        told, self._held = self._held[:count], self._held[count:]
        return [logprob for _, logprob in told]

    def _wire(self, score: Score) -> TokenLogprob:
        wire = self._token(score.token, score.logprob)
        return wire.model_copy(update={"top": [self._token(token, value) for token, value in score.top]})

    def _token(self, token: int, logprob: float | None) -> TokenLogprob:
        return TokenLogprob(
            id=token,
            token=self._tokenizer.token_text(token),
            bytes=list(self._tokenizer.token_bytes(token)),
            logprob=logprob,
        )
