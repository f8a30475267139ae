from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.store_kit import memory_folder
from tests.app.store_operations import OPERATIONS

REPOSITORY = Path(__file__).resolve().parents[2]


def crash(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Runs the program that kills; its outcome."""
    with memory_folder(tmp_path) as folder:
        command = [sys.executable, "-m", "tests.app.store_crashes", *arguments, str(folder)]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    outcome: dict[str, Any] = json.loads(ran.stdout)
    return outcome


def test_a_kill_at_every_change_of_the_disk_damages_nothing(tmp_path: Path) -> None:
    outcome = crash(tmp_path, "every")
    assert set(outcome["points"]) == set(OPERATIONS)
    assert all(points >= 2 for points in outcome["points"].values())
    assert outcome["kills"] >= 100


def test_forty_kills_at_random_moments_damage_nothing(tmp_path: Path) -> None:
    outcome = crash(tmp_path, "random", "40", "1")
    assert outcome["kills"] == 40
    assert outcome["killed_while_adding"] + outcome["killed_while_removing"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_two_hundred_kills_at_random_moments_damage_nothing(seed: int, tmp_path: Path) -> None:
    outcome = crash(tmp_path, "random", "200", str(seed))
    assert outcome["kills"] == 200
    assert outcome["killed_while_adding"] >= 50
    assert outcome["killed_while_removing"] >= 1


def test_the_checks_above_notice_a_manifest_that_appears_before_its_blobs(tmp_path: Path) -> None:
    with memory_folder(tmp_path) as folder:
        command = [sys.executable, "-m", "tests.app.store_crashes", "every-in-wrong-order", str(folder)]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "AssertionError" in ran.stderr
    assert "kind='missing'" in ran.stderr
