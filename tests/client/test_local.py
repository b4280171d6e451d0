"""A server on this machine: found, started once, shared, restarted, and its death explained. Real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inhouse.client import local
from inhouse.client.client import Client
from inhouse.errors import InvalidRequest, ServerUnreachable
from inhouse.settings import Settings
from tests.server.house import until


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a data folder of its own; whatever server runs for it in the end is ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data", port=port, worker=False, linger_s=2.0, drain_s=1.0)
    yield settings
    end(settings)


def end(settings: Settings, how: int = signal.SIGTERM) -> None:
    if running := local.find(settings):
        os.kill(running.pid, how)
        until(lambda: local.find(settings) is None, "the server ends")


def together(count: int, act: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=act, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_clients_that_start_at_once_share_one_server(here: Settings) -> None:
    found: dict[int, local.Running] = {}

    def start(i: int) -> None:
        found[i] = local.find_or_start(here)

    together(4, start)
    assert len(found) == 4
    assert len({running.pid for running in found.values()}) == 1
    with Client(settings=here) as client:
        assert [m.name for m in client.models()] == ["seedling"]
        assert client.api_key == found[0].address.key
    assert oct(here.run_dir.stat().st_mode)[-3:] == "700"


def test_without_the_lock_they_would_start_several(here: Settings) -> None:
    """The control: what `find_or_start` does between looking and starting, with the lock taken out."""
    local.make_folders(here)
    started: list[subprocess.Popen[bytes]] = []

    def start(_: int) -> None:
        if local.find(here) is None:
            started.append(local._start(here))

    together(4, start)
    try:
        assert len(started) > 1
    finally:
        for child in started:
            child.terminate()
            child.wait(20)


def test_a_taken_port_gives_way_to_a_free_one(here: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", here.port))
        taken.listen()
        running = local.find_or_start(here)
    assert running.address.url != f"http://127.0.0.1:{here.port}"
    with Client(settings=here) as client:
        assert client.url == running.address.url


def test_a_client_outlives_its_server(here: Settings) -> None:
    with Client(settings=here) as client:
        before = client.api_key
        end(here, signal.SIGKILL)
        assert [m.name for m in client.models()] == ["seedling"]
        assert client.api_key != before


def test_a_server_that_takes_another_s_place_serves_as_that_one_did_and_is_told_of_once(
    here: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    local.find_or_start(replace(here, quantization="int8", lookup="off"))
    with Client(settings=here) as client:
        end(here, signal.SIGKILL)
        assert client.models() and client.models()
        running = local.find(here)
    assert running is not None
    assert running.serving == {**here.serving(), "quantization": "int8", "lookup": "off"}
    assert [record.message for record in caplog.records if "answers no more" in record.message] == [
        f"The server at http://127.0.0.1:{here.port} answers no more: another one is started in its place."
    ]


def test_a_server_that_cannot_be_started_in_another_s_place_is_told_of_once(
    here: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    place = local.Here(here)
    place.find_or_start()
    end(here, signal.SIGKILL)
    for file in here.data_dir.glob("inhouse.db*"):
        file.unlink()
    (here.data_dir / "inhouse.db").write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(ServerUnreachable):
            place.find_or_start()
    assert len([record for record in caplog.records if "answers no more" in record.message]) == 1


def test_a_client_that_saw_no_server_starts_one_by_its_own_settings(here: Settings) -> None:
    local.find_or_start(replace(here, quantization="int8"))
    end(here, signal.SIGKILL)
    with Client(settings=here):
        running = local.find(here)
    assert running is not None and running.serving == here.serving()


def test_a_note_with_a_key_the_server_does_not_take_is_of_an_earlier_one(here: Settings) -> None:
    running = local.find_or_start(here)
    file = here.run_dir / "server.json"
    note = file.read_text()
    file.write_text(note.replace(str(running.address.key), "sk-of-before"))
    assert local.find(here) is None
    file.write_text(note)  # control
    assert local.find(here) == running


def test_a_server_that_dies_shows_its_log(here: Settings) -> None:
    here.data_dir.mkdir()
    (here.data_dir / "inhouse.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ServerUnreachable, match=r"ended with status 1.*server\.log") as caught:
        local.find_or_start(here)
    assert "database" in caught.value.message.partition("ends with:")[2]


def test_a_server_that_is_never_ready_is_ended_and_told(here: Settings) -> None:
    with pytest.raises(ServerUnreachable, match="was not ready in time"):
        local.find_or_start(here, timeout_s=0.05)
    until(lambda: local.find(here) is None, "nothing is left behind")


def test_a_light_installation_says_what_to_install(here: Settings, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from importlib import util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'fastapi' else found(name, *rest)\n"
        "from inhouse import Client; Client()"
    )
    environment = {**os.environ, **here.environment()}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "pip install 'inhouse[all]'" in done.stderr


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"url": "http://127.0.0.1:1", "pid": "x"}', json.dumps({"url": 3, "pid": 1})],
)
def test_a_broken_note_of_an_address_is_no_server(here: Settings, content: str) -> None:
    local.make_folders(here)
    (here.run_dir / "server.json").write_text(content)
    assert local.find(here) is None


def test_a_note_left_by_a_killed_server_is_no_server(here: Settings) -> None:
    local.make_folders(here)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    note = {"url": f"http://127.0.0.1:{here.port}", "key": "k"}
    for pid in (gone.pid, os.getpid()):  # a dead process, and one that is alive but answers nothing there
        (here.run_dir / "server.json").write_text(json.dumps({**note, "pid": pid}))
        assert local.find(here) is None


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="INHOUSE_DATA_DIR"):
        local.find_or_start(Settings(data_dir=tmp_path / "file" / "data"))


def test_the_folders_it_makes_are_for_this_user_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "made" / "data")
    local.make_folders(settings)
    for folder in (settings.data_dir, settings.run_dir, settings.log_dir):
        assert folder.stat().st_mode & 0o077 == 0
