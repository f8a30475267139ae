"""A model that ``localq serve`` has in memory is asked there, and not loaded a second time."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from app.hub.known import KNOWN
from app.store import Store
from app.tui.app import LocalqApp
from app.tui.preferences import Preferences
from tests.app.server_process import serving
from tests.app.test_tui_with_model import new_app, ready
from tests.app.tui_kit import answered, chat_of, say, text_of, until

pytestmark = pytest.mark.model


async def test_a_served_model_answers_goes_on_stops_and_may_be_lost(
    tmp_path: Path, demo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    Store(home).import_file(demo_path, "demo", link=True, known=KNOWN)
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, "demo", "--ctx", "2048") as server:
        server.post("/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 1})
        short = Preferences(temperature=0.0, max_tokens=4)
        async with new_app(home, short).run_test(size=(100, 30)) as pilot:
            app = pilot.app
            assert isinstance(app, LocalqApp)
            await ready(app, pilot)
            assert app.host.loaded is not None and app.host.loaded.served
            assert [app.host.loaded.engine.pid] == server.worker_pids()
            await say(pilot, "What is the capital of France? Answer in one sentence.")
            await until(pilot, lambda: "the limit of tokens is reached" in text_of(app), 60)
            await answered(pilot)
            await say(pilot, "/continue")
            await until(pilot, lambda: "The capital of France is Paris." in text_of(app), 60)
            await answered(pilot)
            assert "tok/s" in text_of(app) and "/2,048" in text_of(app)
        long = Preferences(temperature=0.0, max_tokens=600)
        async with new_app(home, long).run_test(size=(100, 30)) as pilot:
            app = pilot.app
            assert isinstance(app, LocalqApp)
            chat = chat_of(app)
            await ready(app, pilot)
            await pilot.press("ctrl+n")
            await say(pilot, "Count from one to fifty in words, separated by commas.")
            await until(pilot, lambda: chat.transcript.entries[-1]._characters > 20, 60)
            await pilot.press("escape")
            await answered(pilot)
            assert "stopped" in text_of(app)
            await until(pilot, lambda: server.get("/v1/running")["running"] == 0, 30)
            await pilot.press("f5")
            await until(pilot, lambda: chat.transcript.entries[-1]._characters > 20, 60)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            await until(pilot, lambda: "ended, and the model with it" in text_of(app), 30)
            await pilot.press("f5")  # loads it here
            await until(pilot, lambda: app.host.loaded is not None and not app.host.loaded.served, 60)
            await pilot.press("escape")
            await answered(pilot)


async def test_a_model_that_is_wanted_otherwise_is_loaded_here(tmp_path: Path, demo_path: Path) -> None:
    home = tmp_path / "home"
    Store(home).import_file(demo_path, "demo", link=True, known=KNOWN)
    with serving(tmp_path, "demo", "--ctx", "2048") as server:
        server.post("/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 1})
        other = Preferences(temperature=0.0, context=1024)
        async with new_app(home, other).run_test(size=(100, 30)) as pilot:
            app = pilot.app
            assert isinstance(app, LocalqApp)
            await ready(app, pilot)
            assert app.host.loaded is not None and app.host.loaded.served == ""
