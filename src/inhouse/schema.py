"""Every noun that crosses a wire: HTTP bodies, job specs, and the engine socket's frames.

It knows shapes and limits, never behaviour. Two rules hold for every model here: values are frozen, and a
field that is not named is refused, so that nothing is ever accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ROLES = ("system", "developer", "user", "assistant", "tool")
TERMINAL_STATES = ("succeeded", "failed", "cancelled")
FILE_PURPOSES = ("fine-tune", "fine-tune-results", "batch", "batch_output", "user_data", "evals")

Auto = Literal["auto"]
JobState = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
JobKind = Literal["tune", "serve"]
FinishReason = Literal["stop", "length", "tool_calls"]
FactKind = Literal["text", "number", "date", "code"]
MemoryMode = Literal["auto", "exact", "retrieval", "expert", "off"]
OnConflict = Literal["replace", "coexist"]
UnknownPolicy = Literal["refuse", "base"]
Priority = Literal["interactive", "batch"]
EngineOp = Literal["generate", "explain", "verify", "stats"]


class Wire(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


# ── conversations ─────────────────────────────────────────────────────────────────────────────────────────


class TextPart(Wire):
    """A piece of message content. Text is the only kind a text model reads."""

    type: Literal["text"]
    text: str


class ToolCall(Wire):
    """A call that a reply made; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Message(Wire):
    """One turn of a conversation. `weight` 0 or 1 says whether a reply is trained on (training files only)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """The call that a message of the role tool answers."""
    weight: Literal[0, 1] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        return "".join(p.text for p in self.content) if isinstance(self.content, list) else self.content or ""


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── what a reply looks like ───────────────────────────────────────────────────────────────────────────────


class Structure(Wire):
    """A format that the whole reply keeps. Exactly one of its kinds is given."""

    param: Literal["response_format", "structured_outputs"]
    """The caller's field that asks for it, for errors."""
    json_schema: dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None  # Lark, in llguidance's dialect


class Tool(Wire):
    """A function that a reply may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of an object; None: it takes no arguments."""


class ToolUse(Wire):
    """The tools of a request and how a reply may use them."""

    tools: tuple[Tool, ...]
    choice: Literal["auto", "required"] = "auto"
    only: tuple[str, ...] = ()
    """Names of those that may be called; none: all."""
    parallel: bool = True
    """Whether a reply may make several calls."""


# ── the engine's socket ───────────────────────────────────────────────────────────────────────────────────


class Sampling(Wire):
    """How the next token is chosen and when to stop. Temperature 0 is greedy."""

    max_new_tokens: Annotated[int, Field(ge=0)] | None = None
    """None: until the end of the context."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """0: no limit."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """None: not reported; k: the chosen token's and the k most likely ones'."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    logit_bias: dict[int, float] = Field(default_factory=dict)


class EngineRequest(Wire):
    """One request as the gateway hands it to an engine. Exactly one of messages, prompt, tokens is given."""

    id: str
    project: str = "default"
    """The caller's project: turns are shared out between projects, and no prefix is shared across them."""
    priority: Priority = "interactive"
    """batch takes what interactive requests leave."""
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    tokens: tuple[int, ...] | None = None
    adapter: str | None = None
    """The adapter's artifact digest; None is the base itself."""
    n: Annotated[int, Field(ge=1, le=128)] = 1
    echo: bool = False
    """Also report the prompt (and its log-probabilities when asked), as completions' `echo` does."""
    memory: MemoryUse | None = None
    """The facts to answer from, beside whatever adapter is named."""
    structure: Structure | None = None
    tools: ToolUse | None = None
    whole: bool = False
    """Whether the caller waits for the whole reply: its deltas may then come together, in fewer frames."""
    sampling: Sampling = Sampling()

    @property
    def is_free(self) -> bool:
        """Whether the reply may be any text."""
        return self.structure is None and (self.tools is None or self.tools.choice == "auto")


class TokenLogprob(Wire):
    """A token's text, bytes and log-probability, with the most likely alternatives."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | None = None
    """None for the first token of an echoed prompt, which nothing precedes."""
    top: list[TokenLogprob] = Field(default_factory=list)


class CallDelta(Wire):
    """News of one tool call: its id and name first, then its arguments in pieces."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(Wire):
    """New text of one choice. `finish_reason` is set on the choice's last delta and only there."""

    index: int = 0
    text: str = ""
    calls: tuple[CallDelta, ...] = ()
    tokens: int = 0
    """How many generated tokens this delta accounts for (held-back text may arrive in a later one)."""
    prompt_tokens: int = 0
    """On the first delta of choice 0, the request's: known from then on, even if the caller leaves early."""
    logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None
    memory: MemoryOutcome | None = None
    """On a choice's last delta, when the request named a memory."""


