"""The chat history at 100,000 messages: ``python -m benchmarks.bench_chats [--messages N] [--folder DIR]``.

Times are of single calls through ``app.chats.Chats``, fsyncs included, on the disk of DIR.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.chats import Chats
from quant.calibration.texts import builtin

TYPED = ("t", "th", "the", "the ", "the f", "the fence", '"of the"', "and -tom", "whitewash", "zzz")
CHAT_MESSAGES = 100


def fill(chats: Chats, messages: int) -> float:
    """Chats of a hundred turns of 3 to 300 words; seconds that it took, in one transaction."""
    words = " ".join(text.text for text in builtin("evaluation") if text.text).split()
    rng = random.Random(1)
    started = time.perf_counter()
    with chats._database.write():
        for _ in range(messages // CHAT_MESSAGES):
            chat, parent = chats.create(), None
            for turn in range(CHAT_MESSAGES):
                start = rng.randrange(len(words) - 300)
                text = " ".join(words[start : start + rng.randrange(3, 300)])
                parent = chats.add(chat.id, "assistant" if turn % 2 else "user", text, parent_id=parent).id
    return time.perf_counter() - started


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, Chats(Path(folder)) as chats:
        seconds = fill(chats, arguments.messages)
        path = chats.path
        assert path is not None
        print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.messages:,} messages")
        print(f"filled in {seconds:.1f} s, {path.stat().st_size / 2**20:.0f} MiB\n")
        for typed in TYPED:
            times = [timed(lambda typed=typed: chats.search(typed)) for _ in range(5)]  # type: ignore[misc]
            print(f"search {typed!r:16}{len(chats.search(typed)):3} hits  {statistics.median(times):6.1f} ms")
        chat = chats.create()
        turns = sorted(
            timed(lambda: chats.add(chat.id, "user", "word " * 200, parent_id=None)) for _ in range(500)
        )
        figures = ", ".join(f"{turns[place]:.2f}" for place in (250, 495, -1))
        print(f"a turn, durable   median, 99 %, worst: {figures} ms")
        print(f"list of all chats {timed(chats.list):.1f} ms")
        print(f"a chat opened     {timed(lambda: chats.branch(1)):.1f} ms")
        print(f"a chat deleted    {timed(lambda: chats.delete([2])):.0f} ms")


if __name__ == "__main__":
    main()
