"""Long system prompts whose state outlives the server."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.app.server_process import ServerProcess, serving

pytestmark = pytest.mark.model

WORDS = ("river", "stone", "window", "paper", "green", "market", "seven", "morning", "letter", "garden")
SYSTEM = "You answer questions about these words. " + " ".join(random.Random(1).choices(WORDS, k=600))
OPTIONS = ("--ctx", "1024", "--slots", "2")


def ask(server: ServerProcess, question: str, **more: Any) -> tuple[str, dict[str, int], float]:
    """The answer, the details of its prompt, and the milliseconds that the prompt took."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    answer = server.post(
        "/v1/chat/completions", {"messages": messages, "max_tokens": 12, "temperature": 0, **more}
    )
    return (
        answer["choices"][0]["message"]["content"],
        answer["usage"]["prompt_tokens_details"],
        answer["timings"]["prompt_ms"],
    )


def files(folder: Path) -> list[Path]:
    return sorted((folder / "home" / "prefixes").glob("*.prefix"))


def wait_for_files(folder: Path, count: int) -> None:
    limit = time.monotonic() + 5
    while len(files(folder)) != count:
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_the_next_server_reads_it_from_the_disk(demo_path: Path, tmp_path: Path) -> None:
    words = (str(demo_path), *OPTIONS, "--prefix-cache", "1G")
    with serving(tmp_path, *words) as server:
        first, details, slow = ask(server, "Which word is green?")
        assert details == {"cached_tokens": 0, "disk_tokens": 0}
        wait_for_files(tmp_path, 1)
        other, details, _ = ask(server, "Which word flows?")
        assert details["cached_tokens"] > 500 and details["disk_tokens"] == 0
        server.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": SYSTEM}], "max_tokens": 1}
        )
        assert len(files(tmp_path)) == 1  # what a person says is not kept
    with serving(tmp_path, *words) as server:
        again, details, quick = ask(server, "Which word flows?")
        assert again == other
        assert details["cached_tokens"] == details["disk_tokens"] > 500
        assert quick < slow / 2
        assert ask(server, "Which word is green?")[0] == first
        assert ask(server, "Which word is green?", cache_prompt=False)[1]["cached_tokens"] == 0
        tools = server.post(
            "/v1/messages",
            {"messages": [{"role": "user", "content": "x"}], "system": SYSTEM, "max_tokens": 1},
        )
        assert tools["usage"]["cache_read_input_tokens"] > 500


def test_a_damaged_file_is_ignored_and_the_log_says_so(demo_path: Path, tmp_path: Path) -> None:
    words = (str(demo_path), *OPTIONS, "--prefix-cache", "1G")
    with serving(tmp_path, *words) as server:
        first, _, _ = ask(server, "Which word is green?")
        wait_for_files(tmp_path, 1)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with serving(tmp_path, *words) as server:
        again, details, _ = ask(server, "Which word is green?")
        assert again == first and details["disk_tokens"] == 0
        assert "damaged" in server.log.read_text()
        wait_for_files(tmp_path, 1)  # it has been written again
        assert SYSTEM[:40] not in server.log.read_text()


def test_nothing_is_kept_unless_it_is_asked_for_and_no_more_than_that(
    demo_path: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, str(demo_path), *OPTIONS) as server:
        ask(server, "Which word is green?")
    assert not (tmp_path / "home" / "prefixes").exists()
    with serving(tmp_path, str(demo_path), *OPTIONS, "--prefix-cache", "1M") as server:
        ask(server, "Which word is green?")
        time.sleep(0.5)
    assert files(tmp_path) == []
