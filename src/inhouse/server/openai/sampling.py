"""The request fields that chat, completions and responses share, and what each becomes for an engine.

Here is the one list of fields that are accepted without effect, each because having none is what was asked:
`user`, `safety_identifier`, `prompt_cache_key`, `prompt_cache_retention`, `metadata` (labels for the caller's
own use), `store: false`, `service_tier: auto | default`, `stream_options.include_obfuscation: false`, and in
chat `tool_choice: none` and `parallel_tool_calls` without tools, `response_format: {"type": "text"}`,
`modalities: ["text"]`: what happens without them. Responses take `background: false` and `truncation: disabled` like
that, and tell labels back. A schema's name and description are labels too, and `strict` says what is so anyway.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from inhouse.errors import InvalidRequest
from inhouse.schema import Priority, Sampling
from inhouse.server.body import RequestBody
from inhouse.server.openai.formats import StructuredOutputs

SMALLEST_TOP_P = 1e-6
"""OpenAI allows top_p 0; the smallest nucleus is the most likely token."""


def _stop_strings(value: str | list[str]) -> str | list[str]:
    if "" in ([value] if isinstance(value, str) else value):
        raise ValueError("an empty stop string would stop everything; leave it out")
    return value


StopString = Annotated[str, Field(max_length=1024)]
Stop = Annotated[
    StopString | Annotated[list[StopString], Field(max_length=4)],
    AfterValidator(_stop_strings),
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class StreamOptions(RequestBody):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """Also on every chunk, the counts so far: what some measure with."""
    include_obfuscation: Literal[False] | None = None


class Asked(RequestBody):
    """What any request for tokens may say, on whichever of OpenAI's wires."""

    only_these: ClassVar[dict[str, str]] = {"service_tier": "auto, default and flex"}

    model: Annotated[str, Field(min_length=1, max_length=512)]
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None

    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    structured_outputs: StructuredOutputs | None = None

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "default", "flex"] | None = None

    @property
    def priority(self) -> Priority:
        """OpenAI's flex is our batch: it takes what other requests leave."""
        return "batch" if self.service_tier == "flex" else "interactive"

    def sampling(self, *, max_new_tokens: int | None, logprobs: int | None) -> Sampling:
        """The fields as an engine takes them, OpenAI's defaults filled in."""
        return Sampling(
            max_new_tokens=max_new_tokens,
            ignore_eos=bool(self.ignore_eos),
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else max(self.top_p, SMALLEST_TOP_P),
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            logprobs=logprobs,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
        )


class Inference(Asked):
    """What chat and plain completions may say."""

    only_these: ClassVar[dict[str, str]] = Asked.only_these | {"store": "false"}

    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None
    ) = None
    store: Literal[False] | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_counts(self) -> bool:
        """Whether every chunk says how many tokens there are so far."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def check_stream(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "stream_options needs stream: true. Set it or leave stream_options out.",
                param="stream_options",
            )
        if self.wants_counts and not self.wants_usage:
            raise InvalidRequest(
                "continuous_usage_stats needs include_usage: true. Set it or leave continuous_usage_stats out.",
                param="stream_options.continuous_usage_stats",
            )

    def sampling(self, *, max_new_tokens: int | None, logprobs: int | None) -> Sampling:
        """The fields as an engine takes them, OpenAI's defaults filled in."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        more = {
            "seed": self.seed,
            "stop": tuple(stop),
            "frequency_penalty": self.frequency_penalty or 0.0,
            "presence_penalty": self.presence_penalty or 0.0,
            "logit_bias": self.logit_bias or {},
        }
        return super().sampling(max_new_tokens=max_new_tokens, logprobs=logprobs).model_copy(update=more)
