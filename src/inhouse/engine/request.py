"""What the engine knows of one request and of each of its sequences.

Tokens and numbers only: no torch, no text, no clock. `Request` groups the n choices of one call; a `Sequence`
is one choice, the unit that is scheduled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inhouse.engine.lookup import Lookup
from inhouse.engine.recall import Recall
from inhouse.schema import FinishReason, Priority, Sampling
from inhouse.text.grammar import Matcher


@dataclass(slots=True, eq=False)
class Request:
    """One call: a prompt, how to continue it, and the sequences that do."""

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    """The caller's, or a fresh one: draws depend on nothing else but place and choice."""
    limit: int
    """Tokens at which a sequence ends with "length": prompt and new ones together."""
    stop_ids: frozenset[int] = frozenset()
    adapter: str | None = None
    """Artifact digest; None is the base itself."""
    expert: str | None = None
    """Key of a fact's expert, which works beside the adapter (see `engine.experts`)."""
    recall: Recall | None = None
    """What the memory made of it, when it named one."""
    adapter_rows: int = 1
    expert_rows: int = 1
    """Rank rows that each takes on the device."""
    matcher: Matcher | None = None
    """What each reply must look like, at its start; None: any text."""
    has_tools: bool = False
    """Whether a reply may call tools, in the form that the matcher holds it to."""
    is_free: bool = True
    """Whether a reply that calls none may be any text."""
    embeds: bool = False
    """Whether the prompt is read for its embedding, and nothing more."""
    echo: bool = False
    prompt_text: str = ""
    """What `echo` repeats."""
    n: int = 1
    project: str = "default"
    """Whose it is: turns are shared out between projects, and no prefix is shared across them."""
    priority: Priority = "interactive"
    cached_tokens: int | None = None
    """Set by the scheduler: prompt tokens that the first choice found computed when it first started."""
    arrived_at: float = 0.0
    """Set by the scheduler: its clock's seconds."""
    order: int = 0
    """Set by the scheduler: lower came first."""
    choices: list[Sequence] = field(default_factory=list)

    def __post_init__(self) -> None:
        for index in range(self.n):
            matcher = None if self.matcher is None else self.matcher.clone()
            self.choices.append(Sequence(self, index, list(self.prompt), matcher=matcher))

    @property
    def keys(self) -> tuple[str, ...]:
        """What must sit in slots while a choice runs: the adapter, the expert, both or neither."""
        return tuple(self.wants)

    @property
    def wants(self) -> dict[str, int]:
        """The same keys, each with the rank rows it takes."""
        both = ((self.adapter, self.adapter_rows), (self.expert, self.expert_rows))
        return {key: rows for key, rows in both if key is not None}

    @property
    def preset(self) -> str | None:
        """The reply where it was settled without the model."""
        return None if self.recall is None else self.recall.preset

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own log-probabilities are asked for."""
        return self.echo and self.sampling.logprobs is not None

    @property
    def reads_whole(self) -> bool:
        """Whether something is wanted of every prompt token, so that none may be found computed."""
        return self.scores_prompt or self.embeds

    @property
    def generates(self) -> bool:
        """False where no new token is asked for."""
        return self.limit > len(self.prompt)

    @property
    def needs_model(self) -> bool:
        """False where the reply is settled, or there is nothing to generate and nothing to be read for."""
        return self.preset is None and (self.generates or self.reads_whole)

    @property
    def is_finished(self) -> bool:
        return all(choice.is_finished for choice in self.choices)

    @property
    def generated(self) -> int:
        """New tokens of all choices."""
        return sum(choice.generated for choice in self.choices)


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice of a request: its tokens, and how far the model has read them."""

    request: Request
    index: int
    tokens: list[int]
    """Prompt, then what was generated."""
    computed: int = 0
    """Tokens whose keys and values are in pages."""
    scored: int = 0
    """Prompt tokens whose log-probability or final state was taken note of; it outlives a preemption."""
    page_keys: list[bytes] = field(default_factory=list)
    """What its full pages are called in the index of prefixes, as far as anybody asked."""
    indexed: int = 0
    """How many of its pages are in that index, or need not be: another page with the same tokens is."""
    passed_over_at: float | None = None
    """When its turn first came and there was no room for it; None again once it runs."""
    is_promoted: bool = False
    """Of a batch request: it has waited so long that it counts as interactive from now on."""
    slots: tuple[int, ...] = ()
    """Where the request's adapter and expert sit while the sequence runs; none is the base."""
    matcher: Matcher | None = None
    """Where the reply stands in its grammar: behind its last token, which no preemption changes."""
    lookup: Lookup = field(default_factory=Lookup)
    """Its guesses at what follows."""
    finish_reason: FinishReason | None = None

    def drop(self, count: int) -> None:
        """Takes back the last tokens."""
        del self.tokens[self.length - count :]

    @property
    def is_complete(self) -> bool:
        """Whether the reply's grammar allows nothing more."""
        return self.matcher is not None and self.matcher.is_complete

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    @property
    def generated(self) -> int:
        return self.length - self.prompt_length

    @property
    def pending(self) -> int:
        """Tokens the model has yet to read before it can give the next one."""
        return self.length - self.computed

    @property
    def has_room(self) -> bool:
        """Whether another token may be generated."""
        return self.length < self.request.limit

    @property
    def is_finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def is_urgent(self) -> bool:
        """Interactive, or promoted to it: it goes before batch."""
        return self.is_promoted or self.request.priority == "interactive"

    @property
    def age(self) -> tuple[int, int]:
        """Sorts sequences: who came first comes first."""
        return self.request.order, self.index
