"""What a screen makes of the events of a pull and a quantization."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.hub.api import RemoteFile
from app.hub.pull import FileEvent
from app.hub.pull import PlannedEvent as FetchPlanned
from app.tui.making import Making, ScreenOutput, Stopped
from app.tui.making_view import making_text
from quant.certificate.document import TensorFacts
from quant.progress import PhaseEvent, TensorEvent, WarningEvent
from tests.hostile.terminal import foreign

FILES = tuple(RemoteFile(f"model-{number}.safetensors", 1000, None, "0" * 40) for number in (1, 2))


def facts(layer: int, **changes: Any) -> TensorFacts:
    given: dict[str, Any] = {
        "name": f"blk.{layer}.ffn_up.weight",
        "source_type": "F16",
        "type": "Q4_K",
        "elements": 1000,
        "nbytes": 562,
        "encoder": "feedback",
        "error": 0.001,
    }
    return TensorFacts(**(given | changes))


class Clock(SimpleNamespace):
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def making(clock: Clock) -> Making:
    return Making(clock)


def test_files_have_bars_with_speed_and_time_left(making: Making, clock: Clock) -> None:
    making.hear(FetchPlanned(FILES, 2000, 2000, 10**9))
    clock.now = 1.0
    making.hear(FileEvent(FILES[0], 500, 0, 500, 2000, None))
    said = making_text(making, 100).plain
    assert "fetch" in said and " 25%" in said and "500 B/s" in said and "3 s left" in said
    assert "model-1.safetensors" in said and "model-2.safetensors" in said


def test_a_file_that_is_converted_as_it_comes_leaves_fetching_under_way(making: Making) -> None:
    making.hear(FetchPlanned(FILES, 2000, 2000, 10**9))
    making.hear(FileEvent(FILES[0], 1000, 1000, 1000, 2000, None))
    making.hear(PhaseEvent("convert", 1, 4))
    assert [(step.name, step.state) for step in making.steps.values()] == [
        ("fetch", "now"),
        ("convert", "now"),
    ]
    making.hear(FileEvent(FILES[1], 1000, 1000, 2000, 2000, None))
    making.hear(PhaseEvent("convert", 4, 4))
    making.hear(PhaseEvent("calibrate", 0, 1000))
    assert [step.state for step in making.steps.values()] == ["done", "done", "now"]


def test_layers_are_drawn_with_bits_and_error_as_they_are_made(making: Making) -> None:
    making.hear(TensorEvent(facts(0), 1, 9, False, 60.0))
    making.hear(TensorEvent(facts(1, nbytes=1062, type="Q8_0", error=0.002), 2, 9, False, 50.0))
    making.hear(PhaseEvent("encode", 2, 9))
    said = making_text(making, 100).plain
    assert "tensor 2 of 9, 50 s left" in said and "layer 0 to layer 1" in said
    assert "8.50 most" in said and "2.0e-03 most" in said
    assert "blk.1.ffn_up.weight  F16 → Q8_0, error 2.0e-03" in said


@pytest.mark.parametrize("width", [40, 76, 116])
def test_no_line_is_wider_than_the_screen_and_nothing_hostile_is_in_it(making: Making, width: int) -> None:
    evil = "\x1b]0;x\x07\u202e" + "long " * 40
    making.hear(FetchPlanned((RemoteFile(evil, 10**12, None, "0" * 40), *FILES), 10**12, 10**12, 1))
    making.hear(WarningEvent(evil))
    making.hear(TensorEvent(facts(0, name=evil), 1, 2, False, None))
    for layer in range(200):
        making.hear(TensorEvent(facts(layer), 1, 2, False, None))
    making.begin("plan", evil)
    for line in making_text(making, width).plain.splitlines():
        assert len(line) <= width and foreign(line) == set()


def test_what_a_command_prints_comes_to_the_screen_and_stop_ends_it(making: Making) -> None:
    out = ScreenOutput(making)
    out.note("a note")
    out.warn("a warning")
    with out.progress("asking for org/model"):
        assert making.steps["plan"].words == "asking for org/model"
    assert making.notes == ["a note", "a warning"]
    making.stop = True
    with pytest.raises(Stopped):
        out.hear(PhaseEvent("encode", 1, 2))
