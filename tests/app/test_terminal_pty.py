"""The proof on a real terminal device: what a child process prints there holds no foreign control."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.terminal import sanitize
from tests.hostile.terminal import foreign, streams

ROOT = Path(__file__).resolve().parents[2]

PRINT_SANITIZED = """
import sys
from app.terminal import Sanitizer, write
from tests.hostile.terminal import streams
for pieces in streams({seed}, {count}):
    sanitizer = Sanitizer()
    for piece in pieces:
        write(sys.stdout, sanitizer.feed(piece))
    write(sys.stdout, sanitizer.flush() + "\\n")
"""
PRINT_FILTERED = """
import re, sys
from app.terminal import write
from tests.hostile.terminal import streams
for pieces in streams({seed}, {count}):
    for piece in pieces:
        write(sys.stdout, re.sub({pattern!r}, "", piece))
    write(sys.stdout, "\\n")
"""
FILTERS = {
    "nothing": "(?!)",
    "colours": "\x1b\\[[0-9;]*m",
    "sequences": "\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -~])",
    "all-but-eight-bit": "[\x00-\x08\x0b-\x1f\x7f]|[\u200b-\u200f\u202a-\u202e\u2060-\u2069]",
    "controls-only": "[\x00-\x08\x0b-\x1f\x7f-\x9f]",
}
"""Sanitisers as one meets them: each takes out what it knows. All of them must be caught."""


def captured(code: str) -> bytes:
    """Run Python ``code`` on a pseudo-terminal; returns all bytes that came out of it."""
    leader, follower = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
            cwd=ROOT,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"},
        )
    finally:
        os.close(follower)
    chunks = []
    try:
        while chunk := os.read(leader, 65536):
            chunks.append(chunk)
    except OSError as error:  # the child has closed its side
        assert error.errno == errno.EIO
    finally:
        os.close(leader)
    output = b"".join(chunks)
    assert child.wait() == 0, output[-2000:].decode(errors="backslashreplace")
    return output


def findings(output: bytes) -> set[str]:
    """What is foreign in a terminal's output, whose line breaks the terminal device made ``\\r\\n``."""
    controls = {
        f"byte {byte:02X}" for byte in set(output.replace(b"\r\n", b"\n")) if byte < 0x20 or byte == 0x7F
    }
    eight_bit = {"C1 in UTF-8"} if re.search(rb"\xc2[\x80-\x9f]", output) else set()
    text = output.replace(b"\r\n", b"\n").decode()
    return (controls - {"byte 0A", "byte 09"}) | eight_bit | foreign(text)


def check(seed: int, count: int) -> None:
    output = captured(PRINT_SANITIZED.format(seed=seed, count=count))
    assert findings(output) == set()
    expected = "".join(sanitize("".join(pieces)) + "\n" for pieces in streams(seed, count))
    assert output.replace(b"\r\n", b"\n").decode() == expected


def test_twenty_thousand_hostile_streams_bring_no_control_to_the_terminal() -> None:
    check(seed=1, count=20_000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_hundreds_of_thousands_of_hostile_streams_bring_no_control_to_the_terminal(seed: int) -> None:
    check(seed=seed, count=50_000)


@pytest.mark.parametrize("name", FILTERS)
def test_a_weaker_sanitiser_is_caught_by_the_same_check(name: str) -> None:
    output = captured(PRINT_FILTERED.format(seed=1, count=500, pattern=FILTERS[name]))
    assert findings(output) != set()


def test_harmless_text_is_all_that_harmless_text_brings() -> None:
    assert captured("print('naïve\\t日本語')") == "naïve\t日本語\r\n".encode()
