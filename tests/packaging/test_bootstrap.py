"""packaging/bootstrap.py with a Python and a pip that are shell scripts: no network, no real environment."""

from __future__ import annotations

import ast
import importlib.util
import io
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "packaging" / "bootstrap.py"
WHOLE = 'if [ "$3" = --version ]; then echo "pip 99 from here (python 3.11)"; exit; fi\n'


def load() -> ModuleType:
    """The script as a module; by its path, because the library `packaging` owns the name."""
    spec = importlib.util.spec_from_file_location("localq_bootstrap", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)
    return path


def pip(venv: Path, body: str) -> Path:
    """An environment whose pip does ``body`` when it is to install something."""
    return script(venv / "bin" / "python", WHOLE + body)


def run(venv: Path, pause: float | None = None) -> tuple[int, str]:
    """Exit code of the bootstrap and what it said."""
    said = io.StringIO()
    code = bootstrap.main(["--venv", str(venv)], screen=bootstrap.Screen(said, pause))
    return code, said.getvalue()


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for an environment, and a compiler that runs."""
    monkeypatch.setenv("CXX", str(script(tmp_path / "c++", "exit 0")))
    return tmp_path / "with a space" / ".venv"


class TestPython:
    def test_python_3_8_can_parse_the_script(self) -> None:
        ast.parse(SCRIPT.read_text(), feature_version=(3, 8))

    def test_a_python_without_tomllib_says_that_it_is_too_old(self, tmp_path: Path) -> None:
        pretend = (
            "import runpy, sys; sys.modules['tomllib'] = None; sys.version_info = (3, 9, 18, 'final', 0);"
            f"sys.argv = ['bootstrap.py', '--venv', {str(tmp_path / 'venv')!r}];"
            f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("localq: Python 3.9.18 is too old; localq needs 3.11 or newer.")
        assert "make PYTHON=python3.11" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "venv").exists()


class TestCompiler:
    def test_no_compiler_is_said_with_what_to_install_before_anything_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        code, said = run(tmp_path / "venv")
        assert code == 1
        assert "no C++ compiler was found (looked for c++, g++, clang++)" in said
        assert "sudo apt install g++" in said
        assert not (tmp_path / "venv").exists()

    def test_a_compiler_that_only_complains_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(tmp_path / "c++", "echo install the developer tools >&2; exit 1")
        works = script(tmp_path / "g++", "exit 0")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert bootstrap.find_compiler("") == str(works)

    def test_a_chosen_compiler_is_not_replaced_by_another(self, tmp_path: Path) -> None:
        with pytest.raises(bootstrap.Failed, match="CXX=no-such-compiler -m64 names no C"):
            bootstrap.find_compiler("no-such-compiler -m64")


class TestEnvironment:
    @pytest.mark.parametrize(
        "half",
        [
            None,
            "exit 1",
            "echo 'No module named pip' >&2; exit 1",
            "echo 'pip 23 from there (python 3.9)'",
        ],
    )
    def test_one_without_a_pip_that_works_is_made_again(self, venv: Path, half: str | None) -> None:
        python = venv / "bin" / "python"
        if half is not None:
            script(python, half)
        whole = script(venv.parent / "whole", WHOLE)
        base = script(
            venv.parent / "python3",
            f'echo "$@" > "{venv.parent}/asked"; mkdir -p "$4/bin"; cp "{whole}" "$4/bin/python"',
        )
        said = io.StringIO()
        assert bootstrap.make_environment(venv, bootstrap.Screen(said), str(base)) == python
        assert (venv.parent / "asked").read_text() == f"-m venv --clear {venv}\n"
        assert ("again" in said.getvalue()) == (half is not None)

    def test_one_that_works_is_left_alone(self, venv: Path) -> None:
        python = pip(venv, "exit 0")
        assert bootstrap.make_environment(venv, bootstrap.Screen(io.StringIO()), "/no/such/python") == python

    def test_after_following_the_advice_the_next_run_succeeds(self, venv: Path) -> None:
        """As Debian without python3-venv: a Python without pip stays behind, and the exit code is 1."""
        screen = bootstrap.Screen(io.StringIO())
        lacking = (
            'mkdir -p "$4/bin"; ln -s /bin/false "$4/bin/python"; echo ensurepip is not available; exit 1'
        )
        base = script(venv.parent / "python3", lacking)
        with pytest.raises(bootstrap.Failed) as failed:
            bootstrap.make_environment(venv, screen, str(base))
        major, minor = sys.version_info[:2]
        assert "ensurepip is not available" in str(failed.value)
        assert f"sudo apt install python{major}.{minor}-venv" in str(failed.value)
        assert bootstrap.make_environment(venv, screen, sys.executable) == venv / "bin" / "python"
        assert bootstrap.pip_works(venv / "bin" / "python")


class TestInstall:
    def test_llama_cpp_comes_first_and_localq_second(self, venv: Path) -> None:
        pip(venv, 'echo "$@" >> "${0%/bin/python}/asked"; pwd >> "${0%/bin/python}/asked"')
        code, said = run(venv)
        first, place, second, _ = (venv / "asked").read_text().splitlines()
        assert code == 0
        assert "llama-cpp-python==" in first
        assert second.endswith("-e .")
        assert place == str(SCRIPT.parent.parent)
        assert said.endswith("localq: ready\n")

    def test_a_failing_pip_is_shown_with_the_end_of_its_log(self, venv: Path) -> None:
        pip(
            venv,
            "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; printf 'ba\\033[31md\\n'; exit 3",
        )
        code, said = run(venv)
        assert code == 1
        assert f"its log is {venv / 'install.log'}" in said
        assert said.endswith("line 39\nline 40\nba?[31md\n")
        assert "line 26\n" not in said
        assert "line 1\n" in (venv / "install.log").read_text()

    def test_a_silent_pip_does_not_make_the_script_silent(self, venv: Path) -> None:
        pip(venv, "sleep 0.35; echo '  [7/160] Building CXX object x.o'; printf '  [8/1'; sleep 0.4")
        code, said = run(venv, pause=0.1)
        assert code == 0
        assert "localq: starting, 0 s\n" in said
        assert "localq: compiled 7 of 160 files, 0 s\n" in said
        assert said.count("\n") >= 10

    def test_without_a_terminal_a_line_comes_every_thirty_seconds(self) -> None:
        screen = bootstrap.Screen(io.StringIO())
        screen.show("one")
        screen.show("two")
        assert screen.pause == 30
        assert screen.stream.getvalue() == "localq: one\nlocalq: two\n"

    def test_on_a_terminal_one_line_is_replaced_several_times_a_second(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "12")
        screen = bootstrap.Screen(Terminal())
        screen.show("a long line")
        screen.say("done")
        assert screen.pause <= 0.25
        assert screen.stream.getvalue() == "\r\033[Klocalq: a l\r\033[Klocalq: done\n"

    @pytest.mark.parametrize(
        ("line", "phase"),
        [
            ("  [12/160] Building CXX object ggml/x.cpp.o", "compiled 12 of 160 files"),
            ("  [ 12%] Building CXX object ggml/x.cpp.o", "compiled 12 %"),
            ("Collecting numpy>=2 (from localq==0.1.0)", "looking for numpy"),
            ("  Downloading llama_cpp-0.3.tar.gz (64.2 MB)", "downloading llama_cpp-0.3.tar.gz (64.2 MB)"),
            (
                "Downloading https://a.example/b/c-1.whl.metadata (2.1 kB)",
                "downloading c-1.whl.metadata (2.1 kB)",
            ),
            ("  Installing build dependencies: started", "fetching the tools to build with"),
            ("  Building wheel for llama-cpp-python (pyproject.toml): started", "building llama-cpp-python"),
            ("Installing collected packages: numpy, localq", "installing"),
            ("  -- Detecting CXX compiler ABI info", None),
            ("see [1/2] in the text", None),
        ],
    )
    def test_a_line_of_pip_is_said_in_plain_words(self, line: str, phase: str | None) -> None:
        assert bootstrap.phase_of(line) == phase

    def test_minutes_are_said_as_minutes(self) -> None:
        assert [bootstrap.clock(seconds) for seconds in (0.9, 59.9, 60, 187)] == [
            *("0 s", "59 s"),
            *("1 min 00 s", "3 min 07 s"),
        ]


class TestInterrupt:
    @pytest.mark.parametrize(
        ("number", "code", "last"),
        [
            (signal.SIGINT, 130, "localq: interrupted; run make again to go on\n"),
            (signal.SIGTERM, 143, "(compiled once, about five minutes; later from pip's cache)\n"),
        ],
    )
    def test_a_signal_ends_pip_and_what_pip_started(
        self, venv: Path, number: signal.Signals, code: int, last: str
    ) -> None:
        # the inner shell ignores the interrupt, as a program in pip's care may
        pip(venv, f'sh -c \'trap "" INT; echo $$ > "{venv}/pid"; sleep 60; sleep 60\' & sleep 60')
        process = subprocess.Popen(
            [sys.executable, SCRIPT, "--venv", venv], stderr=subprocess.PIPE, text=True
        )
        inner = wait_for(venv / "pid")
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == code
        assert said.endswith(last)
        assert "Traceback" not in said
        wait_for_the_end_of(inner)

    def test_one_that_comes_while_pip_is_being_started_ends_it_too(
        self, venv: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pip(venv, "exec sleep 60")
        started = []
        popen = subprocess.Popen

        def start(*words: Any, **named: Any) -> subprocess.Popen[bytes]:
            process = popen(*words, **named)
            if "process_group" in named:
                started.append(process.pid)
                signal.raise_signal(signal.SIGINT)
            return process

        monkeypatch.setattr(bootstrap.subprocess, "Popen", start)
        code, said = run(venv)
        assert code == 130
        assert said.endswith("localq: interrupted; run make again to go on\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        (pid,) = started
        wait_for_the_end_of(pid)


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.is_file() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return int(path.read_text())


def wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 20
    while running(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived the bootstrap"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether the process lives; a dead one that nobody has waited for yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
