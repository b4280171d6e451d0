"""A tuning job: watch it, wait for its model, pause it, stop it; its checkpoints.

It knows the wire of jobs and their events. How progress looks on a terminal is progress.py's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from inhouse.client.http import Http
from inhouse.client.model import Model
from inhouse.errors import JobFailed
from inhouse.schema import TERMINAL_STATES

POLL_S = 0.25
EVENTS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's log. When `type` is metrics, `data` holds step, total_steps, train_loss, …"""

    id: str
    created_at: float
    level: str
    type: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tuned model as it was after a step: `client.model(checkpoint.model)` asks it."""

    model: str
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    """train_loss, valid_loss, … as measured at this step."""


class Job:
    """A handle on one tuning job. What it shows is as of its last `refresh`."""

    def __init__(self, http: Http, wire: Mapping[str, Any]) -> None:
        self._http = http
        self._wire = wire

    def __repr__(self) -> str:
        return f"Job(id={self.id!r}, state={self.state!r})"

    @property
    def id(self) -> str:
        return str(self._wire["id"])

    @property
    def state(self) -> str:
        """validating_files, queued, running, succeeded, failed or cancelled."""
        return str(self._wire["status"])

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def base(self) -> str:
        return str(self._wire["model"])

    @property
    def created_at(self) -> int:
        return int(self._wire["created_at"])

    @property
    def model_name(self) -> str | None:
        """The tuned model's name, once the job has succeeded."""
        return self._wire.get("fine_tuned_model")

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return (self._wire.get("error") or {}).get("message")

    @property
    def details(self) -> Mapping[str, Any]:
        """The job as the server tells it."""
        return self._wire

    def refresh(self) -> Job:
        """Ask the server how it stands."""
        self._wire = self._http.call("GET", self._path)
        return self

    def cancel(self) -> Job:
        """Stop it. Raises Conflict when it is over already."""
        self._wire = self._http.call("POST", f"{self._path}/cancel")
        return self

    def pause(self) -> Job:
        """Let it run no further for now: it stops after its step. Raises Conflict when it is over."""
        self._wire = self._http.call("POST", f"{self._path}/pause")
        return self

    def resume(self) -> Job:
        """Let it go on where it was. Raises Conflict when it is over."""
        self._wire = self._http.call("POST", f"{self._path}/resume")
        return self

    @property
    def is_paused(self) -> bool:
        """Whether it waits to be resumed. A running one stops after its step first."""
        return self._wire.get("x_state") in ("pausing", "paused")

    def checkpoints(self) -> list[Checkpoint]:
        """Its models on the way, newest first; each can be asked by its name."""
        page = self._http.call("GET", f"{self._path}/checkpoints", params={"limit": EVENTS_A_PAGE})
        return [
            Checkpoint(c["fine_tuned_model_checkpoint"], c["step_number"], c["metrics"]) for c in page["data"]
        ]

    def events(self, *, follow: bool = False) -> Iterator[JobEvent]:
        """Its log from the beginning; with follow=True also what comes, until the job is over."""
        last: str | None = None
        while True:
            is_over = follow and self.refresh().is_over  # asked first, so that no event after it is missed
            for event in self._events_since(last):
                last = event.id
                yield event
            if is_over or not follow:
                return
            time.sleep(POLL_S)

    def newest_step(self) -> JobEvent | None:
        """What its training reported last: step, total_steps, train_loss, …; None before the first."""
        page = self._http.call("GET", f"{self._path}/events", params={"limit": EVENTS_A_PAGE})
        return next((e for e in map(_event, page["data"]) if e.type == "metrics"), None)

    def wait(self, progress: bool = True, *, on_event: Callable[[JobEvent], None] | None = None) -> Model:
        """The tuned model, when it is done. On a terminal a progress bar shows step, loss and time left.

        Raises JobFailed with the job's own reason. Ctrl-C stops the waiting, not the job.
        """
        try:
            if on_event is not None:
                for event in self.events(follow=True):
                    on_event(event)
            else:
                from inhouse.client.progress import show

                show(self, enabled=progress)
        except KeyboardInterrupt as e:
            e.add_note(self.goes_on)
            raise
        return self.model()

    def model(self) -> Model:
        """The tuned model. Raises JobFailed when there is none."""
        if self.state == "succeeded" and self.model_name:
            card = self._http.call("GET", f"/v1/models/{quote(self.model_name, safe='')}")
            return Model.from_wire(self._http, card)
        if self.state == "cancelled":
            raise JobFailed(f"Job {self.id} was cancelled, so it has no model.", code="cancelled")
        if self.state != "failed":
            raise JobFailed(f"Job {self.id} is still {self.state}. Wait for it: job.wait()", code="not_over")
        error = self._wire.get("error") or {}
        raise JobFailed(
            f"Job {self.id} failed: {error.get('message') or 'the server gave no reason.'}",
            param=error.get("param"),
            code=error.get("code"),
        )

    @property
    def goes_on(self) -> str:
        """What to tell somebody who stops waiting."""
        return (
            f"Job {self.id} goes on. "
            f"Come back with: inhouse jobs {self.id} --follow, or client.job({self.id!r}).wait()"
        )

    @property
    def _path(self) -> str:
        return f"/v1/fine_tuning/jobs/{self.id}"

    def _events_since(self, last: str | None) -> Iterator[JobEvent]:
        """Events newer than `last`, oldest first. The wire lists them newest first."""
        found: list[JobEvent] = []
        params: dict[str, Any] = {"limit": EVENTS_A_PAGE}
        while True:
            page = self._http.call("GET", f"{self._path}/events", params=params)
            for item in page["data"]:
                if item["id"] == last:
                    return reversed(found)
                found.append(_event(item))
            if not page.get("has_more") or not page["data"]:
                return reversed(found)
            params["after"] = page["data"][-1]["id"]


def _event(item: Mapping[str, Any]) -> JobEvent:
    return JobEvent(
        id=item["id"],
        created_at=item["created_at"],
        level=item["level"],
        type=item.get("type") or "message",
        message=item["message"],
        data=item.get("data") or {},
    )
