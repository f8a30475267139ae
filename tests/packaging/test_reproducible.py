"""Two builds of one commit give the same bytes, wherever and whenever they are made."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit.project import source_date_epoch

from app.version import VERSION
from tests.packaging.conftest import ROOT

WHEN = {"SOURCE_DATE_EPOCH": "1700000000"}


def run(script: str, *words: str, **variables: str) -> None:
    """One of the builds, with the variables of its own."""
    command = [sys.executable, str(ROOT / "packaging" / script), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "packaging")} | WHEN | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def digests(folder: Path, pattern: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)}


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_the_package_of_one_folder_is_the_same_and_of_another_time_is_not(tmp_path: Path) -> None:
    found = []
    for number, variables in enumerate(
        ({}, {"TZ": "Asia/Kathmandu", "LC_ALL": "C"}, {"SOURCE_DATE_EPOCH": "5"})
    ):
        dist = tmp_path / str(number)
        for place in (
            "tree/lib/localq/localq",
            "tree/bin/localq",
            "tree/share/doc/localq/LICENSE",
            "tree/share/doc/localq/changelog",
            "tree/share/man/man1/localq.1",
        ):
            (dist / place).parent.mkdir(parents=True, exist_ok=True)
            (dist / place).write_text(place)
        (dist / f"localq-{VERSION}-linux-x86_64.tar.gz.cdx.json").write_text('{"components": []}')
        run("deb/build.py", str(dist), **variables)
        found.append(digests(dist, "*.deb"))
    assert found[0] and found[0] == found[1]
    assert found[2] != found[0]


@pytest.mark.slow
def test_the_wheel_is_the_same(tmp_path: Path) -> None:
    for number in ("1", "another-folder"):
        # the oldest and one other set of kernels: what could differ is the same with all of them
        run("wheels/build.py", str(tmp_path / number), CMAKE_ARGS="-DLOCALQ_ISAS=avx2")
    first, second = (digests(tmp_path / number, "*.whl") for number in ("1", "another-folder"))
    assert first and first == second


@pytest.mark.slow
def test_the_self_contained_folder_is_the_same(dist: Path, tmp_path: Path) -> None:
    for number in ("1", "another-folder"):
        (tmp_path / number).mkdir()
        for wheel in dist.glob("*_x86_64.whl"):
            shutil.copy(wheel, tmp_path / number)
        run("standalone/build.py", str(tmp_path / number))
    first, second = (digests(tmp_path / number, "localq-*.tar.gz*") for number in ("1", "another-folder"))
    assert len(first) == 2 and first == second


def test_the_time_is_never_that_of_the_build() -> None:
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    if "SOURCE_DATE_EPOCH" not in os.environ:
        assert source_date_epoch() == int(commit)
