"""The app over the demo model, in a real worker process; and in a real terminal, killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.chats import Chats
from app.cli.front import Front
from app.hub.known import KNOWN
from app.settings import Settings
from app.store import Store
from app.tui.app import LocalqApp, Opening
from app.tui.comparing import Comparison
from app.tui.host import Host
from app.tui.preferences import Preferences
from tests.app.pseudo_terminal import PseudoTerminal
from tests.app.tui_kit import answered, chat_of, say, text_of, until

pytestmark = pytest.mark.model
GREEDY = Preferences(temperature=0.0, max_tokens=48)


@pytest.fixture
def home(tmp_path: Path, demo_path: Path) -> Path:
    """A store that has the demo model, linked."""
    Store(tmp_path / "home").import_file(demo_path, "demo", link=True, known=KNOWN)
    return tmp_path / "home"


def new_app(home: Path, preferences: Preferences = GREEDY) -> LocalqApp:
    return LocalqApp(Front(), Settings(home=home), Opening(model="demo", preferences=preferences))


async def ready(app: LocalqApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: app.host.loaded is not None, 60)


async def test_the_demo_model_answers_and_is_asked_again_with_what_it_said(home: Path) -> None:
    async with new_app(home).run_test(size=(100, 30)) as pilot:
        app = pilot.app
        assert isinstance(app, LocalqApp)
        await ready(app, pilot)
        await say(pilot, "What is the capital of France? Answer in one sentence.")
        await until(pilot, lambda: "Paris" in text_of(app), 60)
        await answered(pilot)
        await say(pilot, "And of Spain?")
        await until(pilot, lambda: "Madrid" in text_of(app), 60)
        await answered(pilot, 2)
        assert "tok/s" in text_of(app) and app.failures == []


async def test_the_worker_is_killed_in_mid_answer_and_the_next_try_succeeds(home: Path) -> None:
    long = Preferences(temperature=0.0, max_tokens=3000)  # for longer than it takes to be killed
    async with new_app(home, long).run_test(size=(100, 30)) as pilot:
        app = pilot.app
        assert isinstance(app, LocalqApp)
        await ready(app, pilot)
        await say(pilot, "Count from one to fifty in words, separated by commas.")
        chat = chat_of(app)
        await until(pilot, lambda: chat.transcript.entries[-1]._characters > 20, 60)
        assert app.host.loaded is not None and app.host.loaded.engine.pid is not None
        os.kill(app.host.loaded.engine.pid, signal.SIGKILL)
        await answered(pilot)
        with Chats(home) as chats:
            message = chats.branch(1)[-1]
            assert message.state == "failed" and len(message.content) > 20
        assert "F5 tries again" in text_of(app)
        await pilot.press("f5")
        await until(pilot, lambda: chat.answering is not None and chat.answering.stage == "writing", 60)
        await pilot.press("escape")
        await until(pilot, lambda: chat.answering is None, 30)
        with Chats(home) as chats:
            assert chats.branch(1)[-1].state == "stopped"


async def test_an_answer_that_is_continued_reads_on(home: Path) -> None:
    short = Preferences(temperature=0.0, max_tokens=4)
    async with new_app(home, short).run_test(size=(100, 30)) as pilot:
        app = pilot.app
        assert isinstance(app, LocalqApp)
        await ready(app, pilot)
        await say(pilot, "What is the capital of France? Answer in one sentence.")
        await until(pilot, lambda: "the limit of tokens is reached" in text_of(app), 60)
        await answered(pilot)
        await say(pilot, "/continue")
        await until(pilot, lambda: "The capital of France is Paris." in text_of(app), 60)
    with Chats(home) as chats:
        assert chats.branch(1)[-1].content == "The capital of France is Paris."


def test_a_model_compared_with_itself_never_parts_from_it(home: Path) -> None:
    store = Store(home)
    store.copy("demo", "same")
    comparison = Comparison(Host(Front(), Settings(home=home)), "demo", "same", "Name three colours.", 16)
    seen = comparison.run()
    assert seen.parting is None and seen.comparable and len(seen.divergence) == len(seen.first) > 3
    assert max(seen.divergence) < 1e-3 and all(seen.agrees)


# -- a real terminal ----------------------------------------------------------------------------------------


def environment(home: Path) -> dict[str, str]:
    config = home.parent / "config.toml"
    config.touch()
    return {
        **os.environ,
        "LOCALQ_HOME": str(home),
        "LOCALQ_CONFIG": str(config),
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "30",
        "LOCALQ_CHATS": "app",
    }


LOCALQ = [sys.executable, "-m", "app.cli.main"]


@pytest.mark.slow
def test_no_acknowledged_turn_is_lost_by_a_kill(home: Path) -> None:
    generator = random.Random(11)
    for number in range(40):
        with PseudoTerminal([*LOCALQ, "chat", "demo"], environment(home)) as terminal:
            terminal.expect("0/4,096", 60)
            terminal.send(f"Question {number}: tell me of rivers".encode())
            time.sleep(0.2)
            terminal.send(b"\r")
            terminal.pause(generator.uniform(0, 2.5))
            shown = terminal.seen
            os.kill(terminal.process.pid, signal.SIGKILL)
            terminal.process.wait()
        with Chats(home) as chats:
            kept = {message.content for message in chats.tree(chats.list()[0].id).by_id.values()}
        if b"waiting" in shown or b"reading" in shown or b"writing" in shown:
            # After a kill that came before Enter was read, the question before stands in front: the draft.
            assert any(content.endswith(f"Question {number}: tell me of rivers") for content in kept), number
