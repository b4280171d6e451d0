"""A whole house, backed up while it serves and brought back somewhere else, by the command alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.house import House, rows


def inhouse(environment: dict[str, str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command; returns its line of JSON."""
    done = subprocess.run(
        [sys.executable, "-c", "from inhouse.cli import main; main()", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return dict(json.loads(done.stdout)) if done.stdout else {"error": done.stderr}


def test_a_house_comes_back_elsewhere_on_the_other_database(
    own: House, tiny: Path, tmp_path: Path, postgres_url: str
) -> None:
    own.start()
    tuned = own.ended(own.submit("tiny", rows(4), n_epochs=1, x_rank=2))["fine_tuned_model"]
    said = own.chat(tuned, "q1?", max_tokens=6).json()["choices"][0]["message"]["content"]
    files = own.call("GET", "/v1/files").json()["data"]
    made = inhouse(own.environment(), "backup", str(tmp_path / "house.tar"))
    assert made["lost"] == [] and made["artifacts"] >= 3
    assert inhouse(own.environment(), "verify", str(tmp_path / "house.tar"))["intact"] is True
    assert inhouse(own.environment(), "verify")["wrong"] == []
    assert own.stop() == 0

    other = House(tmp_path / "other", [tiny], database_url=postgres_url)
    assert (
        "is not empty" in inhouse(own.environment(), "restore", str(tmp_path / "house.tar"), code=1)["error"]
    )
    inhouse(other.environment(), "restore", str(tmp_path / "house.tar"))
    assert inhouse(other.environment(), "verify")["intact"] is True
    other.start()
    try:
        assert other.call("GET", "/v1/files").json()["data"] == files
        content = other.call("GET", f"/v1/files/{files[-1]['id']}/content").content
        assert content == rows(4)
        assert other.chat(tuned, "q1?", max_tokens=6).json()["choices"][0]["message"]["content"] == said
    finally:
        assert other.stop() == 0, other.output()


@pytest.mark.parametrize("verb", ["backup", "verify"])
def test_a_folder_without_a_database_is_said_to_be_none(tmp_path: Path, verb: str) -> None:
    own = House(tmp_path / "nothing", [])
    arguments = [str(tmp_path / "copy")] if verb == "backup" else []
    assert "There is no database" in inhouse(own.environment(), verb, *arguments, code=1)["error"]
    assert not (tmp_path / "nothing").exists() and not (tmp_path / "copy").exists()


def test_damage_of_live_data_and_of_a_backup_ends_with_exit_code_1(own: House, tmp_path: Path) -> None:
    own.start()
    file = own.upload(rows(2))
    inhouse(own.environment(), "backup", str(tmp_path / "copy"))
    kept = next((own.data_dir / "artifacts").glob("[0-9a-f][0-9a-f]/*"))
    for damaged, arguments in ((tmp_path / "copy" / "artifacts" / kept.name, ["copy"]), (kept, [])):
        damaged.chmod(0o600)
        damaged.write_bytes(b"something else")
        found = inhouse(own.environment(), "verify", *[str(tmp_path / a) for a in arguments], code=1)
        assert found["intact"] is False and len(found["wrong"]) == 1 and kept.name in found["wrong"][0]
    assert file in found["wrong"][0]
    assert own.stop() == 0
