"""The facts of memory models: listed, searched, added, edited, forgotten, explained, taken back, exported.

Any key of the project may, as far as its groups see; what they do not see reads like what does not exist. It
knows the wire; a change is the store's, and how a question finds its fact is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest
from inhouse.rows.facts import MOST_ANSWER_CHARACTERS, faults
from inhouse.schema import (
    EngineRequest,
    Fact,
    FactChange,
    FactInput,
    FactKind,
    Message,
    ModelCard,
    OnConflict,
)
from inhouse.server import audit, body, calls, gateway, memory
from inhouse.server.auth import Caller, caller
from inhouse.server.idempotency import create_once
from inhouse.server.memory import Name
from inhouse.server.openai.listing import list_wire, piece
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import banks, facts
from inhouse.store.records.batch_answers import Outputs, Sought

router = APIRouter()

MAX_LIST = 1000
MOST_AT_ONCE = 1000
MAX_QUERY_CHARACTERS = 1000
MAX_EXPLAINED_CHARACTERS = 4000
_GIVEN = tuple(FactInput.model_fields)

Text = Annotated[str, Field(max_length=20_000)]
Texts = Annotated[list[Text], Field(max_length=1000)]
Groups = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=100)]


class FactFields(body.RequestBody):
    """What may be said of a fact."""

    question: Text | None = None
    answer: Text | None = None
    wordings: Texts | None = None
    subject: Text | None = None
    aliases: Texts | None = None
    kind: FactKind | None = None
    source: Text | None = None
    span: Text | None = None
    access: Groups | None = None
    valid_from: float | None = None
    valid_until: float | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were given, nulls too."""
        return {name: getattr(self, name) for name in _GIVEN if name in self.model_fields_set}

    def fact(self, where: str = "") -> FactInput:
        """The whole fact. Raises InvalidRequest that names what is wrong; `where` stands before the field."""
        given = {name: value for name, value in self.given().items() if value is not None}
        for name in ("question", "answer"):
            if name not in given:
                raise InvalidRequest(
                    f"{where}{name} is required.", param=where + name, code="missing_required_parameter"
                )
        return checked(FactInput(**given), where)


class AddRequest(FactFields):
    """One fact, or many; all of them or, when one is refused, none."""

    model: Name
    facts: Annotated[list[FactFields], Field(min_length=1, max_length=MOST_AT_ONCE)] | None = None
    on_conflict: OnConflict | None = None

    def inputs(self) -> list[FactInput]:
        if self.facts is None:
            return [self.fact()]
        for name, value in self.given().items():
            if value is not None:
                raise InvalidRequest(
                    f"{name} stands beside facts. Put it into each of them, or send one fact.", param=name
                )
        return [fact.fact(f"facts[{i}].") for i, fact in enumerate(self.facts)]


class EditRequest(FactFields):
    """The fields to change. null empties one that may be empty."""

    on_conflict: Literal["coexist"] | None = None

    def changes(self) -> dict[str, Any]:
        given = self.given()
        if not given:
            raise InvalidRequest("Nothing is given to change. Name a field, such as answer.")
        for name in ("question", "answer"):
            if name in given and given[name] is None:
                raise InvalidRequest(f"{name} may not be empty. To remove the fact, DELETE it.", param=name)
        empty = {"wordings": (), "aliases": (), "access": ()}
        return {name: empty.get(name) if value is None else value for name, value in given.items()}


class RollbackRequest(body.RequestBody):
    version: Annotated[int, Field(ge=1)]
    on_conflict: Literal["coexist"] | None = None


class ExplainRequest(body.RequestBody):
    model: Name
    question: Annotated[str, Field(min_length=1, max_length=MAX_EXPLAINED_CHARACTERS)]


# ── a memory's facts ──────────────────────────────────────────────────────────────────────────────────────


