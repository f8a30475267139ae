"""The chat in this process: what it asks the engine, what it remembers, what it says."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.cli.answer import AnswerOptions, collect
from app.cli.front import Front, GenerationLike
from app.cli.interrupt import Interrupts, NoReaction, interrupts_cancel
from app.cli.output import Output
from app.cli.repl import Repl
from runtime.engine.config import EngineConfig
from runtime.engine.messages import Event, TokenEvent
from runtime.errors import EngineError
from tests.app.fake_engine import FakeEngine, FakeGeneration, Request


class Chat:
    """A chat whose lines are given at once; an exception among them is raised where it stands."""

    def __init__(self, *lines: str | BaseException, **settings: Any) -> None:
        self.engine = FakeEngine(EngineConfig(model_paths=("a",)))
        self._lines = iter([*lines, EOFError()])
        front = Front(Output(quiet=settings.pop("quiet", False)), model="tiny")
        options = settings.pop("options", AnswerOptions())
        self.repl = Repl(front, self.engine, options, self._read, context_tokens=100, **settings)
        self.repl.run()

    def _read(self, _prompt: str) -> str:
        line = next(self._lines)
        if isinstance(line, BaseException):
            raise line
        return line

    @property
    def asked(self) -> list[list[str]]:
        """Contents of the messages of every request."""
        return [[str(message["content"]) for message in request.messages] for request in self.engine.requests]


def test_a_conversation_grows_by_both_sides() -> None:
    assert Chat("one", "two").asked == [["one"], ["one", "You said: one", "two"]]


def test_empty_lines_and_lines_dropped_by_ctrl_c_ask_nothing() -> None:
    assert Chat("", "   ", KeyboardInterrupt(), "one").asked == [["one"]]


def test_clear_forgets_the_turns_and_keeps_the_system_prompt() -> None:
    assert Chat("one", "/clear", "two", system="S").asked == [["S", "one"], ["S", "two"]]


def test_a_new_system_prompt_begins_a_new_conversation() -> None:
    assert Chat("one", "/system S", "two").asked == [["one"], ["S", "two"]]


def test_a_failed_answer_leaves_no_trace_in_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    assert Chat("one", "die", "two").asked[-1] == ["one", "You said: one", "two"]
    assert "next: localq doctor" in capsys.readouterr().err


def test_an_empty_answer_leaves_no_trace_either() -> None:
    assert Chat("nothing", "two").asked[-1] == ["two"]


def test_the_first_prompt_that_is_too_long_does_not_propose_clear(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Chat("overflow")
    assert "/clear" not in capsys.readouterr().err
    Chat("one", "overflow")
    assert "/clear forgets" in capsys.readouterr().err


def test_what_was_asked_for_is_said_even_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Chat("/help", "/stats", "/system", "one", "/stats", "/nonsense", "/bye", quiet=True)
    err = capsys.readouterr().err
    for part in ("/clear", "no answer yet", "no system prompt", "context 11 of 100", "no command /nonsense"):
        assert part in err
    assert "Type a prompt" not in err


def test_raw_prompts_carry_no_conversation() -> None:
    chat = Chat("one", "/system S", "two", options=AnswerOptions(raw=True))
    assert [request.text for request in chat.engine.requests] == ["one", "two"]
    assert chat.asked == [[], []]


def test_an_interrupted_answer_stays_as_far_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    chat = Chat("forever", "two")
    question, answer, then = chat.asked[-1]
    assert (question, then) == ("forever", "two")
    assert answer.startswith("x x ")
    assert "(stopped)" in capsys.readouterr().err


def test_an_interrupt_between_two_answers_ends_no_chat(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_repl: Repl, _answer: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Repl, "_comment", interrupt)
    assert Chat("one", "two").asked[-1] == ["one", "You said: one", "two"]
    assert "Ctrl-D or /bye leaves" in capsys.readouterr().err


def test_an_interrupt_before_the_answer_begins_takes_the_question_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_given: object, **_options: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("app.cli.repl.collect", interrupt)
    assert Chat("one", "two").asked == [["two"]]


class TestInterrupts:
    def test_one_that_comes_soon_after_the_first_is_announced_and_a_late_one_raised(self) -> None:
        heard: list[str] = []
        with pytest.raises(NoReaction), interrupts_cancel(0.2, lambda: heard.append("soon")):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == ["soon"]
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        assert heard == ["soon"]

    def test_an_interrupt_before_the_generation_is_there_cancels_it_at_once(self) -> None:
        generation = FakeGeneration("forever", Request("forever"))

        def start() -> GenerationLike:
            os.kill(os.getpid(), signal.SIGINT)
            return generation

        answer = collect(start, lambda _text: None)
        assert answer.cancelled

    def test_the_second_interrupt_is_not_held_back(self) -> None:
        with pytest.raises(KeyboardInterrupt), interrupts_cancel() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.happened
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    def test_the_handler_of_before_is_back_afterwards(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with interrupts_cancel():
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before

    def test_another_thread_leaves_interrupts_alone(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        seen = []

        def work() -> None:
            with interrupts_cancel() as interrupts:
                seen.append((signal.getsignal(signal.SIGINT), interrupts.happened))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [(before, False)]

    def test_cancelling_waits_for_no_lock_of_the_interrupted_code(self) -> None:
        lock, interrupts = threading.Lock(), Interrupts()

        class Locked:
            def cancel(self) -> None:
                with lock:
                    done.set()

            def __iter__(self) -> Iterator[Event]:
                return iter(())

        done = threading.Event()
        interrupts.attach(Locked())
        with lock:
            interrupts.interrupt()
            assert not done.is_set()
        assert done.wait(5)


def test_an_answer_without_an_end_is_an_error_and_not_an_answer() -> None:
    class Cut:
        def cancel(self) -> None:
            raise AssertionError

        def __iter__(self) -> Iterator[Event]:
            yield TokenEvent(id=1, text="a", tokens=(1,))

    with pytest.raises(EngineError, match="without saying how"):
        collect(Cut, lambda _text: None)
