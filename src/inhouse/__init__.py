"""Own your language models: teach an open base model your data, and serve it in-house.

    from inhouse import Client
    client = Client()
    model = client.tune("facts.jsonl").wait()
    print(model.chat("Who signs off travel over 500 euros?"))

Names are imported when they are first used: `import inhouse` alone costs milliseconds and brings no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from inhouse.client.client import Client as Client
    from inhouse.client.dataset import Dataset as Dataset
    from inhouse.client.facts import Fact as Fact
    from inhouse.client.facts import FactChange as FactChange
    from inhouse.client.facts import Facts as Facts
    from inhouse.client.job import Job as Job
    from inhouse.client.model import Answer as Answer
    from inhouse.client.model import Citation as Citation
    from inhouse.client.model import Model as Model
    from inhouse.client.replies import Reply as Reply
    from inhouse.client.replies import Summary as Summary
    from inhouse.errors import BadCheckpoint as BadCheckpoint
    from inhouse.errors import BadRows as BadRows
    from inhouse.errors import Conflict as Conflict
    from inhouse.errors import ContextLengthExceeded as ContextLengthExceeded
    from inhouse.errors import Diverged as Diverged
    from inhouse.errors import Draining as Draining
    from inhouse.errors import EngineOverloaded as EngineOverloaded
    from inhouse.errors import FactConflict as FactConflict
    from inhouse.errors import IdempotencyMismatch as IdempotencyMismatch
    from inhouse.errors import InhouseError as InhouseError
    from inhouse.errors import InternalError as InternalError
    from inhouse.errors import InvalidRequest as InvalidRequest
    from inhouse.errors import JobFailed as JobFailed
    from inhouse.errors import LeaseLost as LeaseLost
    from inhouse.errors import MethodNotAllowed as MethodNotAllowed
    from inhouse.errors import ModelLoading as ModelLoading
    from inhouse.errors import ModelNotFound as ModelNotFound
    from inhouse.errors import NotFound as NotFound
    from inhouse.errors import PermissionDenied as PermissionDenied
    from inhouse.errors import RateLimited as RateLimited
    from inhouse.errors import ServerUnreachable as ServerUnreachable
    from inhouse.errors import StorageFull as StorageFull
    from inhouse.errors import StoreBusy as StoreBusy
    from inhouse.errors import TooLarge as TooLarge
    from inhouse.errors import Unauthenticated as Unauthenticated
    from inhouse.errors import Unavailable as Unavailable
    from inhouse.errors import UnsupportedMedia as UnsupportedMedia
    from inhouse.errors import UnsupportedParameter as UnsupportedParameter

_NOUNS = {
    "Answer": "inhouse.client.model",
    "Citation": "inhouse.client.model",
    "Client": "inhouse.client.client",
    "Dataset": "inhouse.client.dataset",
    "Fact": "inhouse.client.facts",
    "FactChange": "inhouse.client.facts",
    "Facts": "inhouse.client.facts",
    "Job": "inhouse.client.job",
    "Model": "inhouse.client.model",
    "Reply": "inhouse.client.replies",
    "Summary": "inhouse.client.replies",
}
_ERRORS = (
    "BadCheckpoint",
    "BadRows",
    "Conflict",
    "ContextLengthExceeded",
    "Diverged",
    "Draining",
    "EngineOverloaded",
    "FactConflict",
    "IdempotencyMismatch",
    "InhouseError",
    "InternalError",
    "InvalidRequest",
    "JobFailed",
    "LeaseLost",
    "MethodNotAllowed",
    "ModelLoading",
    "ModelNotFound",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "ServerUnreachable",
    "StorageFull",
    "StoreBusy",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMedia",
    "UnsupportedParameter",
)

__all__ = ["__version__", *_NOUNS, *_ERRORS]


def __getattr__(name: str) -> Any:
    home = _NOUNS.get(name) or ("inhouse.errors" if name in _ERRORS else None)
    if home is None:
        raise AttributeError(f"module 'inhouse' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
