"""The face, against a real server: rows go in, jobs are watched, models answer."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inhouse import (
    BadRows,
    Client,
    Conflict,
    InhouseError,
    InvalidRequest,
    JobFailed,
    Model,
    ModelNotFound,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from inhouse.client import local
from inhouse.client.http import Address
from inhouse.client.job import Job
from inhouse.client.local import Running
from inhouse.client.progress import duration, show
from inhouse.settings import Settings
from tests.server.house import TUNED, House, until

from .conftest import Work

ROWS = [("Who?", "Mara."), ("When?", "1987")]


def uploads(served: House) -> int:
    return len(served.client().get("/v1/files").json()["data"])


def test_three_lines_teach_and_ask(client: Client, work: Work) -> None:
    job = client.tune(ROWS, method="lora", suffix="facts")
    threading.Thread(target=work, args=("succeeded",)).start()
    model = job.wait()
    assert model.name.startswith("ft:seedling:default:facts:")
    assert (model.kind, model.base) == ("adapter", "seedling")
    assert model.chat("Who signs off travel?") == "Who signs off travel?"  # the stub says the words back


def test_every_knob_reaches_the_job_and_auto_sends_nothing(client: Client) -> None:
    job = client.tune(
        ROWS,
        validation=ROWS,
        method="lora",
        epochs=3,
        batch_size=2,
        rank=4,
        alpha=8.0,
        learning_rate=1e-3,
        learning_rate_multiplier=2.0,
        seed=7,
        suffix="k",
    )
    told = job.details["method"]["supervised"]["hyperparameters"]
    assert (told["n_epochs"], told["batch_size"], told["learning_rate_multiplier"]) == (3, 2, 2.0)
    assert (told["x_method"], told["x_rank"], told["x_alpha"], told["x_learning_rate"]) == (
        "lora",
        4,
        8.0,
        1e-3,
    )
    assert job.details["seed"] == 7
    assert job.details["validation_file"]
    plain = client.tune(ROWS, method="lora")
    told = plain.details["method"]["supervised"]["hyperparameters"]
    assert {value for knob, value in told.items() if knob != "x_method"} == {"auto"}
    for made in (job, plain):
        made.cancel()


@pytest.mark.parametrize("validation", [False, True])
def test_bad_rows_are_told_before_a_byte_is_sent(
    client: Client, served: House, tmp_path: Path, validation: bool
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"input": "a", "output": "b"}\n' * 16 + '{"input": "a"\n')
    good = client.dataset(ROWS)
    before = uploads(served)
    with pytest.raises(BadRows, match=r"bad\.jsonl line 17: is not valid JSON") as caught:
        client.tune(good, validation=bad) if validation else client.tune(bad)
    assert caught.value.problems[0].line == 17
    assert caught.value.param == ("validation_file" if validation else "training_file")
    assert uploads(served) == before


def test_a_file_goes_as_it_is_and_other_formats_as_jsonl(
    client: Client, served: House, tmp_path: Path
) -> None:
    lines = b'\n{"question": "Who?", "answer": "Mara."}\n'
    (tmp_path / "facts.jsonl").write_bytes(lines)
    (tmp_path / "facts.csv").write_text("question,answer\nWho?,Mara.\n")
    as_is = client.dataset(tmp_path / "facts.jsonl")
    converted = client.dataset(str(tmp_path / "facts.csv"))
    assert (as_is.rows, converted.rows, converted.name) == (1, 1, "facts.jsonl")
    read = served.client().get
    assert read(f"/v1/files/{as_is.id}/content").content == lines
    assert read(f"/v1/files/{converted.id}/content").json()["messages"][1]["content"] == "Mara."
    from_iterator = client.dataset(({"input": str(i), "output": "x"} for i in range(5)), name="mine")
    assert (from_iterator.rows, from_iterator.name) == (5, "mine.jsonl")
    as_is.delete()
    with pytest.raises(NotFound):
        client.tune(as_is)


def test_a_failed_job_raises_with_its_own_reason(client: Client, work: Work) -> None:
    job = client.tune(ROWS, method="lora")
    threading.Thread(target=work, args=("failed",)).start()
    with pytest.raises(JobFailed, match="It needs 9 GiB") as caught:
        job.wait()
    assert caught.value.code == "out_of_memory"
    assert (job.state, job.error) == ("failed", "It needs 9 GiB. Lower batch_size.")


def test_a_cancelled_job_has_no_model_and_cannot_be_cancelled_twice(client: Client) -> None:
    job = client.tune(ROWS, method="lora")
    with pytest.raises(JobFailed, match="Wait for it"):
        job.model()
    job.cancel()
    assert job.is_over
    with pytest.raises(JobFailed, match="was cancelled"):
        job.wait()
    with pytest.raises(Conflict):
        job.cancel()


def test_events_come_in_order_each_once_also_across_pages(client: Client, work: Any) -> None:
    job = client.tune(ROWS, method="lora")
    threading.Thread(target=work, args=("succeeded", 230)).start()
    followed = list(job.events(follow=True))
    assert [e.data["step"] for e in followed if e.type == "metrics"] == list(range(1, 231))
    assert [e.id for e in followed] == [e.id for e in client.job(job.id).events()]
    assert job.id in [j.id for j in client.jobs()]


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(client: Client) -> None:
    job = client.tune(ROWS, method="lora")

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        job.wait(on_event=interrupt)
    assert caught.value.__notes__ == [job.goes_on]
    assert f"inhouse jobs {job.id} --follow" in job.goes_on
    assert not client.job(job.id).is_over
    job.cancel()


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────


def shown(job: Job, *, is_terminal: bool) -> str:
    page = io.StringIO()
    show(job, console=Console(file=page, force_terminal=is_terminal, width=120))
    return page.getvalue()


def test_a_terminal_sees_step_loss_and_time_left_and_a_pipe_sees_nothing(client: Client, work: Work) -> None:
    job = client.tune(ROWS, method="lora")
    threading.Thread(target=work).start()
    page = shown(job, is_terminal=True)
    assert "tuning" in page or "done" in page
    assert "3/3" in page
    assert "loss 0.667" in page
    assert "Created fine-tuning job" in page
    assert shown(job, is_terminal=False) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (42, "42 s"), (185.2, "3 min 05 s"), (7830, "2 h 10 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────


def test_streamed_pieces_join_to_the_whole_answer(client: Client) -> None:
    model = client.model(TUNED)
    pieces = list(model.chat("count 20 0", stream=True))
    assert len(pieces) > 1
    assert "".join(pieces) == model.chat("count 20 0") == "".join(f"{i} " for i in range(20))


def test_a_conversation_a_limit_and_a_stop_are_honoured(client: Client) -> None:
    model = client.model()
    assert model.name == "seedling"
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}]
    assert model.chat(asked) == "one two three"
    assert model.chat(asked, max_tokens=1) == "one "
    assert model.chat(asked, stop="two") == "one "
    assert model.complete("a b", max_tokens=2) == "a b"


def test_the_default_base_is_the_servers_whatever_this_machines_setting(served: House) -> None:
    with Client(served.url, served.member, settings=Settings(base="/models/other")) as client:
        assert client.model().name == "seedling"
        job = client.tune(ROWS, method="lora")
        assert job.base == "seedling"
        job.cancel()


def test_a_key_without_an_address_is_for_this_machines_server(
    served: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Running(Address(served.url, "local", is_local=True), 1)
    monkeypatch.setattr(local, "find_or_start", lambda settings: found)
    with Client() as client:
        assert client.api_key == "local"
    with Client(api_key=served.member) as client:
        assert client.api_key == served.member
        assert client.models()
        with pytest.raises(PermissionDenied):
            client.create_key("mine")
    with Client(api_key="sk-wrong") as client, pytest.raises(Unauthenticated):
        client.models()


def test_a_field_the_server_does_not_know_is_refused_never_dropped(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="colour"):
        client.model().chat("Hi", colour="red")


def test_hanging_up_mid_answer_cancels_the_request(client: Client, served: House) -> None:
    before = served.engine_numbers().get("cancelled", 0)
    pieces = client.model().chat("count 100000 0.01", stream=True)
    assert next(pieces) == "0 "
    pieces.close()  # type: ignore[attr-defined]
    until(lambda: served.engine_numbers().get("cancelled", 0) > before, "the engine hears of it")


def test_models_are_listed_found_and_removed(client: Client, work: Work) -> None:
    job = client.tune(ROWS, method="lora")
    name = work("succeeded")
    assert {"seedling", TUNED, name} <= {m.name for m in client.models()}
    model = client.model(name)
    assert model == job.wait()
    model.delete()
    with pytest.raises(ModelNotFound):
        client.model(name)
    with pytest.raises(PermissionDenied, match="base"):
        client.model("seedling").delete()


@pytest.mark.parametrize(
    "name", ["nothing", "ft:seedling:default::nothing1", "../../etc/passwd", "ä/ö?x=1#y"]
)
def test_an_unknown_model_is_told_by_name(client: Client, name: str) -> None:
    with pytest.raises(ModelNotFound):
        client.model(name)
    with pytest.raises(ModelNotFound):
        Model(name, _http=client._http).chat("Hi")


def test_a_wrong_key_is_told(served: House) -> None:
    with Client(served.url, "sk-wrong") as client, pytest.raises(Unauthenticated, match="API key"):
        client.models()


def test_a_base_folder_needs_an_admin_and_must_be_there(
    client: Client, served: House, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="no folder"):
        client.tune(ROWS, base=tmp_path / "nothing")
    with pytest.raises(ModelNotFound):
        client.tune(ROWS, base=tmp_path)
    with Client(served.url, served.admin) as admin, pytest.raises(InhouseError, match=r"config\.json"):
        admin.tune(ROWS, base=tmp_path)


def test_the_environment_names_the_server(served: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHOUSE_URL", served.url + "/v1")
    monkeypatch.setenv("INHOUSE_API_KEY", served.member)
    with Client() as client:
        assert client.url == served.url
        assert client.models()


def test_a_model_says_whether_its_base_is_loaded_and_how_many_it_answers_at_once(
    client: Client, served: House
) -> None:
    state = client.model(TUNED).state()
    assert (state.standing, state.is_full) == ("ready", False)
    assert (state.running, state.waiting) == (served.settings.max_running, served.settings.max_queued)