class Usage(Wire):
    """Tokens counted. `completion_tokens` sums over all choices."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's tokens those that an earlier request of the project had computed."""


class EngineDone(Wire):
    """The last frame of a request that went well."""

    usage: Usage
    base_digest: str
    adapter: str | None = None


class Check(Wire):
    """One thing that was looked at when an adapter was verified; `passed` None: it could not be."""

    name: str
    found: str
    passed: bool | None = None
    tensors: tuple[str, ...] = ()
    """Those at fault."""


class EngineFault(Wire):
    """The last frame of a request that did not: an error by its code, or an internal fault."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None


class EngineFrame(Wire):
    """One line on the socket, engine to gateway. Exactly one field is set, beside the request's place in its call."""

    request: int = 0
    delta: Delta | None = None
    done: EngineDone | None = None
    fault: EngineFault | None = None
    stats: dict[str, float] | None = None
    explained: dict[str, Any] | None = None
    """What the router saw in a question, and why it decided as it did."""
    verified: tuple[Check, ...] | None = None


class EngineCall(Wire):
    """One line on the socket, gateway to engine; the connection's end is the request's cancellation."""

    op: EngineOp
    request: EngineRequest | None = None
    bundle: tuple[EngineRequest, ...] = ()
    """Instead of one request: many, wanted whole, each of which ends by itself."""


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────


class TuneSpec(Wire):
    """What a tuning job does. "auto" is resolved by the worker, which reports what it chose and why."""

    base: str
    """The base's registered name."""
    training: str
    """Artifact digest of the training rows (JSONL)."""
    training_name: str = "training file"
    """What to call the file in errors."""
    validation: str | None = None
    validation_name: str = "validation file"
    method: Literal["lora", "full", "memory"] | Auto = "auto"
    picks_method: bool = False
    """Whether "auto" may become memory: settled when the rows are checked."""
    experts: bool = False
    """Memory: also train an expert for each fact."""
    unknown: UnknownPolicy = "refuse"
    """Memory: what a question of the bank's kind gets that has no fact."""
    on_conflict: OnConflict | None = None
    """Memory: what two rows with one question and different answers mean; None: they are an error."""
    epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    """Examples a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = "auto"
    """OpenAI's knob: times the rate that "auto" would choose."""
    rank: Annotated[int, Field(ge=1, le=512)] | Auto = "auto"
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    suffix: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.\-]*$")] = ""
    checkpoint_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between checkpoints."""
    evaluate_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between looks at the validation rows."""
    request: dict[str, Any] = Field(default_factory=dict)
    """What the caller asked, in the API's words (file ids, metadata): shown back, never acted on."""


class ServeSpec(Wire):
    """What a serving job does: hold one base resident and answer requests for it and its adapters."""

    base: str


class JobFault(Wire):
    """Why a job failed, as OpenAI's `error` object of a job."""

    code: str
    message: str
    param: str | None = None


class Job(Wire):
    """A job as the store knows it. Times are Unix seconds (UTC)."""

    id: str
    project: str
    kind: JobKind
    state: JobState
    spec: dict[str, Any]
    fence: int = 0
    attempts: int = 0
    worker: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    result: dict[str, Any] = Field(default_factory=dict)
    error: JobFault | None = None
    x_state: str | None = None
    """A finer word than `state`: loading, ready, paused: disk_full, ..."""
    paused_at: float | None = None
    """Since when it is not to run: asked for by its owner, until resumed."""


class Event(Wire):
    """One line of a job's log. `type` metrics carries numbers in `data`, as OpenAI's job events do."""

    id: str
    job: str
    created_at: float
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics"] = "message"
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class File(Wire):
    """An uploaded file: its content lives among the artifacts, under `digest`."""

    id: str
    project: str
    filename: str
    purpose: str
    bytes: int
    digest: str
    created_at: float
    expires_at: float | None = None


class ModelCard(Wire):
    """A model that can be asked: a base, a base with an adapter, or a fully tuned base."""

    name: str
    project: str | None
    """None: every project may use it (bases)."""
    kind: Literal["base", "adapter", "full", "memory"]
    base: str
    """The name of the base it runs on; its own name for a base."""
    source: str | None = None
    """Where a base's weights are: "embedded", a folder, or a hub id."""
    digest: str | None = None
    """The artifact of an adapter or of a fully tuned base."""
    base_digest: str | None = None
    """Digest of the base an adapter was trained on; another base is refused."""
    job: str | None = None
    created_at: float
    about: dict[str, Any] = Field(default_factory=dict)
    """What is worth knowing: context length, parents, hyperparameters; the bank behind a memory model."""


class Replica(Wire):
    """A running engine: which base it holds and where it listens."""

    job: str
    fence: int
    base: str
    address: str  # unix:/path/to/socket
    fingerprint: str  # what its replies carry: another one's may differ where this does
    context: int
    ready: bool