@router.get("/v1/facts", response_model=None)
async def list_all(request: Request) -> Response:
    """A memory's facts in the order in which they came; with `query` those that hold its words."""
    asked, who = body.query(request, ("model", "after", "limit", "order", "query")), caller(request)
    part = piece({"order": "asc", **asked}, MAX_LIST)
    search = asked.get("query")
    if search is not None and len(search) > MAX_QUERY_CHARACTERS:
        raise InvalidRequest(f"query has more than {MAX_QUERY_CHARACTERS} characters.", param="query")

    def ask(conn: Connection) -> dict[str, Any]:
        found, has_more = facts.page(
            conn,
            _bank(conn, who, asked),
            groups=who.sees,
            after=part.after,
            limit=part.limit,
            order=part.order,
            search=search or None,
        )
        return list_wire([wire(fact) for fact in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.post("/v1/facts", openapi_extra=body.documented(AddRequest), response_model=None)
async def add(request: Request) -> Response:
    """Adds one fact or many, as one revision."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, AddRequest, gw.settings.max_body_bytes)
    inputs = asked.inputs()

    def change(conn: Connection) -> dict[str, Any]:
        card = memory.memory_model(conn, who, asked.model)
        bank = banks.of_model(conn, card).id
        told = facts.add_each(
            conn,
            bank,
            inputs,
            author=who.author,
            now=gw.db.clock(conn),
            on_conflict=asked.on_conflict,
            groups=who.sees,
        )
        audit.note(conn, who, "facts.added", bank, {"facts": {fact.id: outcome for fact, outcome in told}})
        found = [wire(fact) | {"x_outcome": outcome} for fact, outcome in told]
        return found[0] if asked.facts is None else list_wire(found)

    return await create_once(request, asked.model_dump_json().encode(), change)


@router.get("/v1/facts/history", response_model=None)
async def bank_history(request: Request) -> Response:
    """What was done to a memory's facts, newest first."""
    asked, who = body.query(request, ("model", "after", "limit")), caller(request)
    return await _history(request, asked, lambda conn: _bank(conn, who, asked), None)


@router.get("/v1/facts/export", response_model=None)
async def export(request: Request) -> Response:
    """A memory's facts as JSONL, each as a row that can be tuned on again, with its id."""
    asked, who = body.query(request, ("model",)), caller(request)

    def ask(conn: Connection) -> bytes:
        return b"".join(_row(fact) for fact in facts.every(conn, _bank(conn, who, asked), groups=who.sees))

    content = await gateway.of(request).store.read(ask)
    return Response(content, media_type="application/jsonl")


@router.get("/v1/facts/report", response_model=None)
async def report(request: Request) -> Response:
    """What was measured when the memory was made."""
    asked, who = body.query(request, ("model",)), caller(request)

    def ask(conn: Connection) -> dict[str, Any]:
        card = _model(conn, who, asked)
        bank = banks.of_model(conn, card)
        found = facts.report(conn, bank, groups=who.sees)
        return {**found, "object": "facts.report", "model": card.name, "x_revision": bank.revision}

    return Json(await gateway.of(request).store.read(ask))


@router.post("/v1/facts/explain", openapi_extra=body.documented(ExplainRequest), response_model=None)
async def explain(request: Request) -> Response:
    """What the router sees in a question, which facts come near, and why it decides as it does."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, ExplainRequest, gw.settings.max_body_bytes)

    def ask(conn: Connection) -> tuple[ModelCard, EngineRequest]:
        card = memory.memory_model(conn, who, asked.model)
        question = Message(role="user", content=asked.question)
        use = memory.use_of(conn, who, card)
        id = ids.new("explain")
        return card, EngineRequest(id=id, project=who.project, messages=(question,), memory=use)

    card, call = await gw.store.read(ask)
    found = await calls.until_gone(request.receive, calls.explain(request, gateway.resident(card), call))
    return Json({**found, "object": "fact.explanation", "model": card.name})


# ── one fact ──────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/v1/facts/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """One fact at its present version."""
    body.query(request, ())
    who = caller(request)
    fact = await gateway.of(request).store.read(
        lambda conn: facts.find(conn, who.project, id, groups=who.sees)
    )
    return Json(wire(fact))


@router.post("/v1/facts/{id}", openapi_extra=body.documented(EditRequest), response_model=None)
async def edit(request: Request, id: str) -> Response:
    """Changes some fields of a fact, as a new version."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, EditRequest, gw.settings.max_body_bytes)
    changes = asked.changes()

    def change(conn: Connection) -> dict[str, Any]:
        fact = facts.find(conn, who.project, id, groups=who.sees)
        checked(facts.with_changes(fact, changes))
        edited = facts.edit(
            conn,
            fact.bank,
            id,
            changes,
            author=who.author,
            now=gw.db.clock(conn),
            on_conflict=asked.on_conflict,
            groups=who.sees,
        )
        audit.note(conn, who, "fact.edited", id, {"version": edited.version, "fields": sorted(changes)})
        return wire(edited)

    return await create_once(request, asked.model_dump_json(exclude_unset=True).encode(), change)


@router.delete("/v1/facts/{id}", response_model=None)
async def forget(request: Request, id: str) -> Response:
    """Forgets a fact with its versions, its expert, the uploads that it came from, and answers that say it."""
    gw, who = gateway.of(request), caller(request)

    def sought(conn: Connection) -> Sought:
        return facts.sought(conn, facts.find(conn, who.project, id, groups=who.sees))

    def change(conn: Connection, outputs: Outputs) -> facts.FactForgotten:
        bank, now = facts.find(conn, who.project, id, groups=who.sees).bank, gw.db.clock(conn)
        told: dict[str, Any] = {"author": who.author, "now": now, "groups": who.sees}
        gone = facts.forget(conn, bank, id, outputs=outputs, **told)
        audit.note(conn, who, "fact.forgotten", id, {"files_deleted": [*gone.files]})
        return gone

    gone, is_cleared = await gw.clearing.forget(who.project, sought, change)
    return Json(
        {
            "id": id,
            "object": "fact",
            "deleted": True,
            "x_files_deleted": [*gone.files],
            "x_responses_deleted": gone.responses,
            "x_cleared": is_cleared,
        }
    )


@router.get("/v1/facts/{id}/history", response_model=None)
async def fact_history(request: Request, id: str) -> Response:
    """A fact's versions, newest first; of a forgotten one when and by whom, without its content."""
    asked, who = body.query(request, ("after", "limit")), caller(request)
    return await _history(
        request, asked, lambda conn: facts.bank_of(conn, who.project, id, groups=who.sees), id
    )


@router.post("/v1/facts/{id}/rollback", openapi_extra=body.documented(RollbackRequest), response_model=None)
async def rollback(request: Request, id: str) -> Response:
    """Makes a fact what it was at an earlier version, as a new version."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, RollbackRequest, gw.settings.max_body_bytes)

    def change(conn: Connection) -> dict[str, Any]:
        fact = facts.find(conn, who.project, id, groups=who.sees)
        back = facts.rollback(
            conn,
            fact.bank,
            id,
            asked.version,
            author=who.author,
            now=gw.db.clock(conn),
            on_conflict=asked.on_conflict,
            groups=who.sees,
        )
        audit.note(conn, who, "fact.rolled_back", id, {"version": back.version, "to": asked.version})
        return wire(back)

    return await create_once(request, asked.model_dump_json().encode(), change)


# ── the wire ──────────────────────────────────────────────────────────────────────────────────────────────


def wire(fact: Fact) -> dict[str, Any]:
    """A fact as the API shows it; times are Unix seconds."""
    return {"object": "fact", **fact.model_dump(mode="json")}


def change_wire(change: FactChange) -> dict[str, Any]:
    """A line of a history."""
    return {"object": "fact.change", **change.model_dump(mode="json")}


def checked(fact: FactInput, where: str = "") -> FactInput:
    """The fact itself. Raises InvalidRequest that names the field, the reason and the cure."""
    fault = next(faults(fact, MOST_ANSWER_CHARACTERS), None)
    if fault is not None:
        param = where + fault.field
        raise InvalidRequest(f"{param} {fault.reason} {fault.cure}", param=param)
    return fact


async def _history(
    request: Request, asked: Mapping[str, str], bank_of: Callable[[Connection], str], fact: str | None
) -> Response:
    part, sees = piece(asked, MAX_LIST), caller(request).sees

    def ask(conn: Connection) -> dict[str, Any]:
        bank = bank_of(conn)
        found, has_more = facts.history(
            conn, bank, fact=fact, after=part.after, limit=part.limit, groups=sees
        )
        return list_wire([change_wire(change) for change in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


def _row(fact: Fact) -> bytes:
    given = {name: value for name in _GIVEN if (value := getattr(fact, name)) not in (None, ())}
    return orjson.dumps({**given, "id": fact.id}) + b"\n"


def _model(conn: Connection, who: Caller, asked: Mapping[str, str]) -> ModelCard:
    if "model" not in asked:
        raise InvalidRequest(
            "model is required: the memory whose facts are meant.",
            param="model",
            code="missing_required_parameter",
        )
    return memory.memory_model(conn, who, asked["model"])


def _bank(conn: Connection, who: Caller, asked: Mapping[str, str]) -> str:
    return banks.of_model(conn, _model(conn, who, asked)).id
