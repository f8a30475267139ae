"""Evaluations: their statistics against hand-made scores, then whole ones with models of bytes."""

from __future__ import annotations

import math
import random
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from quant.calibration.texts import builtin
from quant.errors import JobFailed, TextTooShort
from quant.evaluation.evaluate import Evaluation, EvaluationText, evaluate
from quant.evaluation.memory import plan_scoring
from quant.evaluation.result import Compared, Figures, Scores, figures, standard_error
from runtime.engine.job import run_job
from runtime.engine.peak import peak_memory_bytes
from runtime.engine.score_messages import ScoreRequest
from runtime.errors import (
    DoesNotFit,
    GgufError,
    InvalidRequest,
    JobCancelled,
    ModelLoadFailed,
    VocabulariesDiffer,
)
from runtime.gguf import open_model
from runtime.hardware import this_machine
from tests.runtime.byte_model import write_byte_model

F64 = NDArray[np.float64]
WORDS = ("the", "harbour", "lay", "quiet", "under", "first", "snow", "and", "a", "man", "walked", "along")


def tale(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


TEXTS = (EvaluationText("prose", tale(1)), EvaluationText("code", tale(2)))


def judge(model: Path, **options: Any) -> Evaluation:
    given: dict[str, Any] = {"texts": TEXTS, "context": 64, "chunks": 6, "threads": 2} | options
    return evaluate(model, **given)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_model(tmp_path_factory.mktemp("models") / "original.gguf")


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_model(tmp_path_factory.mktemp("models") / "rounded.gguf", noise=0.03)


class TestFigures:
    def scores(self, seed: int = 0, text_chunks: tuple[int, ...] = (4, 6)) -> Scores:
        draw = np.random.default_rng(seed)
        shape = sum(text_chunks), 31
        level = draw.normal(-2, 0.5, size=(shape[0], 1))
        mine = level + 0.3 * draw.standard_normal(shape)
        compared = Compared(
            mine + 0.1 * draw.standard_normal(shape),
            draw.exponential(0.05, size=shape),
            (draw.random(shape) < 0.9).astype(np.float64),
        )
        return Scores(text_chunks, mine, compared)

    def test_they_are_means_and_quantiles_of_the_tokens(self) -> None:
        scores = self.scores()
        assert scores.compared is not None
        found = Figures(**figures(scores))
        flat = scores.compared.divergence.ravel()
        ordered = sorted(flat.tolist())
        place = 0.99 * (len(ordered) - 1)
        below = ordered[int(place)]
        assert (found.tokens, found.chunks) == (310, 10)
        assert found.perplexity == pytest.approx(math.exp(-math.fsum(scores.log_probability.ravel()) / 310))
        assert found.kl_mean == pytest.approx(math.fsum(flat) / 310)
        assert found.kl_median == pytest.approx((ordered[154] + ordered[155]) / 2)
        assert found.kl_p99 == pytest.approx(below + place % 1 * (ordered[int(place) + 1] - below))
        assert found.kl_max == max(ordered)
        assert found.top1_agreement == scores.compared.agrees.mean()
        assert found.original_perplexity is not None and found.perplexity_ratio is not None
        assert found.perplexity_ratio == pytest.approx(found.perplexity / found.original_perplexity)

    def test_without_an_original_there_is_perplexity_alone(self) -> None:
        found = Figures(**figures(Scores((2,), np.full((2, 31), -1.5))))
        assert found.perplexity == pytest.approx(math.exp(1.5))
        assert found.perplexity_stderr == 0.0
        assert found.kl_mean is None and found.top1_agreement is None and found.original_perplexity is None

    def test_errors_come_from_chunks_not_from_tokens(self) -> None:
        """Tokens of a chunk that are all alike count once."""
        level = np.array([1.0, 2.0, 4.0, 5.0])
        wide = np.repeat(level[:, None], 100, axis=1)
        expected = math.sqrt(level.var(ddof=1) / 4)
        assert standard_error(wide, (4,)) == pytest.approx(expected)
        assert wide.std(ddof=1) / math.sqrt(wide.size) < expected / 5

    def test_the_difference_between_texts_is_no_error(self) -> None:
        scores = np.array([[1.0], [1.2], [9.0], [9.2], [9.4]])
        expected = math.sqrt(0.4**2 * 0.02 / 2 + 0.6**2 * 0.04 / 3)
        assert standard_error(scores, (2, 3)) == pytest.approx(expected)
        assert standard_error(scores, (5,)) > 10 * expected

    def test_the_error_is_as_large_as_the_spread_of_repeated_evaluations(self) -> None:
        found = [Figures(**figures(self.scores(seed))) for seed in range(400)]
        spread = float(np.std([each.perplexity for each in found], ddof=1))
        typical = float(np.mean([each.perplexity_stderr for each in found]))
        assert typical == pytest.approx(spread, rel=0.15)

    def test_a_ratio_is_known_better_than_what_it_is_of(self) -> None:
        found = Figures(**figures(self.scores()))
        assert found.perplexity_ratio is not None and found.perplexity_ratio_stderr is not None
        relative = found.perplexity_ratio_stderr / found.perplexity_ratio
        assert relative < 0.2 * found.perplexity_stderr / found.perplexity

    def test_one_chunk_has_no_error(self) -> None:
        assert math.isnan(standard_error(np.ones((3, 5)), (2, 1)))

    def test_a_broken_models_perplexity_is_still_a_number(self) -> None:
        found = Figures(**figures(Scores((2,), np.full((2, 31), -1e5))))
        assert math.isfinite(found.perplexity) and found.perplexity > 1e200


class TestEvaluate:
    def test_a_model_against_itself_is_the_same(self, original: Path) -> None:
        found = judge(original, against=original)
        assert (found.kl_mean, found.kl_max, found.kl_stderr) == (0.0, 0.0, 0.0)
        assert (found.top1_agreement, found.perplexity_ratio) == (1.0, 1.0)
        assert found.perplexity == found.original_perplexity

    def test_a_rounded_model_is_judged_on_every_text(self, original: Path, rounded: Path) -> None:
        heard: list[float] = []
        found = judge(rounded, against=original, on_progress=heard.append)
        assert found.kl_mean is not None and found.kl_stderr is not None and found.kl_p99 is not None
        assert found.top1_agreement is not None
        assert found.kl_mean > 1e-4 and 0 < found.kl_stderr < found.kl_mean < found.kl_p99
        assert 0.8 < found.top1_agreement <= 1
        assert (found.tokens, found.chunks, found.kl_kind) == (6 * 31, 6, "full")
        assert [text.name for text in found.texts] == ["prose", "code"]
        assert [text.sha256 for text in found.texts] == [text.sha256 for text in TEXTS]
        assert sum(text.tokens for text in found.texts) == found.tokens
        means = [text.kl_mean for text in found.texts if text.kl_mean is not None]
        assert sum(means) / 2 == pytest.approx(found.kl_mean)
        assert heard == sorted(heard) and (heard[0], heard[-1]) == (0.0, 1.0)

    def test_any_number_of_threads_gives_the_same_figures(self, original: Path, rounded: Path) -> None:
        assert judge(rounded, against=original, threads=1) == judge(rounded, against=original, threads=2)

    def test_without_an_original_there_is_perplexity(self, original: Path, rounded: Path) -> None:
        alone, both = judge(rounded), judge(rounded, against=original)
        assert (alone.perplexity, alone.perplexity_stderr) == (both.perplexity, both.perplexity_stderr)
        assert alone.kl_mean is None

    def test_models_that_do_not_fit_together_are_read_in_turn(self, original: Path, rounded: Path) -> None:
        machine = this_machine()
        plans = [plan_scoring(open_model(path), 64, 2, machine) for path in (rounded, original)]
        enough, one = sum(plan.bytes for plan in plans), max(plan.least_bytes for plan in plans)
        heard: list[float] = []
        full = judge(rounded, against=original, memory_bytes=enough)
        low = judge(rounded, against=original, memory_bytes=enough - 1, on_progress=heard.append)
        assert (full.kl_kind, low.kl_kind) == ("full", "top-256")
        assert low.perplexity == full.perplexity and low.original_perplexity == full.original_perplexity
        assert low.top1_agreement == full.top1_agreement
        assert low.kl_mean is not None and full.kl_mean is not None
        assert 0.7 * full.kl_mean < low.kl_mean <= full.kl_mean + 1e-7
        assert heard == sorted(heard) and heard[-1] == 1.0
        with pytest.raises(DoesNotFit) as caught:
            judge(rounded, against=original, memory_bytes=one - 1)
        assert (caught.value.needed_bytes, caught.value.available_bytes) == (one, one - 1)

    def test_mapped_weights_larger_than_the_memory_are_read_again(self, tiny_path: Path) -> None:
        plan = plan_scoring(open_model(tiny_path), 64, 2, this_machine())
        assert plan.config.mmap
        assert 0 < plan.reclaimable < plan.bytes
        assert judge(tiny_path, memory_bytes=plan.least_bytes) == judge(tiny_path)

    def test_one_model_alone_must_fit_too(self, original: Path) -> None:
        with pytest.raises(DoesNotFit, match=r"1\.00 MiB are available"):
            judge(original, memory_bytes=1 << 20)

    def test_the_figures_are_plain_data(self, original: Path) -> None:
        document = asdict(judge(original))
        assert document["context"] == 64
        assert document["texts"][0]["name"] == "prose"


class TestRefusals:
    def test_of_a_long_text_no_more_is_read_than_the_chunks_can_come_from(
        self, original: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths: list[int] = []

        def noting(job: str, request: ScoreRequest, **options: Any) -> Any:
            lengths.extend(len(text.text) for text in request.texts)
            return run_job(job, request, **options)

        monkeypatch.setattr("quant.evaluation.evaluate.run_job", noting)
        text = EvaluationText("prose", tale(1, 1000) * 100)
        part = EvaluationText("prose", text.text[:2000])
        found = judge(original, texts=[text], chunks=2)
        assert lengths == [2 * 64 * 64]
        assert found.texts[0].sha256 == text.sha256
        assert found.perplexity == judge(original, texts=[part], chunks=2).perplexity

    def test_a_text_that_is_too_short_is_named_with_both_numbers(self, original: Path) -> None:
        with pytest.raises(TextTooShort, match="note has 100 tokens, and 128 are the least") as caught:
            judge(original, texts=[EvaluationText("note", "x" * 100)], chunks=None)
        assert (caught.value.tokens, caught.value.needed_tokens) == (100, 128)

    def test_another_vocabulary_is_refused(self, original: Path, tmp_path: Path) -> None:
        larger = write_byte_model(tmp_path / "larger.gguf", more_tokens=1001)
        with pytest.raises(VocabulariesDiffer, match=r"larger\.gguf and .*original\.gguf .*1,260 and 260"):
            judge(larger, against=original)

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"context": 8}, "context"),
            ({"chunks": 3}, "chunks"),
            ({"texts": ()}, "texts"),
            ({"context": 4096}, "context"),
        ],
    )
    def test_what_is_out_of_range_is_refused(
        self, original: Path, options: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            judge(original, **options)
        assert caught.value.field == field

    def test_a_file_that_is_no_gguf_never_reaches_llama_cpp(self, tmp_path: Path) -> None:
        path = tmp_path / "text.gguf"
        path.write_text("no model at all")
        with pytest.raises(GgufError):
            judge(path)

    def test_a_model_that_llama_cpp_refuses_is_a_load_failure(self, original: Path, tmp_path: Path) -> None:
        data = original.read_bytes()
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(data.replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight"))
        with pytest.raises(ModelLoadFailed):
            judge(broken)

    def test_a_model_that_gives_no_numbers_fails(self, tmp_path: Path) -> None:
        poisoned = write_byte_model(tmp_path / "poisoned.gguf", poison=math.nan)
        with pytest.raises(JobFailed, match="NaN or infinity"):
            judge(poisoned)

    def test_a_process_that_is_killed_is_a_failure(self, original: Path) -> None:
        before = set(psutil.Process().children())

        def kill(_fraction: float) -> None:
            for child in set(psutil.Process().children()) - before:
                child.kill()

        with pytest.raises(JobFailed, match="SIGKILL"):
            judge(original, on_progress=kill, texts=[EvaluationText("long", tale(3, 20000))], chunks=None)

    def test_a_caller_can_stop_it(self, original: Path) -> None:
        stop = threading.Event()
        before = set(psutil.Process().children())

        def give_up(_fraction: float) -> None:
            stop.set()

        with pytest.raises(JobCancelled):
            judge(
                original,
                on_progress=give_up,
                stop=stop,
                texts=[EvaluationText("long", tale(3, 20000))],
                chunks=None,
            )
        assert set(psutil.Process().children()) <= before


@pytest.mark.model
def test_scoring_takes_no_more_memory_than_planned(demo_path: Path) -> None:
    before, peaks = set(psutil.Process().children()), [0]

    def measure(_fraction: float) -> None:
        for child in set(psutil.Process().children()) - before:  # an earlier test's may end meanwhile
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                peaks.append(peak_memory_bytes(child.pid))

    plan = plan_scoring(open_model(demo_path), 128, 2, this_machine())
    text = EvaluationText("long", tale(4, 400))
    evaluate(demo_path, texts=[text], context=128, threads=2, chunks=2, on_progress=measure)
    assert 0.7 * plan.bytes < max(peaks) <= plan.bytes
    evaluate(
        demo_path, against=demo_path, texts=[text], context=128, threads=2, chunks=2, on_progress=measure
    )
    assert max(peaks) <= 2 * plan.bytes


def test_a_quantized_cache_costs_divergence_the_more_the_fewer_its_bits(tiny_path: Path) -> None:
    texts = [EvaluationText("prose", builtin("evaluation")[0].text)]
    costs = [
        evaluate(tiny_path, against=tiny_path, texts=texts, chunks=2, threads=2, kv_type=kind).kl_mean
        for kind in ("f16", "q8_0", "q4_0")
    ]
    assert costs[0] == 0.0
    assert costs[1] is not None and costs[2] is not None
    assert 0.0 < costs[1] < costs[2] / 10
