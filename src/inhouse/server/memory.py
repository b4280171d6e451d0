"""Which memory a request answers from, whose facts the caller may see, and the clearing after a forgetting.

It knows models, banks and keys; what a question means is the engine's to find out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import Conflict, InhouseError, InvalidRequest, ModelNotFound
from inhouse.schema import Citation, MemoryMode, MemoryOutcome, MemoryUse, ModelCard
from inhouse.server import bases, gateway
from inhouse.server.auth import Caller
from inhouse.server.body import RequestBody
from inhouse.server.threads import StoreThreads
from inhouse.store.artifacts import Artifacts
from inhouse.store.records import banks, batch_answers, files, forgetting
from inhouse.store.records.batch_answers import Outputs, Sought
from inhouse.store.records.facts import FactForgotten
from inhouse.store.records.forgetting import Purged

log = logging.getLogger(__name__)

CLEAR_AGAIN_S = 30.0
Name = Annotated[str, Field(min_length=1, max_length=512)]
Gone = TypeVar("Gone", Purged, FactForgotten)


class MemoryRequest(RequestBody):
    """Which memory to use beside the model, and how; of a memory model only how."""

    model: Name | None = None
    mode: MemoryMode | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one request: the model it is known by, and what the engine may use of it."""

    model: str
    use: MemoryUse

    def wire(
        self, outcomes: Sequence[MemoryOutcome | None], *, first: int = 0, of: int | None = None
    ) -> dict[str, Any]:
        """What it did, as keys of a reply or a chunk: for the choices from `first` on, `of` so many in all.

        The decision is the first choice's: all choices of a request are decided alike.
        """
        nothing = MemoryOutcome(bank=self.use.bank, revision=self.use.revision, decision="none")
        done = [outcome or nothing for outcome in outcomes]
        is_numbered = (len(done) if of is None else of) > 1
        return {
            "x_facts": [
                _citation(fact) | ({"choice": i} if is_numbered else {})
                for i, outcome in enumerate(done, first)
                for fact in outcome.facts
            ],
            "x_memory": {
                "model": self.model,
                "revision": done[0].revision,
                "decision": done[0].decision,
            },
        }


def find(conn: Connection, who: Caller, card: ModelCard, asked: str | MemoryRequest | None) -> Memory | None:
    """The memory that a request to this model answers from, at its present revision; None: it has none.

    Raises InvalidRequest where none is meant or two are, ModelNotFound, and Conflict for one of another base.
    """
    wanted = MemoryRequest(model=asked) if isinstance(asked, str) else asked or MemoryRequest()
    param = "x_memory" if isinstance(asked, str) else "x_memory.model"
    if card.kind == "memory":
        if wanted.model is not None:
            raise InvalidRequest(
                f"{card.name} is a memory itself. Leave {param} out, or ask its base {card.base} beside another.",
                param=param,
            )
        return Memory(card.name, use_of(conn, who, card, wanted.mode or "auto"))
    if asked is None:
        return None
    if wanted.model is None:
        raise InvalidRequest(
            f"{card.name} has no memory of its own. Name one in x_memory.model, or ask a memory model.",
            param="x_memory.model",
        )
    of = memory_model(conn, who, wanted.model, param)
    if gateway.resident(of) != gateway.resident(card):
        raise Conflict(
            f"{of.name} is a memory of the base {of.base}, and {card.name} runs on {gateway.resident(card)}. "
            "Ask a model of the same base.",
            param=param,
        )
    return Memory(of.name, use_of(conn, who, of, wanted.mode or "auto"))


def use_of(conn: Connection, who: Caller, card: ModelCard, mode: MemoryMode = "auto") -> MemoryUse:
    """What the caller may use of a memory model's bank, as it is now."""
    bank = banks.of_model(conn, card)
    return MemoryUse(
        bank=bank.id, revision=bank.revision, mode=mode, groups=who.groups, sees_all=who.is_admin
    )


def memory_model(conn: Connection, who: Caller, name: str, param: str = "model") -> ModelCard:
    """The memory model by this name. Raises ModelNotFound, and InvalidRequest for another kind of model."""
    try:
        card = bases.find(conn, who.project, name)
    except ModelNotFound as error:
        error.param = param
        raise
    if card.kind != "memory":
        raise InvalidRequest(
            f'{name} is no memory model, so it holds no facts. Tune one with the method "memory".',
            param=param,
        )
    return card


def _citation(fact: Citation) -> dict[str, Any]:
    shown = fact.model_dump()
    if shown["delta_logprob"] is None:
        del shown["delta_logprob"]
    return shown


class Clearing:
    """Clears what forgotten rows leave behind: at once, and again later what an earlier try left undone."""

    def __init__(self, store: StoreThreads, artifacts: Artifacts) -> None:
        self.store = store
        self.artifacts = artifacts

    async def forget(
        self,
        project: str,
        sought: Callable[[Connection], Sought],
        change: Callable[[Connection, Outputs], Gone],
    ) -> tuple[Gone, bool]:
        """Runs a change that forgets, then clears; False: not all could be cleared yet.

        The project's files of answers are looked through before the change: within it only what came since.
        """
        outputs = Outputs(self.artifacts)
        wanted, contents = await self.store.read(
            lambda conn: (sought(conn), batch_answers.contents(conn, project))
        )
        await self.store.run_with_files(lambda: outputs.look(wanted, contents.values()))
        gone = await self.store.write(lambda conn: change(conn, outputs))
        return gone, await self.store.run(self._clear)

    async def run(self) -> None:
        """Clears what a server that ended left, and every CLEAR_AGAIN_S what could not be cleared before."""
        while True:
            try:
                await self.store.run(self._clear)
            except (InhouseError, SQLAlchemyError, OSError) as error:
                log.warning("what was forgotten could not be cleared: %s", type(error).__name__)
            await asyncio.sleep(CLEAR_AGAIN_S)

    def _clear(self) -> bool:
        db = self.store.db
        with db.read() as conn:
            due = forgetting.due(conn)
        if not due:
            return True
        self._drop_artifacts()
        of_database = [what for what in due if forgetting.is_of_database(what)]
        is_cleared = not of_database or db.scrub(forgetting.TABLES)
        if of_database and is_cleared:
            with db.write() as conn:  # only what was due before: the scrub may have missed what came since
                forgetting.cleared(conn, of_database)
        return is_cleared

    def _drop_artifacts(self) -> None:
        """Deletes what no file has any more, while no upload can take up one of them again."""
        with self.store.db.write() as conn:
            forgetting.hold_artifacts(conn)
            digests = [what for what in forgetting.due(conn) if not forgetting.is_of_database(what)]
            for digest in digests:
                if not files.in_use(conn, digest):
                    self.artifacts.delete(digest)
            forgetting.cleared(conn, digests)
