"""What a reply must look like, as a machine that says which tokens may come next.

It knows formats, tokens and the library that builds the machines; it knows neither queues nor logits. A grammar is
built once, off the engine's step, and cloned for every sequence.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from llguidance import LLMatcher, LLTokenizer, regex_to_lark

from inhouse.errors import InternalError, InvalidRequest
from inhouse.schema import Structure
from inhouse.text import json_schema, taster
from inhouse.text.tokenizer import Tokenizer

KEPT = 32
"""Grammars kept ready. A hostile one may hold tens of megabytes."""
SPARE_S, MOST_S = 0.005, 0.5
"""CPU seconds of a step that a reply's grammar may take, and what it may take beyond that in all: some 25 of the
longest steps that the library allows, which everybody in the batch waits for."""
MAX_FAULT_CHARS = 300
_OPTION = re.compile(r"Enable '?coerce_one_of'? option( to approximate oneOf with anyOf)?")
"""Advice of the library's that only its own callers can follow."""
_PREAMBLE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_QUOTED = re.compile(r"\n *\d+ \| |<non-verbose/>")
JSON_OPTIONS = {"whitespace_pattern": r" |\n[ \t]{0,32}", "json_allowed_escapes": 'bfnrt"\\'}
"""Between two parts of JSON a space, or a line break and its indentation, and no more: a model may fall into white
space and never come out. A character is not written by its number: that would be a second spelling of a name."""


class Matcher:
    """Where one reply stands in its grammar."""

    __slots__ = ("_beyond_s", "_inner", "_param", "_tokens")

    def __init__(self, inner: LLMatcher, tokens: LLTokenizer, param: str) -> None:
        self._inner = inner
        self._tokens = tokens
        self._param = param
        self._beyond_s = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing more may come."""
        return self._inner.is_stopped() and not self._inner.is_error()

    def clone(self) -> Matcher:
        """Another at the same place."""
        return Matcher(self._inner.deep_copy(), self._tokens, self._param)

    def mask(self) -> bytes:
        """The tokens that may come next, a bit each, the lowest bit of the first byte first. Raises InvalidRequest
        where the grammar turns out to be too complex: the library then allows the end, which would be wrong; or where
        it has kept others waiting for too long."""
        began = time.thread_time()
        bits: bytes = self._inner.compute_bitmask()
        self._charge(began)
        self._check()
        if self._beyond_s > MOST_S:
            raise _refused("finding what may come next takes too long at each step", self._param)
        return bits

    def forced(self) -> tuple[int, ...]:
        """The tokens of the text that must come next, cut as the tokenizer cuts it; none where there is a choice, or
        where finding them has been slow. The mask may allow other cuts of the same text."""
        if self._beyond_s:
            return ()
        began = time.thread_time()
        tokens = tuple(self._inner.compute_ff_tokens())
        self._charge(began)
        return tokens

    def consume(self, token: int) -> None:
        """Takes the token that comes next."""
        if token in self._tokens.eos_tokens and not self._inner.is_accepting():
            raise InvalidRequest(
                "The grammar names a token that ends replies. Leave it out.", param=self._param
            )
        if not self._inner.consume_token(token):
            self._check()
            raise InternalError("A token was drawn that the request's format does not allow.")

    def accepts(self, text: str) -> bool:
        """Whether the text, from here on, is a whole reply."""
        probe = self._inner.deep_copy()
        tokens = self._tokens.greedy_tokenize(text)
        return probe.try_consume_tokens(tokens) == len(tokens) and probe.is_accepting()

    def _charge(self, began: float) -> None:
        self._beyond_s += max(0.0, time.thread_time() - began - SPARE_S)

    def _check(self) -> None:
        if self._inner.is_error():
            raise _refused(self._inner.get_error(), self._param)


class Grammars:
    """Builds matchers for one vocabulary and keeps the last ones. Safe to use from several threads.

    Special tokens whose text is in `shown`, which is what stands around tool calls, count as that text.
    """

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Collection[int], shown: str = ""
    ) -> None:
        marks = {i for i in range(vocab_size) if tokenizer.is_special(i) and tokenizer.token_text(i) in shown}
        self._vocabulary = _Vocabulary(
            tokenizer, vocab_size, stop_ids, frozenset(marks) - frozenset(stop_ids)
        )
        self._ready: OrderedDict[str, LLMatcher | str] = OrderedDict()
        self._tokens: LLTokenizer | None = None
        self._lock = threading.Lock()

    def token_bytes(self, token: int, /) -> bytes:
        """A token's bytes as grammars read them, which a reply under one must be told by."""
        return self._vocabulary.bytes_of(token)

    def matcher(self, grammar: str, *, param: str, what: str | None = None) -> Matcher:
        """A matcher at the grammar's start. Raises InvalidRequest for what cannot be built within bounds; `what` is
        what the error calls it, where that is not `param`."""
        tokens = self._tokenizer()
        key = hashlib.sha256(grammar.encode()).hexdigest()
        with self._lock:
            built = self._ready.get(key)
        if built is None:
            built = self._build(grammar, tokens)
        with self._lock:
            self._ready[key] = built
            self._ready.move_to_end(key)
            while len(self._ready) > KEPT:
                self._ready.popitem(last=False)
        if isinstance(built, str):
            raise _refused(built, param, what)
        return Matcher(built.deep_copy(), tokens, param)

    def _build(self, grammar: str, tokens: LLTokenizer) -> LLMatcher | str:
        """The matcher, its first mask computed, or what is wrong with the grammar."""
        if fault := taster.shared().taste(grammar):
            return fault
        matcher = LLMatcher(tokens, grammar, log_level=0, limits=taster.parser_limits())
        matcher.compute_bitmask()
        return matcher.get_error() if matcher.is_error() else matcher

    def _tokenizer(self) -> LLTokenizer:
        """The vocabulary as the library wants it: made when it is first needed."""
        with self._lock:
            if self._tokens is None:
                vocabulary: Any = self._vocabulary
                self._tokens = LLTokenizer(
                    vocabulary, vocabulary.size, eos_token=vocabulary.special_token_ids
                )
            return self._tokens


