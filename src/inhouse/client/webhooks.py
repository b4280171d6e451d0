"""Webhooks: who is told when jobs and batches end. Everything here needs an admin key.

It knows the server's paths; how requests travel is http.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from inhouse.client.http import Http

PATH = "/v1/webhook_endpoints"
MOST = 100


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address, and what is told there."""

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    created_at: int
    project: str | None = None

    @classmethod
    def from_wire(cls, told: Mapping[str, Any]) -> Webhook:
        return cls(
            told["id"],
            told["name"],
            told["url"],
            tuple(told["event_types"]),
            told["created_at"],
            told.get("x_project"),
        )


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook that was just made, and its secret, which is shown here and never again."""

    webhook: Webhook
    secret: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to a webhook."""

    id: str
    type: str
    state: str
    """waiting, delivered or given_up."""
    tries: int
    last_answer: str | None
    created_at: float
    due_at: float | None


class Webhooks:
    """`client.webhooks`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def event_types(self) -> list[str]:
        """What a webhook may be told."""
        return list(self._http.call("GET", "/v1/webhook_event_types")["data"])

    def add(self, url: str, *, events: Sequence[str] | None = None, name: str | None = None) -> NewWebhook:
        """Tell this address of such events, or of all, in the key's own project.

        Raises InvalidRequest where the server's setting webhook_hosts does not name its host.
        """
        chosen = [*events] if events else self.event_types()
        body = {"url": url, "event_types": chosen, "name": name or url.partition("://")[2].partition("/")[0]}
        told = self._http.call("POST", PATH, body=body)
        return NewWebhook(Webhook.from_wire(told), str(told["signing_secret"]))

    def all(self) -> list[Webhook]:
        """Every project's webhooks, newest first."""
        found: list[Webhook] = []
        params: dict[str, Any] = {"limit": MOST}
        while True:
            page = self._http.call("GET", "/v1/x/webhooks", params=params)
            found += [Webhook.from_wire(told) for told in page["data"]]
            if not page["has_more"]:
                return found
            params["after"] = page["last_id"]

    def remove(self, id: str) -> None:
        """Forget a webhook of the key's project, and what it was still to be told. Raises NotFound."""
        self._http.call("DELETE", f"{PATH}/{quote(id, safe='')}")

    def test(self, id: str, event: str = "fine_tuning.job.succeeded") -> int:
        """Send a made-up event now; returns the status that was answered. Raises InvalidRequest for no answer."""
        told = self._http.call("POST", f"{PATH}/{quote(id, safe='')}/test", body={"event_type": event})
        return int(told["status_code"])

    def deliveries(self, id: str) -> list[Delivery]:
        """What it was told lately or is still to be told, newest first."""
        path = f"/v1/x/webhooks/{quote(id, safe='')}/deliveries"
        page = self._http.call("GET", path, params={"limit": MOST})
        return [Delivery(**{name: told[name] for name in Delivery.__slots__}) for told in page["data"]]
