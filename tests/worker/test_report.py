"""A job's log: how much of it is kept, whatever the job says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from inhouse.errors import LeaseLost
from inhouse.jobs import queue
from inhouse.schema import Event
from inhouse.store import tables
from inhouse.tune.loop import Step
from inhouse.worker import report as module
from inhouse.worker.report import FULL, Report
from tests.faults.workshop import Workshop

MOST = 40


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A store with a job, whose log holds a few lines alone."""
    monkeypatch.setattr(module, "MOST_LINES", MOST)
    return Workshop(tmp_path)


def claimed(shop: Workshop) -> tuple[Report, str]:
    shop.submit()
    job = queue.claim(shop.db, "one", ("tune",), 60.0)
    assert job is not None
    return Report(shop.db, job.id, job.fence), job.id


def lines(shop: Workshop, job: str) -> list[Event]:
    return [e for e in shop.log(job) if e.type == "metrics" or e.message.startswith(("flood", FULL[:10]))]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_job_that_floods_its_log_fills_it_and_no_more(
    shop: Workshop, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 42: attempts together; the last line says that it is full. In the control there is no bound."""
    if not guarded:
        monkeypatch.setattr(module, "MOST_LINES", 10**9)
    first, job = claimed(shop)
    for number in range(MOST):
        first.say(f"flood {number}")
    again = Report(shop.db, job, shop.job(job).fence)
    for number in range(MOST):
        again.say(f"flood {number}")
    said = [e.message for e in lines(shop, job)]
    assert (len(shop.log(job)) == MOST) is guarded
    assert (said[-1] == FULL) is guarded and said.count(FULL) == guarded
    with shop.db.write() as conn:
        conn.execute(tables.jobs.update().values(fence=tables.jobs.c.fence + 1))
    with pytest.raises(LeaseLost):  # a log that is full tells whoever has lost the job, too
        again.say("too late")


def test_of_a_long_run_every_so_many_steps_are_written_and_the_last(shop: Workshop) -> None:
    """Fault 42: so a long job fills half of its log at most, and is told of to its end."""
    report, job = claimed(shop)
    for number in range(1, 1002):
        report.step(step(number, 1001), steps_per_epoch=1001)
    written = [e.data["step"] for e in lines(shop, job)]
    assert written[-1] == 1001 and len(written) <= MOST // 2
    assert {after - before for before, after in pairwise(written[:-1])} == {51}


def test_of_a_run_that_fits_every_step_is_written(shop: Workshop) -> None:
    report, job = claimed(shop)
    for number in range(1, MOST // 2 + 1):
        report.step(step(number, MOST // 2), steps_per_epoch=1)
    assert [e.data["step"] for e in lines(shop, job)] == [*range(1, MOST // 2 + 1)]


def step(number: int, of: int) -> Step:
    return Step(
        step=number,
        steps=of,
        loss=1.0,
        accuracy=0.5,
        learning_rate=0.1,
        grad_norm=1.0,
        tokens=8,
        operations=1.0,
        seconds=0.1,
    )
