from __future__ import annotations

import pytest

from runtime.engine.backoff import LONGEST_SECONDS, Backoff
from runtime.engine.pace import MINIMUM_TOKENS, STALL_FACTOR, Pace


def test_before_anything_is_measured_a_few_tokens_are_tried() -> None:
    assert Pace().prompt_tokens(512) == 4 * MINIMUM_TOKENS
    assert Pace().prompt_tokens(5) == 5


def test_prompt_tokens_stretch_a_pass_by_the_stall_factor_at_most() -> None:
    pace = Pace()
    pace.observe(answers=4, prompt_tokens=0, seconds=0.050)
    pace.observe(answers=0, prompt_tokens=500, seconds=1.0)  # 2 ms a token
    assert pace.prompt_tokens(512) == STALL_FACTOR * 0.050 / 0.002
    assert pace.prompt_tokens(20) == 20


def test_slow_prompts_still_move() -> None:
    pace = Pace()
    pace.observe(4, 0, 0.001)
    pace.observe(0, 100, 10.0)
    assert pace.prompt_tokens(512) == MINIMUM_TOKENS


def test_the_measure_follows_a_change() -> None:
    pace = Pace()
    pace.observe(0, 100, 0.1)
    for _ in range(40):
        pace.observe(1, 0, 0.010)
    before = pace.prompt_tokens(512)
    for _ in range(40):
        pace.observe(1, 0, 0.030)
    assert pace.prompt_tokens(512) > 2.5 * before


def test_passes_of_answers_and_prompts_together_teach_it_too() -> None:
    pace = Pace()
    for _ in range(40):
        pace.observe(answers=2, prompt_tokens=0, seconds=0.020)
        pace.observe(answers=2, prompt_tokens=40, seconds=0.520)  # 12.5 ms a token
    assert pace.prompt_tokens(512) == MINIMUM_TOKENS
    for _ in range(40):
        pace.observe(answers=2, prompt_tokens=40, seconds=0.040)  # 0.5 ms a token
    assert 78 <= pace.prompt_tokens(512) <= 80


def test_a_first_death_costs_no_wait_and_the_next_ones_double_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    backoff = Backoff()
    waits = []
    for _ in range(9):
        backoff.died()
        waits.append(backoff.seconds)
    assert waits[:4] == [0.0, 0.25, 0.5, 1.0]
    assert waits[-1] == LONGEST_SECONDS
    backoff.worked()
    assert backoff.seconds == 0.0


def test_time_since_the_death_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    backoff = Backoff()
    for _ in range(4):
        backoff.died()
    assert backoff.seconds == 1.0
    now[0] += 0.75
    assert backoff.seconds == 0.25
    now[0] += 5
    assert backoff.seconds == 0.0
