"""The models: quality, the chart by layer, and two of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import pytest

from app.cli.front import EngineLike
from app.tui.compare_view import answer_text, style_of
from app.tui.comparing import Comparison, Stopped, divergence
from app.tui.host import Host
from app.tui.screens.compare import Compare
from app.tui.screens.models import Models
from quant.certificate.document import Certificate, Figures, SourceFacts, TensorFacts, to_json
from runtime.engine.config import EngineConfig
from runtime.engine.messages import Event, FinishedEvent, Timings, TokenEvent, TokenLogprob, Usage
from tests.app.fake_engine import FakeEngine
from tests.app.tui_kit import LARGE, SMALL, Stage, chat_of, text_of, until

FIGURES = Figures(
    tokens=6144,
    chunks=24,
    perplexity=12.5,
    perplexity_stderr=0.4,
    original_perplexity=12.1,
    original_perplexity_stderr=0.4,
    perplexity_ratio=1.033,
    perplexity_ratio_stderr=0.002,
    kl_mean=0.0317,
    kl_stderr=0.0021,
    kl_median=0.01,
    kl_p99=0.21,
    kl_max=1.5,
    top1_agreement=0.914,
    top1_stderr=0.004,
)


def certificate(*names: str) -> Certificate:
    return Certificate(
        tool="0.1.0",
        source=SourceFacts(name="Tiny-F16.gguf", sha256=("a" * 64,), types="F16", already_quantized=False),
        target="q4_k_m",
        figures=FIGURES,
        kl_kind="full",
        tensors=tuple(
            TensorFacts(
                name=name,
                source_type="F16",
                type="Q4_K",
                elements=1024,
                nbytes=576,
                encoder="feedback",
                error=0.001 * (number + 1),
            )
            for number, name in enumerate(names)
        ),
    )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.add_model("good", seed=0)
    stage.add_model("small", seed=1)
    store = stage.store
    made = certificate("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_up.weight")
    store.keep_certificate(store.get("small"), to_json(made))
    return stage


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_models_are_listed_with_quality_and_a_chart_of_their_layers(
    stage: Stage, size: tuple[int, int]
) -> None:
    async with stage.open(size) as (app, pilot):
        await pilot.press("f3")
        await until(pilot, lambda: isinstance(app.screen, Models) and "● good" in text_of(app))
        assert "0.0317 ± 0.0021" in text_of(app) and "91.4%" in text_of(app)
        await until(pilot, lambda: "localq did not quantize it" in text_of(app))
        await pilot.press("home") if app.screen.query_one("#models").highlighted else None  # type: ignore[attr-defined]
        await pilot.press("down")
        await until(pilot, lambda: "Tiny-F16.gguf" in text_of(app))
        await pilot.press("tab", "end")
        await until(pilot, lambda: "layer 0" in text_of(app) and "2.5e-03" in text_of(app))


async def test_enter_uses_a_model_from_now_on(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        before = chat_of(app).session.model  # type: ignore[union-attr]
        await pilot.press("f3")
        await until(pilot, lambda: "good" in text_of(app) and "BITS" in text_of(app))
        await pilot.press("down" if before == "good" else "up", "enter")
        other = "small" if before == "good" else "good"
        await until(pilot, lambda: app.host.loaded is not None and app.host.loaded.name == other)
        assert stage.engines[0].closed


async def test_a_model_gets_a_second_name_and_is_removed_after_a_question(stage: Stage) -> None:
    from textual.widgets import Input

    async with stage.open() as (app, pilot):
        await pilot.press("f3")
        await until(pilot, lambda: "BITS" in text_of(app) and "● " in text_of(app))
        await pilot.press("n")
        await until(pilot, lambda: "A second name" in text_of(app))
        app.screen.query_one(Input).value = "alias"
        await pilot.press("enter")
        await until(pilot, lambda: "alias" in text_of(app) and isinstance(app.screen, Models))
        await until(pilot, lambda: app.screen.current().manifest.name == "alias")  # type: ignore[attr-defined]
        await pilot.press("d")
        await until(pilot, lambda: "Remove this model?" in text_of(app))
        await pilot.press("2")
        await until(pilot, lambda: "alias" not in text_of(app))
        assert {model.name for model in stage.store.list()} == {"good", "small"}


async def test_the_model_that_answers_is_not_removed(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: app.host.loaded is not None)
        await pilot.press("f3")
        await until(pilot, lambda: "● " in text_of(app) and "BITS" in text_of(app))
        await pilot.press("d")
        await until(pilot, lambda: "It is loaded" in text_of(app))


# -- comparison ---------------------------------------------------------------------------------------------

WORDS = ("The", " sea", " is", " blue", " and", " cold", " grey")


@dataclass
class SpeakingEngine(FakeEngine):
    """Says words by script, with probabilities: ``likely`` gives those of the word at each position."""

    config: EngineConfig
    on_progress: Callable[[float], None] | None = None
    script: Sequence[int] = ()
    likely: Callable[[int], dict[int, float]] = field(default=lambda position: {})

    def __post_init__(self) -> None:
        super().__init__(self.config, self.on_progress)

    def tokenize(self, prompt: Any) -> tuple[int, ...]:
        return (100, 101)

    def submit(self, prompt: Any, **options: Any) -> Any:
        position = len(tuple(prompt)) - 2
        return _Spoken(self, position, options["max_tokens"], options["ignore_eos"])


class _Spoken:
    def __init__(self, engine: SpeakingEngine, position: int, most: int, ignore_eos: bool) -> None:
        self._engine, self._position, self._most = engine, position, most
        self._ignore_eos = ignore_eos

    def cancel(self) -> None:
        raise AssertionError("nobody cancels")

    def __iter__(self) -> Iterator[Event]:
        told = self._engine.script[self._position : self._position + self._most]
        if self._ignore_eos:
            likely = self._engine.likely(self._position)
            told = [max(likely, key=lambda token: likely[token])]
        for number, token in enumerate(told, self._position):
            likely = self._engine.likely(number)
            row = (
                TokenLogprob(token, WORDS[token].encode(), log(likely[token])),
                *(TokenLogprob(other, WORDS[other].encode(), log(p)) for other, p in likely.items()),
            )
            yield TokenEvent(id=1, text="", tokens=(token,), logprobs=(row,))
        yield FinishedEvent(id=1, reason="stop", usage=Usage(), timings=Timings())


def sure(script: Sequence[int], doubt: int, doubtful: dict[int, float]) -> Callable[[int], dict[int, float]]:
    """Probabilities: 0.9 for the word of the script, but at ``doubt``."""

    def likely(position: int) -> dict[int, float]:
        if position == doubt:
            return doubtful
        said = script[position]
        return {said: 0.9, (said + 1) % len(WORDS): 0.06}

    return likely


def speaking(stage: Stage) -> None:
    """``good`` says that the sea is blue, ``small`` that it is grey: there its doubts are great."""
    blue, grey = (0, 1, 2, 3, 4, 5), (0, 1, 2, 6)

    def make(config: EngineConfig, on_progress: Callable[[float], None] | None) -> EngineLike:
        stored = stage.store.paths(stage.store.get("good"))
        if config.model_paths == tuple(map(str, stored)):
            return SpeakingEngine(config, on_progress, blue, sure(blue, 3, {3: 0.8, 6: 0.1}))
        teacher = sure(blue, 3, {3: 0.2, 6: 0.7})
        return SpeakingEngine(config, on_progress, grey, teacher)

    stage.make_engine = make  # type: ignore[assignment]


async def test_a_comparison_shows_where_two_models_part_and_how_far_apart_they_are(stage: Stage) -> None:
    speaking(stage)
    async with stage.open(LARGE, model="good") as (app, pilot):
        await until(pilot, lambda: app.host.loaded is not None)
        app.push_screen(Compare("good", "How is the sea?"))
        await until(pilot, lambda: isinstance(app.screen, Compare) and "Run" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "first different token: 4 of 6" in text_of(app))
        await until(pilot, lambda: "same top token 83% of 6" in text_of(app))
        shown = text_of(app)
        assert "The sea is blue and cold" in shown and "The sea is grey" in shown
        # 0.8 ln(0.8/0.2) + 0.1 ln(0.1/0.7) + 0.1 ln(0.1/0.1), and 0 elsewhere
        assert "divergence 0.1524 a token, at most 0.91" in shown
        assert app.host.loaded is not None and app.host.loaded.name == "good"
        assert [engine.closed for engine in stage.engines] == [False, True]


def test_the_divergence_of_a_distribution_from_itself_is_zero_and_grows_with_the_difference() -> None:
    first = {1: log(0.5), 2: log(0.3)}
    assert divergence(first, first) == 0
    near = divergence(first, {1: log(0.45), 2: log(0.35)})
    far = divergence(first, {1: log(0.1), 2: log(0.7)})
    assert 0 < near < far


def test_the_divergence_over_shared_tokens_is_never_above_the_full_one() -> None:
    full = 0.7 * log(0.7 / 0.2) + 0.2 * log(0.2 / 0.5) + 0.1 * log(0.1 / 0.3)
    seen = divergence({1: log(0.7), 2: log(0.2)}, {1: log(0.2), 3: log(0.3)})
    assert 0 < seen <= full
    assert divergence({1: log(0.7), 2: log(0.2), 3: log(0.1)}, {1: log(0.2), 2: log(0.5), 3: log(0.3)}) == (
        pytest.approx(full)
    )


def test_a_comparison_can_be_stopped(stage: Stage) -> None:
    speaking(stage)
    app = stage.app()
    comparison = Comparison(Host(app.front, app.settings), "good", "small", "How?", 6)
    comparison.stop()
    with pytest.raises(Stopped):
        comparison.run()
    assert all(engine.closed for engine in stage.engines)


def test_colours_grow_with_the_divergence() -> None:
    assert not style_of(0.001)
    assert len({style_of(value) for value in (0.001, 0.05, 0.2, 2.0)}) == 4


def test_what_models_say_is_made_harmless_in_a_comparison() -> None:
    from app.tui.comparing import Compared, Step

    seen = Compared(first=[Step(1, b"\x1b[2", {}), Step(2, b"J \xe2\x82", {}), Step(3, b"\xac", {})])
    assert answer_text(seen, left=True).plain == "␛[2J €"
