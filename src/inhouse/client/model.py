"""A model that can be asked: a base, one that was tuned, or a memory with its facts.

It knows a model's name and how to ask it; where and how it runs is the server's business, and what can be
done with facts is facts.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload
from urllib.parse import quote

from inhouse.client.facts import Facts
from inhouse.client.generate import generate
from inhouse.client.http import Http
from inhouse.client.replies import Reply, Summary
from inhouse.errors import InvalidRequest
from inhouse.rows import Source

Messages = str | Sequence[Mapping[str, Any]]
"""A question, or a whole conversation of {"role", "content"}."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A fact that an answer rests on."""

    id: str
    version: int
    mode: str
    """exact (the stored answer itself), retrieval (the model wrote, with the fact before it) or expert."""
    gate: float
    """The probability, by the router, that the question asks for this fact."""
    verified: bool
    """Whether the answer says what is stored."""
    source: str | None = None
    span: str | None = None
    delta_logprob: float | None = None
    """Experts: the stored answer's log-probability with the expert, less without it."""
    choice: int = 0

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> Citation:
        return cls(
            id=str(item["id"]),
            version=int(item["version"]),
            mode=str(item["mode"]),
            gate=float(item["gate"]),
            verified=bool(item["verified"]),
            source=item.get("source"),
            span=item.get("span"),
            delta_logprob=item.get("delta_logprob"),
            choice=int(item.get("choice") or 0),
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the server looked at when it verified a model."""

    name: str
    passed: bool | None
    """None: it could not be looked at."""
    found: str
    tensors: tuple[str, ...] = ()
    """Those at fault."""

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> Check:
        return cls(str(item["name"]), item["passed"], str(item["found"]), tuple(item.get("tensors") or ()))


@dataclass(frozen=True, slots=True)
class State:
    """How busy the engines of a model are."""

    standing: Literal["ready", "loading", "resting"]
    """Whether its base is in memory, on its way there, or neither: the next question has it loaded."""
    running: int
    """How many requests are decoded at once."""
    waiting: int
    """How many more may wait."""
    is_full: bool
    """Whether more are asked now, by anybody."""

    @classmethod
    def from_wire(cls, card: Mapping[str, Any]) -> State:
        places = card.get("x_places") or {}
        running, waiting = (int(places.get(n) or 0) for n in ("running", "waiting"))
        return cls(card.get("x_state") or "ready", running, waiting, bool(places.get("is_full")))


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, and what it rests on. As a string it is its text."""

    text: str
    facts: tuple[Citation, ...] = ()
    decision: str | None = None
    """exact, retrieval, expert, refused or none; None: no memory was asked."""
    usage: Mapping[str, int] = field(default_factory=dict, compare=False)
    """prompt_tokens, completion_tokens, total_tokens."""

    @classmethod
    def from_wire(cls, text: str, reply: Mapping[str, Any]) -> Answer:
        return cls(
            text=text,
            facts=tuple(map(Citation.from_wire, reply.get("x_facts") or ())),
            decision=(reply.get("x_memory") or {}).get("decision"),
            usage=reply.get("usage") or {},
        )

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Model:
    """A handle on one model of a server. Safe to ask from several threads."""

    name: str
    base: str | None = None
    kind: str = "adapter"
    """base, adapter (learned weights beside a base), full (a base's own weights, tuned) or memory (facts)."""
    created_at: int = 0
    pinned: tuple[str, ...] = ()
    """The names by which its adapter is pinned to the device, its own first; empty: it is not."""
    about: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _http: Http = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def from_wire(cls, http: Http, card: Mapping[str, Any]) -> Model:
        return cls(
            name=card["id"],
            base=card.get("x_base"),
            kind=card.get("x_kind", "base"),
            created_at=int(card.get("created", 0)),
            pinned=tuple(card.get("x_pinned") or ()),
            about=card.get("x_about") or {},
            _http=http,
        )

    @property
    def facts(self) -> Facts:
        """A memory's facts: list, search, add, edit, forget, explain. Raises InvalidRequest on other models."""
        if self.kind != "memory":
            raise InvalidRequest(
                f"{self.name} is of the kind {self.kind} and holds no facts. "
                'Make a memory: client.tune(rows, method="memory").wait()',
                param="model",
            )
        return Facts(self._http, self.name)

    @overload
    def chat(
        self,
        messages: Messages,
        *,
        stream: Literal[False] = False,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        **sampling: Any,
    ) -> str: ...

    @overload
    def chat(
        self,
        messages: Messages,
        *,
        stream: Literal[True],
        temperature: float = 0.0,
        max_tokens: int | None = None,
        **sampling: Any,
    ) -> Iterator[str]: ...

    def chat(
        self,
        messages: Messages,
        *,
        stream: bool = False,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        **sampling: Any,
    ) -> str | Iterator[str]:
        """The reply; with stream=True its pieces as they are made (stop iterating to cancel).

        Temperature is 0 here, unlike the API's 1: who asks for a fact wants the same answer each time.
        `sampling` takes what the API takes: top_p, seed, stop, frequency_penalty, top_k, …; and
        x_memory=NAME answers from a memory's facts beside this model.
        """
        body = self._chat_body(messages, temperature, max_tokens, sampling)
        if stream:
            return self._pieces("/v1/chat/completions", body, lambda choice: choice["delta"].get("content"))
        reply = self._http.call("POST", "/v1/chat/completions", body=body)
        return str(reply["choices"][0]["message"]["content"])

    def ask(
        self,
        messages: Messages,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        on_piece: Callable[[str], object] | None = None,
        **sampling: Any,
    ) -> Answer:
        """The reply with the facts it rests on. It takes what `chat` takes, except `stream` and `n`.

        `on_piece` is called with each piece of the text as it is made.
        """
        for name in ("stream", "n"):
            if name in sampling:
                raise InvalidRequest(
                    f"ask gives one whole answer, so it takes no {name!r}. "
                    "Give on_piece to see it grow, or ask again for another answer.",
                    param=name,
                )
        body = self._chat_body(messages, temperature, max_tokens, sampling)
        if on_piece is not None:
            return self._growing(body, on_piece)
        reply = self._http.call("POST", "/v1/chat/completions", body=body)
        return Answer.from_wire(str(reply["choices"][0]["message"]["content"]), reply)

    def complete(
        self, prompt: str, *, temperature: float = 0.0, max_tokens: int | None = None, **sampling: Any
    ) -> str:
        """The text that follows `prompt`, with no chat template around it."""
        body = {"prompt": prompt, **self._sampling(temperature, sampling)}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        return str(self._http.call("POST", "/v1/completions", body=body)["choices"][0]["text"])

    def verify(self) -> list[Check]:
        """Whether a tuned model's adapter fits its base, changes it, and is served as the plain way computes it.

        The model is good when no check's `passed` is False. Needs an admin key.
        """
        reply = self._http.call("POST", "/v1/x/verify", body={"model": self.name})
        return [Check.from_wire(item) for item in reply["checks"]]

    def pin(self) -> None:
        """Keep its adapter on the device, however long nobody asks it; see `Client.pin`. Needs an admin key."""
        pin(self._http, self.name)

    def unpin(self) -> None:
        """Let its adapter make room again, by whatever names it was pinned. Needs an admin key."""
        for name in self.pinned or (self.name,):
            unpin(self._http, name)

    def state(self) -> State:
        """Whether the model's base is loaded, and how many requests are before yours."""
        return State.from_wire(self._http.call("GET", f"/v1/models/{quote(self.name, safe='')}"))

    @overload
    def generate(
        self,
        rows: Source,
        *,
        out: None = None,
        system: str | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        concurrency: int | None = None,
        keep_input: bool = False,
        strict: bool = False,
        **sampling: Any,
    ) -> Iterator[Reply]: ...

    @overload
    def generate(
        self,
        rows: Source,
        *,
        out: str | Path,
        restart: bool = False,
        progress: bool = True,
        on_progress: Callable[[Summary], object] | None = None,
        system: str | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        concurrency: int | None = None,
        keep_input: bool = False,
        strict: bool = False,
        **sampling: Any,
    ) -> Summary: ...

    def generate(self, rows: Source, **how: Any) -> Iterator[Reply] | Summary:
        """Every row's reply, many at once; see `Client.generate`, which this is with a model."""
        return generate(self._http, rows, self.name, is_named=True, **how)

    def delete(self) -> None:
        """Remove a tuned model from the server. Answers that are being given are given to their end."""
        self._http.call("DELETE", f"/v1/models/{quote(self.name, safe='')}")

    def _chat_body(
        self, messages: Messages, temperature: float, max_tokens: int | None, sampling: Mapping[str, Any]
    ) -> dict[str, Any]:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": list(messages), **self._sampling(temperature, sampling)}
        if max_tokens is not None:
            body["max_completion_tokens"] = max_tokens
        return body

    def _growing(self, body: Mapping[str, Any], on_piece: Callable[[str], object]) -> Answer:
        """A streamed answer, whole: citations and counts come with its last chunks."""
        pieces: list[str] = []
        told: dict[str, Any] = {}
        wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
        for frame in self._http.events("/v1/chat/completions", wanted):
            told |= {name: frame[name] for name in ("x_facts", "x_memory", "usage") if frame.get(name)}
            for choice in frame.get("choices", ()):
                if piece := choice["delta"].get("content"):
                    pieces.append(piece)
                    on_piece(piece)
        return Answer.from_wire("".join(pieces), told)

    def _sampling(self, temperature: float, sampling: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self.name, "temperature": temperature, **sampling}

    def _pieces(self, path: str, body: Mapping[str, Any], text: Any) -> Iterator[str]:
        for frame in self._http.events(path, {**body, "stream": True}):
            for choice in frame.get("choices", ()):
                if piece := text(choice):
                    yield piece


def pin(http: Http, name: str) -> str:
    """Pin a model, or all versions of one, by name. Returns the model that is pinned now."""
    return str(http.call("POST", "/v1/x/pins", body={"model": name})["model"])


def unpin(http: Http, name: str) -> Sequence[str]:
    """Take a pin back by the name it was made with. Returns the names that still pin its model."""
    return list(http.call("DELETE", f"/v1/x/pins/{quote(name, safe='')}").get("pinned_by") or ())
