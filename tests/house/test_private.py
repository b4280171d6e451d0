"""What a real run leaves is for its owner's eyes only, whatever the umask of whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from inhouse.store.private import is_loose
from tests.house.house import House, rows

CARELESS = "import os; os.umask(0); os.umask = lambda mask: 0; "
"""A process whose umask is 0 and stays it: what the guard sets comes to nothing."""


class CarelessHouse(House):
    """A house whose server, worker and jobs were started by somebody with umask 0."""

    def start(self) -> None:
        before = os.umask(0)
        try:
            super().start()
        finally:
            os.umask(before)


def test_after_a_real_run_nothing_in_the_data_folder_is_open_to_others(tmp_path: Path, tiny: Path) -> None:
    """Umask 0, a folder that was there with mode 0777: upload, training, a chat, a backup, a restart."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    house = CarelessHouse(data, [tiny])
    house.start()
    job = house.ended(house.submit("tiny", rows(4), n_epochs=1, x_rank=2))
    assert job["status"] == "succeeded", house.output()
    assert house.chat(job["fine_tuned_model"], "q0?", max_tokens=2).status_code == 200
    (data / "server.out").chmod(0o600)  # what the test itself wrote
    while_it_runs = [path for path in (data, *data.rglob("*")) if is_loose(path)]
    verbs = (["backup", str(tmp_path / "copy")], ["verify"], ["verify", str(tmp_path / "copy")])
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-c", "import os; os.umask(0); from inhouse.cli import main; main()", *verb],
            env=house.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
    assert house.stop() == 0
    kinds = {path.relative_to(data).parts[0] for path in data.rglob("*")}
    assert {"artifacts", "inhouse.db", "jobs", "logs", "run"} <= kinds
    loose = [path for path in (data, *data.rglob("*"), *(tmp_path / "copy").rglob("*")) if is_loose(path)]
    assert while_it_runs == loose == []


def test_without_the_umask_a_server_leaves_its_folder_open_control(tmp_path: Path) -> None:
    """Control: the same server, with the umask of whoever started it and no look at the folder."""
    code = (
        CARELESS + "from inhouse.server import place; place.make_private = lambda folder: folder.mkdir(); "
        "from inhouse.server.main import main; import threading, os, signal; "
        "threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGTERM)).start(); main(['--port', '0'])"
    )
    environment = {**os.environ, "INHOUSE_DATA_DIR": str(tmp_path / "data"), "INHOUSE_WORKER": "0"}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert is_loose(tmp_path / "data" / "inhouse.db")
    assert is_loose(tmp_path / "data" / "artifacts")
