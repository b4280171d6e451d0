"""What an engine is asked, and answers on its socket."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from inhouse.schema.facts import MemoryOutcome, MemoryUse
from inhouse.schema.talk import Message
from inhouse.schema.wire import Wire

FinishReason = Literal["stop", "length", "tool_calls"]
Priority = Literal["interactive", "batch"]
EngineOp = Literal["generate", "explain", "verify", "stats"]


class Structure(Wire):
    """A format that the whole reply keeps. Exactly one of its kinds is given."""

    param: Literal["response_format", "structured_outputs"]
    """The caller's field that asks for it, for errors."""
    json_schema: dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    """Lark, in llguidance's dialect."""


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


class Sampling(Wire):
    """How the next token is chosen and when to stop. Temperature 0 is greedy."""

    max_new_tokens: Annotated[int, Field(ge=0)] | None = None
    """None: until the end of the context."""
    ignore_eos: bool = False
    """Whether tokens that end a reply end nothing: exactly so many tokens are made as were asked for."""
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
    embeds: bool = False
    """Nothing is generated: the prompt is read for its embedding."""
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
    embedding: str | None = None
    """The mean of the prompt's final states at length 1, as base64 of little-endian float32."""


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
