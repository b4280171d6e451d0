"""Every error a user can meet, in one tree; each class knows its HTTP status, wire type and code.

It knows no transport: the server turns an error into a reply, the client turns a reply back into an error.

    InhouseError
    ├── InvalidRequest            400   the request is wrong; param names the field
    │   ├── UnsupportedParameter  400   a field this server does not honour
    │   ├── ContextLengthExceeded 400   prompt and asked tokens do not fit the context
    │   └── BadRows               400   a data file with problems, each with its line and cure
    ├── Unauthenticated           401
    ├── PermissionDenied          403
    ├── NotFound                  404
    │   └── ModelNotFound         404
    ├── MethodNotAllowed          405
    ├── Conflict                  409
    │   └── FactConflict          409   another fact answers the same question otherwise
    ├── TooLarge                  413
    ├── UnsupportedMedia          415
    ├── RangeNotSatisfiable       416
    ├── IdempotencyMismatch       422
    ├── RateLimited               429
    ├── Unavailable               503   EngineOverloaded, ModelLoading, Draining, StoreBusy: try again
    ├── StorageFull               507
    ├── ServerUnreachable          -    no server answers at the address (client side)
    ├── JobFailed                  -    a job ended as failed or cancelled (client side)
    ├── BadCheckpoint             400   a base or adapter folder that is unsafe, incomplete or unknown
    ├── LeaseLost                  -    another worker owns the job now (worker side)
    ├── Diverged                   -    training produced NaN or infinity and could not recover (worker side)
    └── InternalError             500
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class InhouseError(Exception):
    """The root. `message` says what, where and what to do about it."""

    status = 500
    type = "server_error"
    code = "internal_error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code

    def to_wire(self) -> dict[str, Any]:
        """The body OpenAI clients expect: all four keys, always."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(InhouseError):
    """The request cannot be honoured as it stands; `param` names the field, `code` the kind of fault."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class UnsupportedParameter(InvalidRequest):
    """A field that this server does not honour. It is refused, never ignored."""

    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and asked tokens do not fit the model's context."""

    code = "context_length_exceeded"

    @classmethod
    def of(cls, *, limit: int, prompt: int, asked: int) -> ContextLengthExceeded:
        return cls(
            f"This model's context holds {limit} tokens. The prompt has {prompt} and {asked} were asked for. "
            "Shorten the prompt or lower max_completion_tokens.",
            param="messages",
        )


MOST_PROBLEMS = 100
"""After so many, reading a data file stops."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One fault in a data file: where it is, what it is, and how to mend it."""

    line: int
    field: str | None
    reason: str
    cure: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.field}" if self.field else "")
        return f"{where}: {self.reason} {self.cure}"


class BadRows(InvalidRequest):
    """A data file with problems. `problems` holds at most 100 of them, in line order."""

    code = "invalid_training_file"

    def __init__(
        self, name: str, problems: Sequence[RowProblem], *, param: str | None = "training_file"
    ) -> None:
        self.name = name
        self.problems = tuple(problems[:MOST_PROBLEMS])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{name} {self.problems[0]}{more}", param=param)


class Unauthenticated(InhouseError):
    """No key, or one that is unknown or revoked."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class PermissionDenied(InhouseError):
    """The key is known, but may not do this."""

    status = 403
    type = "invalid_request_error"
    code = "permission_denied"


class NotFound(InhouseError):
    """No such object in the caller's project. Another project's object reads exactly the same."""

    status = 404
    type = "invalid_request_error"
    code = "resource_not_found"


class ModelNotFound(NotFound):
    """No such model in the caller's project."""

    code = "model_not_found"


class MethodNotAllowed(InhouseError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(InhouseError):
    """The object is not in a state that allows this. Permanent: clients must not retry."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class FactConflict(Conflict):
    """Another fact is asked by the same words and answered otherwise: replace it, or let both stand?"""

    code = "fact_conflict"


class TooLarge(InhouseError):
    """The body is over the limit."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMedia(InhouseError):
    """The body is not of a type this endpoint reads."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class RangeNotSatisfiable(InhouseError):
    """A part of a file was asked for that it does not have."""

    status = 416
    type = "invalid_request_error"
    code = "range_not_satisfiable"


class IdempotencyMismatch(InhouseError):
    """An Idempotency-Key used before with another body."""

    status = 422
    type = "invalid_request_error"
    code = "idempotency_key_reused"


class RateLimited(InhouseError):
    """Over a rate limit, or (code insufficient_quota) over a quota that does not come back by waiting."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class Unavailable(InhouseError):
    """The server cannot take this now; the same request may go through later."""

    status = 503
    type = "server_error"
    code = "unavailable"
    retryable = True


class EngineOverloaded(Unavailable):
    """The engine's queue is full."""

    code = "engine_overloaded"


class ModelLoading(Unavailable):
    """A replica of this model's base is starting."""

    code = "model_loading"


class Draining(Unavailable):
    """The server is shutting down."""

    code = "draining"


class StoreBusy(Unavailable):
    """The database did not answer in time."""

    code = "database_unavailable"


class StorageFull(InhouseError):
    """The disk that holds the data folder is full."""

    status = 507
    type = "server_error"
    code = "disk_full"


class InternalError(InhouseError):
    """Our fault. The reply carries a request id and no trace; the log carries both."""


class ServerUnreachable(InhouseError):
    """No server answers at this address."""

    code = "server_unreachable"


class JobFailed(InhouseError):
    """A job ended without a model; the message is the job's own."""

    code = "job_failed"


class BadCheckpoint(InvalidRequest):
    """A base or adapter folder that is unsafe, incomplete, or of a kind we cannot read."""

    code = "invalid_checkpoint"


class LeaseLost(InhouseError):
    """This worker's claim on the job has passed to another; nothing more may be written."""

    code = "lease_lost"


class Diverged(InhouseError):
    """Training produced NaN or infinity and a lower rate did not mend it."""

    code = "diverged"
