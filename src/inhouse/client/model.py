"""A model that can be asked: a base, or one that was tuned.

It knows a model's name and how to ask it; where and how it runs is the server's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload
from urllib.parse import quote

from inhouse.client.http import Http

Messages = str | Sequence[Mapping[str, Any]]
"""A question, or a whole conversation of {"role", "content"}."""


@dataclass(frozen=True, slots=True)
class Model:
    """A handle on one model of a server. Safe to ask from several threads."""

    name: str
    base: str | None = None
    kind: str = "adapter"
    """base, adapter (a base with learned weights beside it) or full (a base whose own weights were tuned)."""
    created_at: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _http: Http = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def from_wire(cls, http: Http, card: Mapping[str, Any]) -> Model:
        return cls(
            name=card["id"],
            base=card.get("x_base"),
            kind=card.get("x_kind", "base"),
            created_at=int(card.get("created", 0)),
            facts=card.get("x_facts") or {},
            _http=http,
        )

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
        `sampling` takes what the API takes: top_p, seed, stop, frequency_penalty, top_k, …
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": list(messages), **self._sampling(temperature, sampling)}
        if max_tokens is not None:
            body["max_completion_tokens"] = max_tokens
        if stream:
            return self._pieces("/v1/chat/completions", body, lambda choice: choice["delta"].get("content"))
        reply = self._http.call("POST", "/v1/chat/completions", body=body)
        return str(reply["choices"][0]["message"]["content"])

    def complete(
        self, prompt: str, *, temperature: float = 0.0, max_tokens: int | None = None, **sampling: Any
    ) -> str:
        """The text that follows `prompt`, with no chat template around it."""
        body = {"prompt": prompt, **self._sampling(temperature, sampling)}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        return str(self._http.call("POST", "/v1/completions", body=body)["choices"][0]["text"])

    def delete(self) -> None:
        """Remove a tuned model from the server. Answers that are being given are given to their end."""
        self._http.call("DELETE", f"/v1/models/{quote(self.name, safe='')}")

    def _sampling(self, temperature: float, sampling: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self.name, "temperature": temperature, **sampling}

    def _pieces(self, path: str, body: Mapping[str, Any], text: Any) -> Iterator[str]:
        for frame in self._http.events(path, {**body, "stream": True}):
            for choice in frame.get("choices", ()):
                if piece := text(choice):
                    yield piece
