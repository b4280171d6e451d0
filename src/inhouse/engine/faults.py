"""The wall around a request: what goes wrong inside is that request's fault, and nobody else's.

It knows errors, not what they are about. Here stands one of the project's three `except Exception`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import TypeVar

from inhouse.errors import InhouseError, InternalError
from inhouse.schema import EngineFault

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def around_request(request_id: str, work: Callable[[], Result]) -> Result | EngineFault:
    """What the work returns, or the fault it ended with.

    A fault of ours is logged with its place in the code, without its message: that may quote the prompt.
    """
    try:
        return work()
    except InhouseError as error:
        return fault_of(error)
    except Exception as error:  # noqa: BLE001 - the engine around a request
        where = "".join(traceback.format_tb(error.__traceback__))
        about = {"request_id": request_id.partition("/")[0]}
        log.error("request %s failed with %s at\n%s", request_id, type(error).__name__, where, extra=about)
        return fault_of(
            InternalError("The engine could not serve this request. Its log says where it failed.")
        )


def error_of(fault: EngineFault) -> InhouseError:
    """The error that a fault was made of, to be met by somebody else."""
    error = InhouseError(fault.message, param=fault.param, code=fault.code)
    error.status, error.type = fault.status, fault.type
    return error


def fault_of(error: InhouseError) -> EngineFault:
    return EngineFault(
        status=error.status, type=error.type, code=error.code, message=error.message, param=error.param
    )
