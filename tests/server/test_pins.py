"""Pinning models over HTTP: what may be pinned, how much of it, and where it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.schema import ModelCard
from inhouse.store.artifacts import Artifacts
from inhouse.store.records import audit, models, pins
from tests.server.house import BASE_DIGEST, House, house

ALL = "ft:seedling:default:handbook"


class Shelf:
    """A server whose engines have 64 rank rows for adapters, and models by the ranks of their adapters."""

    def __init__(self, made: House, folder: Path) -> None:
        self.house = made
        self.folder = folder
        self.artifacts = Artifacts(made.settings.artifacts_dir)

    def publish(self, name: str, project: str = "default", **config: object) -> str:
        folder = self.folder / name.replace(":", "-")
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config))
        digest = self.artifacts.put_folder(folder)
        card = ModelCard(
            name=name,
            project=project,
            kind="adapter",
            base="seedling",
            digest=digest,
            base_digest=BASE_DIGEST,
            created_at=1.0,
        )
        with self.house.db.write() as conn:
            models.add(conn, card)
        return name

    def pin(self, name: str, key: str | None = None) -> Any:
        return self.house.client(key or self.house.admin).post("/v1/x/pins", json={"model": name})

    def unpin(self, name: str) -> Any:
        return self.house.client(self.house.admin).delete(f"/v1/x/pins/{name}")

    def shown(self) -> dict[str, list[str]]:
        """Of the pinned ones in the list of models: by which names they are."""
        cards = self.house.client().get("/v1/models").json()["data"]
        return {card["id"]: card["x_pinned"] for card in cards if card["x_pinned"]}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with house(tmp_path / "house", adapter_rows=64) as made:
        yield Shelf(made, tmp_path)


def test_a_pinned_model_is_shown_until_it_is_unpinned(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=16)
    told = shelf.pin(one).json()
    assert (told["id"], told["model"], told["rows"]) == (one, one, 16)
    assert (told["rows_pinned"], told["rows_most"]) == (16, 32)
    assert shelf.pin(one).json() == told, "once more changes nothing"
    assert shelf.shown() == {one: [one]}
    assert shelf.house.client().get(f"/v1/models/{one}").json()["x_pinned"] == [one]
    assert shelf.unpin(one).json() == {
        "id": one,
        "object": "x.pin",
        "deleted": True,
        "pinned_by": [],
    }
    assert shelf.shown() == {}
    assert shelf.unpin(one).status_code == 404


def test_a_pin_that_is_asked_for_again_under_its_key_is_told_again(shelf: Shelf) -> None:
    one, headers = shelf.publish(f"{ALL}:00000001", r=16), {"idempotency-key": "k"}
    admin = shelf.house.client(shelf.house.admin)
    first = admin.post("/v1/x/pins", json={"model": one}, headers=headers)
    shelf.unpin(one)
    again = admin.post("/v1/x/pins", json={"model": one}, headers=headers)
    assert again.json() == first.json() and again.headers["x-idempotent-replay"] == "true"
    assert shelf.shown() == {}, "it is not pinned a second time"
    assert admin.post("/v1/x/pins", json={"model": ALL}, headers=headers).status_code == 422


def test_a_pin_of_all_versions_is_the_newest_one_s(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=16)
    assert shelf.pin(ALL).json()["model"] == one
    two = shelf.publish(f"{ALL}:00000002", r=8)
    assert shelf.shown() == {two: [ALL]}
    listed = shelf.house.client(shelf.house.admin).get("/v1/x/pins").json()["data"]
    assert [(pin["id"], pin["model"], pin["rows"]) for pin in listed] == [(ALL, two, 8)]
    assert shelf.unpin(ALL).status_code == 200
    with shelf.house.db.read() as conn:
        acts = [(act.type, act.target, act.details) for act in audit.every(conn)]
    assert acts == [("pin.created", ALL, {"model": one}), ("pin.deleted", ALL, {})]


def test_pins_that_leave_too_little_for_others_are_refused_and_nothing_is_pinned(shelf: Shelf) -> None:
    large = shelf.publish("ft:seedling:default:large:00000001", r=8, rank_pattern={"q_proj": 24})
    small = shelf.publish("ft:seedling:default:small:00000002", r=8)
    wide = shelf.publish("ft:seedling:default:wide:00000003", r=9)
    assert shelf.pin(large).status_code == 200
    refused = shelf.pin(wide)
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "too_many_pinned"
    words = refused.json()["error"]["message"]
    assert "33 rank rows" in words and "32 of 64" in words and "Unpin" in words
    assert shelf.shown() == {large: [large]}
    assert shelf.pin(small).status_code == 200, "exactly half is not too much"
    assert shelf.unpin(large).status_code == 200
    assert shelf.pin(wide).status_code == 200


def test_one_adapter_that_is_pinned_by_two_names_counts_once(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=20)
    assert shelf.pin(one).json()["rows_pinned"] == 20
    assert shelf.pin(ALL).json()["rows_pinned"] == 20


def test_whoever_takes_one_of_two_pins_back_is_told_which_remains(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=8)
    shelf.pin(ALL)
    shelf.pin(one)
    assert shelf.shown() == {one: [one, ALL]}
    assert shelf.unpin(one).json()["pinned_by"] == [ALL]
    assert shelf.shown() == {one: [ALL]}
    shelf.pin(one)
    two = shelf.publish(f"{ALL}:00000002", r=8)
    assert shelf.unpin(ALL).json()["pinned_by"] == [], "the newest version had no pin but this one"
    assert shelf.shown() == {one: [one]} and two not in shelf.shown()


def test_another_project_s_pins_take_their_share(shelf: Shelf) -> None:
    theirs = shelf.publish("ft:seedling:other:x:00000001", project="other", r=20)
    with shelf.house.db.write() as conn:
        pins.add(conn, "other", theirs, 1.0)
    assert shelf.pin(shelf.publish(f"{ALL}:00000001", r=16)).status_code == 409
    assert shelf.shown() == {}


def test_a_deleted_model_is_pinned_no_more(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=16)
    shelf.pin(one)
    shelf.pin(ALL)
    assert shelf.house.client().delete(f"/v1/models/{one}").status_code == 200
    assert shelf.house.client(shelf.house.admin).get("/v1/x/pins").json()["data"] == []
    assert shelf.unpin(ALL).status_code == 404


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [("seedling", 400, "of the kind base"), ("ft:seedling:default:", 404, "no model")],
)
def test_what_has_no_adapter_is_refused(shelf: Shelf, model: str, status: int, words: str) -> None:
    reply = shelf.pin(model)
    assert reply.status_code == status and words in reply.json()["error"]["message"]


def test_an_adapter_without_a_rank_is_refused_and_named(shelf: Shelf) -> None:
    reply = shelf.pin(shelf.publish(f"{ALL}:00000001", alpha=1))
    assert reply.status_code == 400 and "says no rank" in reply.json()["error"]["message"]
    assert shelf.shown() == {}


def test_only_admins_may_pin(shelf: Shelf) -> None:
    one = shelf.publish(f"{ALL}:00000001", r=16)
    assert shelf.pin(one, shelf.house.member).status_code == 403
    member = shelf.house.client(shelf.house.member)
    assert member.get("/v1/x/pins").status_code == 403
    assert member.delete(f"/v1/x/pins/{one}").status_code == 403


def test_a_pinned_adapter_that_is_damaged_hides_no_other_pin(shelf: Shelf) -> None:
    one, other = (shelf.publish(f"{ALL}{i}:0000000{i}", r=8 * i) for i in (1, 2))
    shelf.pin(one)
    with shelf.house.db.read() as conn:
        digest = models.get(conn, "default", one).digest
    assert digest is not None
    shelf.artifacts.path(shelf.artifacts.manifest(digest)["adapter_config.json"]["sha256"]).unlink()
    assert shelf.pin(other).status_code == 200
    listed = shelf.house.client(shelf.house.admin).get("/v1/x/pins").json()["data"]
    assert [(pin["id"], pin["rows"]) for pin in listed] == [(one, None), (other, 16)]
    assert shelf.unpin(one).status_code == 200
