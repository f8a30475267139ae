"""The app in a real terminal: what it is sent, resized, suspended, pasted into, and killed."""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from app.chats import Chats
from tests.app.pseudo_terminal import PseudoTerminal
from tests.app.tui_kit import Stage
from tests.hostile.terminal import foreign

CHILD = [sys.executable, "-m", "tests.app.tui_child"]
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def resize(terminal: PseudoTerminal, columns: int, lines: int) -> None:
    """As a window does."""
    fcntl.ioctl(terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    os.killpg(terminal.process.pid, signal.SIGWINCH)


def toured(home: Path, kind: str, seed: int = 1) -> str:
    """All that a tour through the app sent to its terminal."""
    home.mkdir()
    with PseudoTerminal([*CHILD, "tour", str(home), kind, str(seed)], environment()) as terminal:
        resize(terminal, 100, 32)
        assert terminal.wait(900) == 0, terminal.seen[-3000:].decode("utf-8", "replace")
        return terminal.seen.decode("utf-8")  # strictly


def shapes(sent: str) -> set[str]:
    """Control sequences by their kind; of those with a text the text counts too."""
    found = set()
    for match in SEQUENCE.finditer(sent):
        sequence = match[0]
        if sequence.startswith("\x1b["):
            sequence = re.sub(r"[0-9;]+", "#", sequence)
        found.add(sequence)
    return found


@pytest.mark.slow
def test_whatever_models_files_and_the_hub_say_the_terminal_gets_what_harmless_texts_bring(
    tmp_path: Path,
) -> None:
    harmless = toured(tmp_path / "harmless", "harmless")
    for seed in (1, 2):
        hostile = toured(tmp_path / f"hostile-{seed}", "hostile", seed)
        assert shapes(hostile) <= shapes(harmless)
        rest = SEQUENCE.sub("", hostile).replace("\r\n", "").replace("\r", "")
        assert foreign(rest) == set()


def test_a_sequence_that_got_through_would_be_seen() -> None:
    assert shapes("\x1b[31mred\x1b]52;c;eA==\x07") == {"\x1b[#m", "\x1b]52;c;eA==\x07"}
    assert foreign("a\x9b2J\u202e")


COLOURED = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
"""Selects a colour; 39 and 49, the terminal's own, do not."""


@pytest.mark.parametrize("colours", [True, False])
def test_with_no_color_the_terminal_is_sent_no_colour(tmp_path: Path, colours: bool) -> None:
    stage = Stage(tmp_path)
    stage.add_model()
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    plain = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    words = plain if colours else {**plain, "NO_COLOR": "1"}
    with PseudoTerminal([*CHILD, "ask", str(tmp_path), str(acknowledged)], words) as terminal:
        terminal.expect("tok/s", 60)
        sent = terminal.seen.decode("utf-8", "replace")
    assert (COLOURED.search(sent) is not None) == colours


def kill_often(folder: Path, kills: int, seed: int) -> int:
    """Questions that were acknowledged, all of which are there after so many kills at random moments."""
    generator = random.Random(seed)
    stage = Stage(folder)
    stage.add_model()
    acknowledged = folder / "acknowledged"
    acknowledged.touch()
    for _ in range(kills):
        before = acknowledged.stat().st_size
        with PseudoTerminal([*CHILD, "ask", str(folder), str(acknowledged)], environment()) as terminal:
            deadline = time.monotonic() + 60
            while acknowledged.stat().st_size == before and time.monotonic() < deadline:
                terminal.pause(0.02)
            terminal.pause(generator.uniform(0, 0.4))
            os.kill(terminal.process.pid, signal.SIGKILL)
            terminal.process.wait()
        said = acknowledged.read_text().splitlines()
        assert len(said) > before // 24 or before == 0
        with Chats(stage.home) as chats:
            (chat,) = chats.list()
            kept = {message.content for message in chats.tree(chat.id).by_id.values()}
            assert set(said) <= kept
    return len(said)


def test_no_question_that_was_shown_as_sent_is_lost_by_a_kill(tmp_path: Path) -> None:
    assert kill_often(tmp_path, kills=2, seed=1) >= 2


@pytest.mark.slow
def test_none_is_lost_by_500_kills(tmp_path: Path) -> None:
    assert kill_often(tmp_path, kills=500, seed=2) >= 500


@pytest.mark.slow
@pytest.mark.model
def test_from_an_empty_machine_to_an_answer_resized_suspended_and_pasted_into(
    tmp_path: Path, demo_path: Path
) -> None:
    home, config = tmp_path / "home", tmp_path / "config.toml"
    config.touch()
    words = {"LOCALQ_HOME": str(home), "LOCALQ_CONFIG": str(config), "HF_HUB_OFFLINE": "1", "PS1": "$ "}
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with PseudoTerminal(shell, {**environment(), **words}) as terminal:
        resize(terminal, 100, 30)
        terminal.send(f"{sys.executable} -m app.cli.main\r".encode())
        terminal.expect("Welcome to localq", 60)
        terminal.expect("no Hub", 60)
        terminal.send(b"\r")  # the demo model, out of its package
        terminal.expect("What can you do for me?", 240)
        terminal.expect("0/4,096", 60)
        terminal.send(b"\r")
        terminal.expect("tok/s", 120)
        terminal.pause(1.0)
        for columns, lines in ((60, 15), (160, 50), (80, 24)):
            resize(terminal, columns, lines)
            terminal.pause(0.5)
        terminal.send(b"\x1a")
        terminal.expect("Stopped", 20)
        terminal.send(b"echo in the $((1+1))nd shell\r")
        terminal.expect("in the 2nd shell", 20)
        terminal.send(b"fg\r")
        terminal.expect("context", 20)
        terminal.send(b"\x1b[200~" + b"many words of a text\n" * 50_000 + b"\x1b[201~")
        terminal.expect("pasted-1.txt", 60)
        terminal.send(b"\x11")
        terminal.expect("$ ", 30)
        terminal.send(b"exit\r")
        terminal.wait(30)
