"""Shell scripts, the Dockerfile and the system service, read by those who know what goes wrong in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "packaging/standalone/install.sh",
    "packaging/deb/postinst",
    "packaging/deb/prerm",
    "packaging/deb/postrm",
    "packaging/docker/build.sh",
    "packaging/docker/start.sh",
)


def tool(name: str) -> str:
    """The program, of this environment or of the system; without it the test is skipped."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if (found := shutil.which(name, path=path)) is None:
        pytest.skip(f"needs {name}")
    return found


def test_no_script_is_left_out() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "packaging").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.read_bytes()[:9] == b"#!/bin/sh"
    }
    assert found == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean_to_shellcheck_and_posix(script: str) -> None:
    command = [tool("shellcheck"), "--shell=sh", str(ROOT / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_is_clean_to_hadolint() -> None:
    command = [tool("hadolint"), str(ROOT / "packaging" / "docker" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_without_root_writes_to_its_volume_only_and_says_how_it_is() -> None:
    final = (ROOT / "packaging" / "docker" / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    for line in ("USER 10001:10001", "VOLUME /models", "HEALTHCHECK ", "ENTRYPOINT ", "LOCALQ_HOME=/models"):
        assert line in final
    assert "g++" not in final and "python3" not in final
    assert (ROOT / ".dockerignore").read_text().split() == [
        ".venv",
        ".cache",
        "build",
        "dist",
        "**/__pycache__",
    ]


def test_the_system_service_may_write_to_its_own_folder_only() -> None:
    unit = (ROOT / "packaging" / "deb" / "localq.service").read_text()
    options = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert options["User"] == "localq" and options["StateDirectory"] == "localq"
    assert options["ProtectSystem"] == "strict" and options["NoNewPrivileges"] == "true"
    assert "ReadWritePaths" not in options


def test_the_installer_refuses_what_it_does_not_know_and_a_prefix_that_no_unit_can_name(
    tmp_path: Path,
) -> None:
    script = str(ROOT / "packaging" / "standalone" / "install.sh")
    for words, says in (
        (["--nonsense"], "usage"),
        (["--prefix"], "usage"),
        (["--prefix", "/a|b"], "no folder that a unit can name"),
    ):
        done = subprocess.run(
            ["sh", script, *words], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 2 and says in done.stderr
    nothing = subprocess.run(
        ["sh", script, "--prefix", str(tmp_path), "--remove"], capture_output=True, text=True, check=False
    )
    assert nothing.returncode == 1 and "no localq that this script installed" in nothing.stderr
    assert list(tmp_path.iterdir()) == []
