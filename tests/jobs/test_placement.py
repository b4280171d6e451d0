"""The placement rule, on every small world that hypothesis can think of."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from inhouse.jobs.placement import Held, Waiting, WorkerRoom, choose

kinds = st.sampled_from(["serve", "tune"])


@st.composite
def rooms(draw: st.DrawFn) -> WorkerRoom:
    held = draw(
        st.lists(
            st.builds(
                Held, job=st.uuids().map(str), kind=kinds, is_busy=st.booleans(), idle_s=st.integers(0, 5)
            ),
            max_size=6,
        )
    )
    return WorkerRoom(draw(st.integers(0, 4)), draw(st.integers(0, 4)), tuple(held))


waiting = st.lists(st.builds(Waiting, job=st.uuids().map(str), kind=kinds), max_size=8)


def serve_jobs(jobs: list[Waiting]) -> int:
    return sum(job.kind == "serve" for job in jobs)


@given(rooms(), waiting)
def test_it_claims_a_kind_exactly_when_a_slot_for_it_is_free(room: WorkerRoom, jobs: list[Waiting]) -> None:
    chosen = choose(room, jobs).kinds
    assert ("serve" in chosen) is (sum(job.kind == "serve" for job in room.held) < room.serve_slots)
    assert ("tune" in chosen) is (sum(job.kind == "tune" for job in room.held) < room.tune_slots)
    assert len(set(chosen)) == len(chosen)


@given(rooms(), waiting)
def test_it_stops_only_idle_replicas_and_the_least_recently_used_first(
    room: WorkerRoom, jobs: list[Waiting]
) -> None:
    by_id = {job.job: job for job in room.held}
    stopped = [by_id[job] for job in choose(room, jobs).stop]
    assert all(job.kind == "serve" and not job.is_busy for job in stopped)
    assert len(set(stopped)) == len(stopped)
    spared = [job for job in room.held if job.kind == "serve" and not job.is_busy and job not in stopped]
    assert all(gone.idle_s >= kept.idle_s for gone in stopped for kept in spared)
    assert [job.idle_s for job in stopped] == sorted((job.idle_s for job in stopped), reverse=True)


@given(rooms(), waiting)
def test_it_stops_no_more_than_the_waiting_need(room: WorkerRoom, jobs: list[Waiting]) -> None:
    stopped = len(choose(room, jobs).stop)
    assert stopped <= max(0, serve_jobs(jobs) - room.free("serve"))
    idle = sum(job.kind == "serve" and not job.is_busy for job in room.held)
    assert stopped == min(idle, max(0, serve_jobs(jobs) - room.free("serve")))


@given(rooms(), waiting, st.randoms())
def test_it_depends_on_nothing_but_its_arguments(
    room: WorkerRoom, jobs: list[Waiting], random: object
) -> None:
    shuffled = list(room.held)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = WorkerRoom(room.serve_slots, room.tune_slots, tuple(shuffled))
    assert choose(room, jobs) == choose(again, jobs)


def test_a_full_worker_makes_room_for_a_waiting_base_by_ending_the_one_unused_longest() -> None:
    held = (
        Held("busy", "serve", is_busy=True, idle_s=0),
        Held("fresh", "serve", is_busy=False, idle_s=1),
        Held("stale", "serve", is_busy=False, idle_s=99),
    )
    room = WorkerRoom(serve_slots=3, tune_slots=1, held=held)
    assert choose(room, [Waiting("new", "serve", "other")]).stop == ("stale",)
    assert choose(room, [Waiting("new", "tune")]).stop == ()
    assert choose(room, []).kinds == ("tune",)


def test_placement_brings_no_torch_clock_or_database() -> None:
    code = (
        "import sys; before = set(sys.modules); import inhouse.jobs.placement as p; "
        "names = set(vars(p)); "
        "assert not {'time', 'os', 'random', 'sqlalchemy'} & names, names; "
        "assert not {'torch', 'sqlalchemy', 'sqlite3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
