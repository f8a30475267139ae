"""The Makefile, in a folder of its own whose bootstrap is a stand-in: nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BOOTSTRAP = """\
import pathlib, sys
bin = pathlib.Path(".venv/bin"); bin.mkdir(parents=True, exist_ok=True)
(bin / "localq").write_text('#!/bin/sh\\nprintf "<%s>" "$@"\\n'); (bin / "localq").chmod(0o755)
(bin / "python").write_text('#!/bin/sh\\necho part; exit $DOCS\\n'); (bin / "python").chmod(0o755)
open("asked", "a").write(" ".join(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout at a path with a space."""
    folder = tmp_path / "a checkout"
    for name in ("packaging", "runtime", "docs", "build/py3-none-any", "build/dev"):
        (folder / name).mkdir(parents=True)
    for name in ("CMakeLists.txt", "pyproject.toml"):
        (folder / name).touch()
    (folder / "packaging" / "bootstrap.py").write_text(BOOTSTRAP)
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def make(checkout: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not re.match("MAKE|MFLAGS|PROMPT", key)}
    return subprocess.run(
        ["make", *words],
        cwd=checkout,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_bare_make_lists_every_target_with_its_text(checkout: Path) -> None:
    done = make(checkout)
    listed = re.findall(r"^make ([a-z-]+) +\S", done.stdout, re.MULTILINE)
    declared = re.search(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert listed == declared[1].split()
    assert not (checkout / "asked").exists()


def test_a_chat_without_terminal_and_prompt_is_refused_before_anything_is_installed(checkout: Path) -> None:
    done = make(checkout, "chat")
    assert done.returncode == 2
    assert 'give a prompt, as in make chat PROMPT="What is' in done.stderr
    assert not (checkout / "asked").exists()


@pytest.mark.parametrize(
    "prompt", ["What is $5?", 'it\'s "$(x" `y` \\ #z', "--help", "$$ $(shell touch bad)"]
)
def test_a_prompt_arrives_as_it_was_written(checkout: Path, prompt: str) -> None:
    done = make(checkout, "chat", f"PROMPT={prompt}")
    assert done.stdout == f"<run><demo><--><{prompt}>"
    assert not (checkout / "bad").exists()


def test_what_is_installed_is_not_installed_again_until_rebuilt(checkout: Path) -> None:
    for words in (
        ["chat", "PROMPT=a"],
        ["chat", "PROMPT=b"],
        ["rebuild"],
        [".venv/installed-test"],
        ["rebuild"],
    ):
        assert make(checkout, *words).returncode == 0
    plain, test = "--venv .venv", "--venv .venv --extras test,dev"
    assert (checkout / "asked").read_text().splitlines() == [plain, plain, test, test]
    assert [path.name for path in (checkout / "build").iterdir()] == ["dev"]


def test_docs_that_cannot_be_written_leave_the_old_ones(checkout: Path) -> None:
    reference = checkout / "docs" / "cli.md"
    reference.write_text("old\n")
    assert make(checkout, "docs", DOCS="1").returncode != 0
    assert reference.read_text() == "old\n"
    assert make(checkout, "docs", DOCS="0").returncode == 0
    assert reference.read_text() == "part\n"


def test_the_first_python_that_runs_and_is_new_enough_is_taken(checkout: Path, tmp_path: Path) -> None:
    answers = {"python3.13": "exit 127", "python3.12": "exit 0", "python3.11": "exit 0", "python3": "exit 1"}
    for name, body in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = "{} packaging/bootstrap.py"
    dry = ("-n", ".venv/installed")
    assert command.format("python3.12") in make(checkout, *dry, PATH=path).stdout
    assert command.format("mine") in make(checkout, *dry, "PYTHON=mine", PATH=path).stdout
    for name in ("python3.12", "python3.11"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
    assert command.format("python3") in make(checkout, *dry, PATH=path).stdout
