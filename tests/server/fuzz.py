"""Requests made up from the API's own description, and what every reply to them must keep.

`python -m tests.server.fuzz CASES SEED` asks a small house of its own; `make fuzz` is that with 10,000. Half of the
requests are as the description wants them, half are not; names and ids are often those of things that are there.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import requests
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from inhouse.schema import FactInput

from .house import TUNED, House, engine, house, remember

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@schemathesis.serializer("application/jsonl")
def one_line(context: Any, value: Any) -> bytes:
    """A body of which every line is one: the made-up value is the only line."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@dataclass
class Fuzzed:
    """What came of it."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    well: Counter[str] = field(default_factory=Counter)
    """Operations that answered 200, and how often."""
    faults: dict[str, str] = field(default_factory=dict)
    """Each kind of fault, and one request that has it."""


@contextmanager
def stocked(folder: Path) -> Iterator[tuple[House, dict[str, list[str]]]]:
    """A house with something of everything, and the ids of it by the name of a path's parameter."""
    with house(folder, load_wait_s=1.0) as made, engine(made.db, folder):
        admin, project = made.client(made.admin), "default"
        rows = {"file": ("f.jsonl", b'{"input": "a", "output": "b"}\n' * 12)}
        file = admin.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
        asked = {"model": "seedling", "training_file": file}
        job = admin.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
        asks = {"model": "seedling", "prompt": "x"}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": asks}
        lines = {"file": ("b.jsonl", json.dumps(line).encode())}
        batch_file = admin.post("/v1/files", data={"purpose": "batch"}, files=lines).json()["id"]
        wanted = {"input_file_id": batch_file, "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = admin.post("/v1/batches", json=wanted).json()["id"]
        response = admin.post("/v1/responses", json={"model": "seedling", "input": "hi"}).json()["id"]
        two = FactInput(question="Who?", answer="Mara."), FactInput(question="When?", answer="1999.")
        memory, facts = remember(made, *two)
        spare = admin.post("/v1/organization/projects", json={"name": "spare"}).json()["id"]
        account = admin.post(f"/v1/organization/projects/{spare}/service_accounts", json={"name": "s"}).json()
        yield (
            made,
            {
                "name": ["seedling", TUNED, memory],
                "id": [file, job, batch, response, *(fact.id for fact in facts), account["api_key"]["id"]],
                "project_id": [spare, project],
                "account_id": [account["id"]],
                "key_id": [account["api_key"]["id"]],
                "limit_id": [f"rl_{spare}"],
                "model": ["seedling", TUNED, memory],
                "training_file": [file],
                "input_file_id": [batch_file],
            },
        )


def fuzz(made: House, known: dict[str, list[str]], cases: int, seed: int) -> Fuzzed:
    """So many requests, spread over all operations, always the same for a seed."""
    page = made.client().get("/openapi.json").json()
    del page["security"], page["components"]["securitySchemes"]  # keys are test_auth's matter
    schema = schemathesis.openapi.from_dict(page)
    operations = [result.ok() for result in schema.get_all_operations()]
    found, rng = Fuzzed(), random.Random(seed)
    session = requests.Session()
    session.trust_env = False
    session.headers["authorization"] = f"Bearer {made.admin}"
    kinds = [
        (operation, mode)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if mode is GenerationMode.POSITIVE or _may_be_wrong(operation)
    ]
    while (
        found.cases < cases
    ):  # where there is little to vary fewer are made than are asked for, so once more
        times = max(1, (cases - found.cases) // len(kinds))
        for operation, mode in kinds:
            if found.cases < cases:

                def ask(
                    case: Case, dice: random.Random, is_meant: bool = mode is GenerationMode.POSITIVE
                ) -> None:
                    if is_meant:
                        _mean_something(case, known, dice)
                    _ask(case, made, session, found)

                _repeat(ask, operation.as_strategy(generation_mode=mode), times, rng.randrange(2**32))
    return found


def _repeat(ask: Callable[[Case, random.Random], None], cases: Any, times: int, seed: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=times,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=cases, dice=hypothesis.strategies.randoms(use_true_random=False))
    def run(case: Case, dice: random.Random) -> None:
        ask(case, dice)

    run()


def _may_be_wrong(operation: Any) -> bool:
    """Whether there is something to get wrong; a wrong row is refused in an event of its own."""
    return bool(operation.body or operation.query) and operation.path != "/v1/x/rows"


def _mean_something(case: Case, known: dict[str, list[str]], dice: random.Random) -> None:
    """Often puts names of things that are there where any text would do."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            for name in part:
                if name in known and isinstance(part[name], str) and dice.random() < 0.8:
                    part[name] = dice.choice(known[name])


def _ask(case: Case, made: House, session: requests.Session, found: Fuzzed) -> None:
    name = f"{case.operation.method.upper()} {case.operation.path}"
    reply = case.call(base_url=made.url, session=session, timeout=30)
    found.cases += 1
    found.operations[name] += 1
    found.statuses[reply.status_code] += 1
    found.well[name] += reply.status_code == 200
    try:
        case.validate_response(reply, checks=CHECKS)
    except (FailureGroup, Failure) as failed:
        for fault in getattr(failed, "exceptions", (failed,)):
            found.faults.setdefault(
                f"{name}: {type(fault).__name__} {fault.title}", _told(case, reply, fault)
            )


def _told(case: Case, reply: Any, fault: Any) -> str:
    asked = f"{case.formatted_path} {case.query!r} {case.body!r}"[:600]
    return f"{asked}\n  -> {reply.status_code} {reply.text[:300]}\n  {fault.message[:300]}"


def main() -> int:
    cases, seed = int(sys.argv[1]), int(sys.argv[2])
    began, spent = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, stocked(Path(folder)) as (made, known):
        found = fuzz(made, known, cases, seed)
    for kind, told in found.faults.items():
        print(f"{kind}\n  {told}\n")
    print(
        f"{found.cases} cases over {len(found.operations)} operations, {sum(1 for n in found.well.values() if n)} of "
        f"which answered 200; statuses {dict(sorted(found.statuses.items()))}; {len(found.faults)} kinds of fault; "
        f"{time.process_time() - spent:.0f} CPU-seconds, {time.monotonic() - began:.0f} s; seed {seed}"
    )
    return bool(found.faults)


if __name__ == "__main__":
    sys.exit(main())
