"""Text that is safe to send: whole, unbroken, and without a trace of a stop string."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.text.stream import TextStream
from inhouse.text.tokenizer import Tokenizer
from tests import tiny


class Pieces:
    """A vocabulary of given pieces: stop strings may begin and end anywhere in them."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def token_bytes(self, token: int, /) -> bytes:
        return self.pieces[token]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return Tokenizer.load(folder)


def pieces_of(stream: TextStream, count: int) -> list[str]:
    return [stream.push(token) for token in range(count)] + [stream.finish()]


def cut(text: str, stop: tuple[str, ...]) -> str:
    """The text before the stop string that is complete first, found letter by letter."""
    for end in range(len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@settings(deadline=None, max_examples=300)
@given(tokens=st.lists(st.integers(0, 263)))
def test_streamed_text_of_random_tokens_equals_whole_text(tokenizer: Tokenizer, tokens: list[int]) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokens] + [stream.finish()]
    assert "".join(pieces) == tokenizer.decode(tokens)
    assert stream.emitted == stream.received == len(tokenizer.decode(tokens))


@given(text=st.text(), borders=st.lists(st.integers(0, 400)))
def test_no_piece_of_valid_text_holds_a_broken_character(text: str, borders: list[int]) -> None:
    data = text.encode()
    cuts = sorted({0, len(data), *(b for b in borders if b < len(data))})
    stream = TextStream(Pieces([data[a:b] for a, b in pairwise(cuts)]))
    pieces = pieces_of(stream, len(cuts) - 1)
    assert "".join(pieces) == text
    assert "".join(pieces).count("\ufffd") == text.count("\ufffd")


letters = st.text("abä", max_size=4)


@settings(max_examples=1000)
@given(pieces=st.lists(letters, max_size=12), stop=st.lists(letters.filter(bool), max_size=3).map(tuple))
def test_stop_strings_never_leak_even_in_part(pieces: list[str], stop: tuple[str, ...]) -> None:
    expected = cut("".join(pieces), stop)
    stream = TextStream(Pieces([piece.encode() for piece in pieces]), stop)
    said = ""
    for token in range(len(pieces)):
        said += stream.push(token)
        assert expected.startswith(said)
    said += stream.finish()
    assert said == expected
    assert stream.stopped == (expected != "".join(pieces))


@pytest.mark.parametrize("guarded", [True, False])
def test_an_ending_that_may_become_a_stop_string_is_held_back(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:  # the control: without the guard, the stop string's first half is sent
        monkeypatch.setattr(TextStream, "_suspect", lambda self, text: 0)
    stream = TextStream(Pieces([b"Yes. <e", b"nd> No."]), ("<end>",))
    said = "".join(pieces_of(stream, 2))
    assert (said == "Yes. ") == guarded


def test_what_was_held_back_is_sent_when_it_did_not_become_a_stop_string() -> None:
    stream = TextStream(Pieces([b"a<e", b"x", b"b<en"]), ("<end>",))
    assert pieces_of(stream, 3) == ["a", "<ex", "b", "<en"]


def test_special_tokens_never_appear(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("hi<|end|>there")
    stream = TextStream(tokenizer)
    assert "".join([stream.push(i) for i in ids]) == "hithere"
