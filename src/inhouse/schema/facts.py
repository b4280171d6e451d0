"""Facts, the banks that hold them, and what a memory made of a request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from inhouse.schema.wire import Wire

FactKind = Literal["text", "number", "date", "code"]
MemoryMode = Literal["auto", "exact", "retrieval", "expert", "off"]
OnConflict = Literal["replace", "coexist"]
UnknownPolicy = Literal["refuse", "base"]


class FactInput(Wire):
    """A fact as somebody gives it: a row of a file, or the body of an edit."""

    question: str
    answer: str
    wordings: tuple[str, ...] = ()
    """Other ways of asking the same."""
    subject: str | None = None
    """Whom or what it is about, as written in the question; None: seen from the question itself."""
    aliases: tuple[str, ...] = ()
    """Other names of the subject."""
    kind: FactKind | None = None
    """How an answer is compared; None: seen from the answer."""
    source: str | None = None
    """Where it stands, for people: a document, a page, a file's line."""
    span: str | None = None
    """The words of the source that say it."""
    access: tuple[str, ...] = ()
    """Groups that may see it; empty: everybody of the project."""
    valid_from: float | None = None
    valid_until: float | None = None
    """Unix seconds; outside of them it is not given as an answer."""


class Fact(FactInput):
    """A fact in a bank, at its present version."""

    id: str
    bank: str
    revision: int
    """The bank's revision that this version came with."""
    version: int = 1
    status: Literal["live", "retrieval_only"] = "live"
    """retrieval_only: never answered word for word, because `reason`."""
    reason: str | None = None
    file: str | None = None
    """The uploaded file it came from."""
    author: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0


class FactChange(Wire):
    """One line of a bank's history."""

    id: str
    bank: str
    fact: str
    version: int
    revision: int
    action: Literal["add", "edit", "forget", "rollback"]
    author: str
    at: float
    fact_then: dict[str, Any] | None = None
    """The fact as of this version; None once it was forgotten."""


class Bank(Wire):
    """The facts behind one memory model, as a whole."""

    id: str
    project: str
    base: str
    base_digest: str
    """The base it was made for: another one is refused."""
    revision: int = 0
    """Rises with every change; a request names the one it must see."""
    unknown: UnknownPolicy = "refuse"
    """What a question gets that is of the bank's kind and has no fact: "I don't know.", or the base as it is."""
    report: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Ids of the uploaded files it was made from."""
    created_at: float = 0.0


class MemoryUse(Wire):
    """Which facts a request may use, and how."""

    bank: str
    revision: int
    mode: MemoryMode = "auto"
    groups: tuple[str, ...] = ()
    """The caller's groups: facts with an access list are others' unless they share one."""
    sees_all: bool = False
    """An admin's request: access lists do not apply."""


class Citation(Wire):
    """A fact that an answer rests on."""

    id: str
    version: int
    mode: Literal["exact", "retrieval", "expert"]
    source: str | None = None
    span: str | None = None
    gate: float
    """The gate's probability that the question asks for this fact."""
    verified: bool
    """Whether the answer says what is stored, by the answer check."""
    delta_logprob: float | None = None
    """Experts: the stored answer's log-probability with the expert, less without it."""


class MemoryOutcome(Wire):
    """What the memory did for one choice."""

    bank: str
    revision: int
    decision: Literal["exact", "retrieval", "expert", "refused", "none"]
    facts: tuple[Citation, ...] = ()
