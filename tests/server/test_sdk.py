"""The unchanged `openai` package walks through files, a job, its events and a chat with the tuned model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.jobs import queue
from inhouse.schema import ModelCard, TuneSpec
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import models

from .house import ADAPTER, engine, house
from .judge import HEARD

WALK = Path(__file__).with_name("sdk_walk.py")
OTHERS = [p for p in os.environ.get("OPENAI_PACKAGES", "").split(os.pathsep) if p]
"""Folders that hold another release of the package, put ahead of the installed one."""


def finish_one_job(db: Database, process: subprocess.Popen[str]) -> None:
    """What a worker does with the first tuning job, without the tuning."""
    while process.poll() is None:
        job = queue.claim(db, "stub", ["tune"], 60.0)
        if job is None:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            return
        spec = TuneSpec.model_validate(job.spec)
        name = ids.tuned_model(spec.base, job.project, spec.suffix)
        card = ModelCard(
            name=name,
            project=job.project,
            kind="adapter",
            base=spec.base,
            digest=ADAPTER,
            job=job.id,
            created_at=job.created_at,
        )
        result = {"model": name, "trained_tokens": 12}
        queue.finish(
            db,
            job.id,
            job.fence,
            "succeeded",
            result=result,
            publish=lambda conn, card=card: models.add(conn, card),
        )
        return


@pytest.mark.parametrize("package", [None, *OTHERS])
def test_the_unchanged_package_does_the_whole_walk(tmp_path: Path, package: str | None) -> None:
    environment = os.environ | ({"PYTHONPATH": package} if package else {})
    with house(tmp_path) as made, engine(made.db, tmp_path):
        process = subprocess.Popen(
            [sys.executable, str(WALK), f"{made.url}/v1", made.member],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        finish_one_job(made.db, process)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert {said.path for said in HEARD} >= {"/v1/chat/completions", "/v1/fine_tuning/jobs"}, (
        "they are judged, too"
    )
    assert out.startswith("walked ")
