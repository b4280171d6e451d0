"""Verifying a model over HTTP: an admin's question, answered by an engine of the model's base."""

from __future__ import annotations

from typing import Any

import pytest

from inhouse.schema import ModelCard
from inhouse.store.records import models
from tests.server.house import ADAPTER, BASE_DIGEST, TUNED, House
from tests.server.socket_engine import SPOILT


def verify(served: House, model: str, key: str | None = None) -> Any:
    return served.client(key or served.admin).post("/v1/x/verify", json={"model": model})


def test_a_model_s_checks_are_told(served: House) -> None:
    body = verify(served, TUNED).json()
    assert (body["object"], body["model"], body["x_adapter"], body["passed"]) == (
        "x.verification",
        TUNED,
        ADAPTER,
        True,
    )
    assert body["checks"] == [
        {"name": "fits", "passed": True, "found": f"adapter {ADAPTER}", "tensors": []},
        {"name": "agrees with PEFT", "passed": None, "found": "not installed", "tensors": []},
    ]


def test_a_failed_check_fails_the_model_and_names_the_tensors(served: House) -> None:
    spoilt = ModelCard(
        name="ft:spoilt",
        project="default",
        kind="adapter",
        base="seedling",
        digest=SPOILT,
        base_digest=BASE_DIGEST,
        created_at=1.0,
    )
    with served.db.write() as conn:
        models.add(conn, spoilt)
    try:
        body = verify(served, "ft:spoilt").json()
    finally:
        with served.db.write() as conn:
            models.delete(conn, "default", "ft:spoilt")
    assert body["passed"] is False
    assert body["checks"][1]["tensors"] == ["model.layers.0.q"]


def test_only_admins_may_ask(served: House) -> None:
    assert verify(served, TUNED, served.member).status_code == 403


@pytest.mark.parametrize(
    ("model", "status", "words"), [("seedling", 400, "of the kind base"), ("nobody", 404, "nobody")]
)
def test_what_has_no_adapter_is_refused(served: House, model: str, status: int, words: str) -> None:
    reply = verify(served, model)
    assert reply.status_code == status and words in reply.json()["error"]["message"]
