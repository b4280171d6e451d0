"""Stored answers finished word for word, where the model writes them into a task.

A small model copies a short value from a record and loses its way in a long one. Once what it has written ends in
the beginning of a stored answer, and nothing that it was shown goes on another way behind the same beginning, it
means that answer: the rest of it follows from the record, not from the model.

It knows text and one sequence; it knows no logits and no bank. Direct questions have the answer check instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inhouse.engine.recall import quotable
from inhouse.engine.request import Sequence
from inhouse.text.tokenizer import Tokenizer

LEAST_CHARACTERS = 3
"""A beginning shorter than that may be the beginning of anything."""
_ESCAPED = frozenset("'\"\\\n\r\t")
"""JSON or SQL may want these written another way, so answers that hold one are the model's own matter."""


def next_token(sequence: Sequence, tokenizer: Tokenizer) -> int | None:
    """The token that goes on with a stored answer that was begun; None where the model is to choose."""
    request = sequence.request
    recall = request.recall
    if recall is None or recall.way != "retrieval" or recall.is_held or request.sampling.logit_bias:
        return None
    answers = {hit.fact.answer for hit in quotable(recall.hits)}
    longest = max((len(answer) for answer in answers), default=0)
    written = sequence.tokens[sequence.prompt_length :][-longest - 1 :]  # each token is one character or more
    rest = rest_of(tokenizer.decode(written), answers, request.prompt_text)
    ids = tokenizer.encode(rest, special=False) if rest else []
    # Some tokenizers begin every text with a space of their own: that is not the rest, and is left alone.
    return ids[0] if ids and rest.encode().startswith(tokenizer.token_bytes(ids[0]) or b"\0") else None


def rest_of(written: str, answers: Iterable[str], shown: str) -> str:
    """What is missing of the answer in whose beginning `written` ends; "" where none or several may be meant.
    `shown` is all that the model was given to read."""
    begun = {answer: size for answer in answers if (size := _begun(written, answer))}
    if len(begun) != 1:
        return ""
    [(answer, size)] = begun.items()
    if _ESCAPED & set(answer):
        return ""
    is_clear = all(shown.startswith(answer, at) for at in _places(answer[:size], shown))
    return answer[size:] if is_clear else ""


def _begun(written: str, answer: str) -> int:
    """How many characters of the answer stand at the end of what is written, from the start of a word on."""
    for size in range(min(len(answer), len(written)), LEAST_CHARACTERS - 1, -1):
        if written.endswith(answer[:size]) and _opens_word(written, len(written) - size):
            return size
    return 0


def _places(begin: str, shown: str) -> Iterator[int]:
    """Where a beginning stands as the start of a word."""
    at = shown.find(begin)
    while at >= 0:
        if _opens_word(shown, at):
            yield at
        at = shown.find(begin, at + 1)


def _opens_word(text: str, at: int) -> bool:
    return at == 0 or not text[at - 1].isalnum()
