"""What the terminal app costs: its first frame, its memory after a long chat, a key's echo under a stream.

    python -m benchmarks.bench_tui

The engine is one by script that says 100 tokens a second, so that what is measured is the front alone.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIRST_FRAME = b"History"
"""Of the line of keys at the bottom, which the first frame ends with."""
TOKENS_A_SECOND = 100
ANSWER = (
    "Some **words** in a paragraph that goes on for a line or two, with `code`.\n\n"
    "```python\ndef f(x):\n    return x + 1  # a comment\n```\n\n- one\n- two\n\n"
)


def first_frame(home: Path, repetitions: int) -> list[float]:
    """CPU seconds of ``localq``, all of its threads, when its terminal has the first frame (Linux only).

    Modules come as bytecode, as an installation has them, also where ``PYTHONDONTWRITEBYTECODE`` is set: one
    start more, which is not counted, writes it into a folder of its own.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        config = Path(folder) / "config.toml"
        config.touch()
        environment |= {
            "TERM": "xterm-256color",
            "LOCALQ_HOME": str(home),
            "LOCALQ_CONFIG": str(config),
            "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode"),
        }
        for _ in range(1 + repetitions):
            seconds.append(_first_frame(environment))
    return seconds[1:]


def _first_frame(environment: dict[str, str]) -> float:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    try:
        seen = b""
        while FIRST_FRAME not in seen:
            seen += os.read(leader, 65536)
        return _cpu_seconds(child.pid)
    finally:
        child.kill()
        child.wait()
        os.close(leader)


def _cpu_seconds(pid: int) -> float:
    """Of all threads that there are; to the nanosecond, where ``/proc/PID/stat`` counts in hundredths."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class StreamingEngine:
    """Says ``ANSWER`` again and again, ``TOKENS_A_SECOND``."""

    def __init__(self, config: Any, on_progress: Any) -> None:
        self.config = config

    def start(self) -> Any:
        from runtime.engine.messages import ModelInfo

        return ModelInfo(
            description="",
            architecture="llama",
            parameters=1,
            size_bytes=1,
            trained_context_tokens=512,
            context_tokens=self.config.context_tokens,
            slots=1,
            threads=1,
            vocabulary_size=300,
            chat_template="",
            bos_text="",
            eos_text="",
            control_texts=(),
            load_seconds=0.0,
        )

    def render(self, messages: Any, *, variables: Any = None) -> Any:
        from runtime.engine.messages import Prompt

        return Prompt("prompt")

    def tokenize(self, prompt: Any) -> tuple[int, ...]:
        return (1,)

    def submit(self, prompt: Any, **options: Any) -> Any:
        return _Stream()

    pid = None

    def close(self) -> None:
        return None


class _Stream:
    def __init__(self) -> None:
        self._stopped = False

    def cancel(self) -> None:
        self._stopped = True

    def __iter__(self) -> Iterator[Any]:
        from runtime.engine.messages import FinishedEvent, Timings, TokenEvent, Usage

        began, count = time.monotonic(), 0
        while not self._stopped:
            text = ANSWER[(4 * count) % len(ANSWER) :][:4]
            yield TokenEvent(id=1, text=text, tokens=(count,))
            count += 1
            time.sleep(max(0.0, began + count / TOKENS_A_SECOND - time.monotonic()))
        yield FinishedEvent(
            id=1, reason="cancelled", usage=Usage(output_tokens=count), timings=Timings(decode_seconds=1.0)
        )


def fill(home: Path, messages: int) -> None:
    """A model, and a chat of so many messages of a few hundred words."""
    from app.chats import Chats, Role
    from app.store import Store
    from tests.app.tiny_model import write_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        Store(home).import_file(write_tiny_model(Path(folder) / "tiny.gguf"), "tiny")
    with Chats(home) as chats:
        chat_id = chats.create(model="tiny").id
        parent = None
        for number in range(messages):
            text = ANSWER * 8 if number % 2 else "A question of some words. " * 4
            role: Role = "assistant" if number % 2 else "user"
            parent = chats.add(chat_id, role, text, parent_id=parent, model="tiny").id
        chats.keep_state("place", json.dumps({"chat_id": chat_id, "model": "tiny"}))


async def use(home: Path, seconds: float) -> dict[str, float]:
    """Opens the long chat, scrolls through all of it, streams an answer and types into the editor."""
    import psutil

    from app.cli.front import Front
    from app.settings import Settings
    from app.tui.app import LocalqApp, Opening

    app = LocalqApp(Front(open_engine=StreamingEngine), Settings(home=home), Opening())  # type: ignore[arg-type]
    echoes: list[float] = []
    async with app.run_test(size=(120, 36)) as pilot:
        await app.begun.wait()
        chat = app.chat_screen
        assert chat is not None
        chat.transcript.scroll_home(animate=False)
        for _ in range(400):
            chat.transcript.scroll_page_down(animate=False)
            await asyncio.sleep(0.005)
        memory = psutil.Process().memory_info().rss
        chat.editor.put("Go")
        await pilot.press("enter")
        await asyncio.sleep(1.0)
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.sleep(5.0)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before, length = time.monotonic(), len(chat.editor.text)
            app.post_message(_key("a"))
            while len(chat.editor.text) == length:
                await asyncio.sleep(0.0005)
            drawn = asyncio.Event()
            chat.call_after_refresh(drawn.set)
            await drawn.wait()
            echoes.append(time.monotonic() - before)
            await asyncio.sleep(0.04)
        chat.action_stop()
        await asyncio.sleep(0.5)
    echoes.sort()
    return {
        "front_mib": memory / (1 << 20),
        "stream_share_of_a_core": share,
        "echo_median_ms": 1000 * statistics.median(echoes),
        "echo_p99_ms": 1000 * echoes[int(0.99 * (len(echoes) - 1))],
        "keys": len(echoes),
    }


def _key(character: str) -> Any:
    from textual.events import Key

    return Key(character, character)


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        fill(home, options.messages)
        frames = first_frame(home, options.repetitions)
        found: dict[str, float] = {
            "first_frame_cpu_ms_median": 1000 * statistics.median(frames),
            "first_frame_cpu_ms_least": 1000 * min(frames),
        }
        found |= asyncio.run(use(home, options.seconds))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
