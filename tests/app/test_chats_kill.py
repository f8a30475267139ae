"""Every turn that was acknowledged is there after a kill, and several processes write side by side."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.chats import Chats
from tests.app.chats_kit import python

WRITER = "tests.app.chats_writer"


@contextmanager
def writer(home: Path, said: list[str]) -> Iterator[None]:
    """A process that writes, and is killed when the block ends; ``said`` are the lines that it completed."""
    process = python(WRITER, str(home))
    assert process.stdout is not None
    stdout = process.stdout

    def listen() -> None:
        said.extend(line.decode()[:-1] for line in stdout if line.endswith(b"\n"))

    first = stdout.readline()
    said.append(first.decode()[:-1])
    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        listener.join()
        stdout.close()
        assert process.stdin is not None
        process.stdin.close()


def check(home: Path, said: list[str]) -> int:
    """All that was acknowledged is there; the number of turns that were looked at."""
    doomed = {line.split()[1] for line in said if line.startswith("deleting ")}
    deleted = {line.split()[1] for line in said if line.startswith("deleted ")}
    turns = [line.split(" ", 2) for line in said if line[0].isdigit()]
    with Chats(home) as chats:
        there = {chat.id for chat in chats.list()}
        assert not there & {int(chat) for chat in deleted}
        for chat, message, content in turns:
            if chat not in doomed:
                assert chats.message(int(message)).content == content
                word = content.split()[1]
                assert int(message) in {hit.message_id for hit in chats.search(f'"{word}"')}
        for chat_id in there:
            branch = chats.branch(chat_id)
            ids = [None, *(message.id for message in branch)]
            assert [message.parent_id for message in branch] == ids[:-1]
    with sqlite3.connect(home / "chats" / "chats.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    return len(turns)


def kill_often(home: Path, kills: int, seed: int) -> int:
    """Turns that survived."""
    rng = random.Random(seed)
    said: list[str] = []
    turns = 0
    for _ in range(kills):
        said.clear()
        with writer(home, said):
            threading.Event().wait(rng.random() * 0.15)
        turns += check(home, said)
    return turns


def test_twenty_kills_at_random_moments_lose_no_turn(tmp_path: Path) -> None:
    assert kill_often(tmp_path, 20, 1) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_kills_at_random_moments_lose_no_turn(tmp_path: Path, seed: int) -> None:
    assert kill_often(tmp_path, 100, seed + 2) > 500


def test_a_check_that_would_miss_a_lost_turn_is_none(tmp_path: Path) -> None:
    said: list[str] = []
    with writer(tmp_path, said):
        threading.Event().wait(0.1)
    chat, message, _ = next(line for line in said if line[0].isdigit()).split(" ", 2)
    with pytest.raises(AssertionError):
        check(tmp_path, [f"{chat} {message} turn numberless"])


def test_three_processes_write_side_by_side(tmp_path: Path) -> None:
    said: tuple[list[str], ...] = ([], [], [])
    with writer(tmp_path, said[0]), writer(tmp_path, said[1]), writer(tmp_path, said[2]):
        deadline = time.monotonic() + 30
        while min(map(len, said)) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
    for lines in said:
        assert check(tmp_path, lines) >= 8


def test_processes_that_begin_together_make_one_file(tmp_path: Path) -> None:
    said: tuple[list[str], ...] = tuple([] for _ in range(4))
    threads = [threading.Thread(target=lambda lines=lines: _once(tmp_path, lines)) for lines in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(check(tmp_path, lines) >= 1 for lines in said)


def _once(home: Path, said: list[str]) -> None:
    with writer(home, said):
        pass
