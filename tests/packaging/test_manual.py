"""Man pages, completions and the user's service: made of the commands, and read by what reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from kit.manual import COMPLETIONS, USER_UNIT, documents, roff, write

from app.cli.commands import LazyGroup
from app.cli.main import cli
from app.version import VERSION


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them below a prefix."""
    folder = tmp_path_factory.mktemp("prefix")
    write(folder)
    return folder


def commands(group: LazyGroup, before: str = "localq") -> list[str]:
    """The names that man pages have, of all commands."""
    found = [before]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = isinstance(command, LazyGroup)
        found += commands(command, f"{before}-{name}") if isinstance(command, LazyGroup) else []
        found += [] if inner else [f"{before}-{name}"]
    return found


def test_every_command_has_a_page_of_this_version(prefix: Path) -> None:
    pages = {path.stem: path.read_text() for path in (prefix / "share" / "man" / "man1").iterdir()}
    assert set(pages) == set(commands(cli))
    assert all(f'"localq {VERSION}"' in text for text in pages.values())
    assert "\\-\\-fit\\-ram" in pages["localq-pull"] and ".SH FILES" in pages["localq"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_pages_are_clean_to_groff(prefix: Path) -> None:
    pages = sorted((prefix / "share" / "man" / "man1").iterdir())
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", *map(str, pages)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_text_of_a_command_never_becomes_a_request_of_roff() -> None:
    assert roff(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert roff("a\\b - c") == "a\\eb \\- c"
    assert roff("'tis") == "\\&'tis"


@pytest.mark.parametrize("path", sorted(COMPLETIONS))
def test_completions_are_clean_to_their_shell(prefix: Path, path: str) -> None:
    shell = {"bash-completion": "bash", "zsh": "zsh", "fish": "fish"}[path.split("/")[1]]
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([shell, "-n", str(prefix / path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_commands_and_options(prefix: Path, tmp_path: Path) -> None:
    program = tmp_path / "localq"
    program.write_text('#!/bin/sh\nexec "$PYTHON" -m app.cli.main "$@"\n')
    program.chmod(0o755)
    script = f"""
        . {prefix / "share/bash-completion/completions/localq"}
        COMP_WORDS=(localq {{}}) COMP_CWORD=1; _localq_completion localq; echo "${{{{COMPREPLY[@]}}}}"
    """
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": shutil.which("python3") or "",
        "LOCALQ_HOME": str(tmp_path),
    }
    import sys

    environment["PYTHON"] = sys.executable
    done = subprocess.run(
        ["bash", "-c", script.format("doc")], capture_output=True, text=True, env=environment, check=True
    )
    assert "doctor" in done.stdout


def test_the_unit_runs_the_installed_program(prefix: Path) -> None:
    text = (prefix / USER_UNIT).read_text()
    assert re.search(r'^ExecStart="@PREFIX@/bin/localq" "?serve"?$', text, re.MULTILINE)
    assert USER_UNIT in documents()
