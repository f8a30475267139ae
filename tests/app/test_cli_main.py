from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import click
import pytest

from app.cli import document
from app.cli.commands import ENTRIES, SECTIONS
from app.cli.main import cli as localq
from app.version import VERSION
from tests.app.cli_runner import Cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def child(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """``localq`` as a process of its own."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("LOCALQ_", "COVERAGE_"))},
        "PYTHONPATH": str(ROOT),
        "LOCALQ_HOME": str(home),
        "LOCALQ_CONFIG": os.devnull,
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


ONLY_FOR_MODELS = {"numpy", "rich", "llama_cpp", "jinja2", "psutil", "app.cli.run", "runtime.engine.client"}


def imported_by(*words: str, home: Path) -> set[str]:
    """The modules that ``localq`` with these words imports."""
    program = (
        "import sys\n"
        "from app.cli.main import cli\n"
        "try: cli.main(sys.argv[1:], prog_name='localq')\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    environment = {**os.environ, "LOCALQ_HOME": str(home), "LOCALQ_CONFIG": os.devnull}
    result = subprocess.run(
        [sys.executable, "-c", program, *words, "-q"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    return set(result.stderr.split())


class TestHelp:
    @pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("--json",)])
    def test_help_lists_every_command_in_its_group(self, cli: Cli, words: tuple[str, ...]) -> None:
        ran = cli.run(*words)
        assert ran.exit_code == 0
        for title, entries in SECTIONS.items():
            assert f"\n{title}:\n" in ran.stdout
            for entry in entries:
                assert any(
                    line.split() == [entry.name, *entry.summary.split()] for line in ran.stdout.splitlines()
                )

    @pytest.mark.parametrize("name", ENTRIES)
    def test_every_command_has_help_json_and_quiet(self, cli: Cli, name: str) -> None:
        ran = cli.run(name, "--help")
        assert ran.exit_code == 0
        assert f"Usage: localq {name} " in ran.stdout
        for option in ("--json", "--quiet", "--help"):
            assert option in ran.stdout

    def test_the_version_is_that_of_the_package(self, cli: Cli) -> None:
        assert cli.run("--version").stdout == f"localq {VERSION}\n"
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        source = project["tool"]["scikit-build"]["metadata"]["version"]
        (found,) = re.findall(source["regex"], (ROOT / source["input"]).read_text(), re.MULTILINE)
        assert found == VERSION

    def test_an_unknown_command_names_the_nearest(self, cli: Cli) -> None:
        ran = cli.run("lst")
        assert ran.exit_code == 2
        assert "did you mean 'list'" in ran.stderr
        assert ran.last_line == "next: localq --help"

    def test_an_unknown_option_points_to_the_commands_help(self, cli: Cli) -> None:
        ran = cli.run("list", "--color")
        assert ran.exit_code == 2
        assert ran.last_line == "next: localq list --help"


class TestDocument:
    def test_the_reference_in_docs_is_that_of_the_commands(self) -> None:
        path = ROOT / "docs" / "cli.md"
        assert path.read_text(encoding="utf-8") == document.render(), (
            "run: python -m app.cli.document > docs/cli.md"
        )

    def test_the_reference_names_every_option(self) -> None:
        text = document.render()
        context = click.Context(localq)
        for name in ENTRIES:
            command = localq.get_command(context, name)
            assert command is not None
            section = text.split(f"### localq {name}\n")[1].split("\n### ")[0]
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert parameter.opts[0] in section


class TestProcess:
    def test_it_runs_as_a_module(self, tmp_path: Path) -> None:
        assert child("--help", home=tmp_path).stdout.startswith("Usage: localq ")

    def test_help_imports_no_command_and_nothing_heavy(self, tmp_path: Path) -> None:
        heavy = {"msgspec", "platformdirs", "app.store", "app.cli.list_", "app.settings", "runtime.gguf"}
        assert not imported_by("--help", home=tmp_path) & (heavy | ONLY_FOR_MODELS)

    def test_list_imports_nothing_that_only_a_model_needs(self, tmp_path: Path) -> None:
        modules = imported_by("list", home=tmp_path)
        assert "app.store" in modules
        assert not modules & ONLY_FOR_MODELS

    def test_help_and_list_are_quick(self, tmp_path: Path) -> None:
        """Promised are 150 ms of wall and 200 ms of processor time; neighbours may cost half of it again."""
        cli = Cli(tmp_path)
        for index in range(5):
            cli.add_model(f"model-{index}", seed=index)
        assert best_of(7, "--help", home=cli.home)[0] <= 1.5 * 0.150
        assert best_of(7, "list", home=cli.home)[1] <= 1.5 * 0.200

    def test_a_reader_that_leaves_early_is_no_error_message(self, tmp_path: Path) -> None:
        cli = Cli(tmp_path)
        cli.add_model("tiny")
        script = f"{sys.executable} -m app.cli.main list | true"
        result = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "LOCALQ_HOME": str(cli.home), "LOCALQ_CONFIG": os.devnull},
            check=True,
        )
        assert result.stderr == ""

    def test_the_shell_completes_commands_and_options(self, tmp_path: Path) -> None:
        environment = {
            **os.environ,
            "_LOCALQ_COMPLETE": "bash_complete",
            "COMP_WORDS": "localq ver",
            "COMP_CWORD": "1",
            "PYTHONPATH": str(ROOT),
        }
        result = subprocess.run(
            [sys.executable, "-m", "app.cli.main"],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert result.stdout.strip() == "plain,verify"


def best_of(count: int, *words: str, home: Path) -> tuple[float, float]:
    """The least wall and processor time in seconds of ``count`` runs: what the command itself takes."""
    walls, cpus = [], []
    for _ in range(count):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        assert child(*words, home=home).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - started)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(cpus)