def grammar_of(structure: Structure) -> str:
    """The format as a grammar. Raises InvalidRequest for one that cannot be promised."""
    param = structure.param
    if structure.json_schema is not None:
        schema = json_schema.ready(structure.json_schema, param=param)
        return f"start: {json_rule(schema)}"
    if structure.regex is not None:
        if fault := json_schema.regex_fault(structure.regex):
            raise InvalidRequest(f"{param}.regex: {fault}", param=param)
        return f"start: /{regex_to_lark(structure.regex, 'd')}/"  # digits are ASCII's, as in JSON schemas
    if structure.choice is not None:
        return f"start: {any_of(structure.choice)}"
    assert structure.grammar is not None, "a structure has one kind"
    json_schema.refuse_vast(structure.grammar, param=param, at=f"{param}.grammar")
    # Wrapped, so that the text is read as Lark and as nothing else that the library knows.
    return json.dumps({"grammars": [{"lark_grammar": structure.grammar}]})


def json_rule(schema: dict[str, Any]) -> str:
    """A part of a rule that stands for JSON after a schema that is `json_schema.ready`."""
    return "%json " + json.dumps(schema | {"x-guidance": JSON_OPTIONS})


def any_of(texts: Collection[str]) -> str:
    """A part of a rule that stands for one of the texts."""
    return "(" + " | ".join(map(literal, texts)) + ")"


def literal(text: str) -> str:
    """A text as it is, in a rule."""
    return json.dumps(text, ensure_ascii=False)


def _refused(fault: str, param: str, what: str | None = None) -> InvalidRequest:
    told = re.sub(r"\s+", " ", _PREAMBLE.sub("", _QUOTED.split(fault)[0])).strip()
    told = told.replace("oneOf constraints are not supported", "the choices of oneOf may overlap")
    told = _OPTION.sub("Write anyOf, or choices of which no value fits two", told)
    first = told[:MAX_FAULT_CHARS].rstrip(".") or "nothing satisfies it"
    return InvalidRequest(
        f"{what or param} cannot be kept to: {first}. Simplify it, or leave that part out.", param=param
    )


class _Vocabulary:
    """What the library asks of a tokenizer. A token without bytes can never be allowed."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Collection[int], shown: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._shown = shown
        # A base without an end token gets one behind its vocabulary, which no logit belongs to.
        self.special_token_ids = sorted(i for i in stop_ids if i < vocab_size) or [vocab_size]
        self.eos_token_id = self.special_token_ids[0]
        self.size = max(vocab_size, self.eos_token_id + 1)

    @property
    def tokens(self) -> list[bytes]:
        ends = set(self.special_token_ids)
        return [b"\xff<end %d>" % i if i in ends else self.bytes_of(i) for i in range(self.size)]

    def bytes_of(self, token: int) -> bytes:
        if token in self._shown:
            return self._tokenizer.token_text(token).encode()
        return self._tokenizer.token_bytes(token)

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=False)
