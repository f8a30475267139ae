"""Scores of positions: against float64 formulas on synthetic logits, then with the demo model."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engine.config import EngineConfig
from runtime.engine.job import run_job
from runtime.engine.score_chunks import check_size, cut, first_scored, scored_positions, spread
from runtime.engine.score_messages import Scored, ScoreProgress, ScoreRequest, ScoreText
from runtime.engine.score_record import Heading, RecordReader, RecordWriter
from runtime.engine.score_rows import Comparison, Likeliest, Row, bucketed_divergence, likeliest
from runtime.engine.wire import MAX_FRAME_BYTES, encode
from runtime.errors import EngineError, InvalidRequest, ModelLoadFailed, TooFewTokens, VocabulariesDiffer
from tests.runtime.byte_model import write_byte_model

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
ROOT = Path(__file__).resolve().parent.parent.parent
SIZES = (2, 300, 4096, 49152)
TEXT = (
    "The harbour lay quiet under the first snow of the year. A man with a lantern walked along the pier, "
    "counting the boats as he had done every evening since the war, and wrote their names into a small book. "
) * 12


def rows(size: int, seed: int, noise: float = 0.3) -> tuple[F32, F32]:
    """Two rows of logits as a model and a rounded one would give."""
    random = np.random.default_rng(seed)
    original = (random.standard_normal(size) * 3 + 5).astype(np.float32)
    return original, (original + noise * random.standard_normal(size)).astype(np.float32)


def log_softmax(logits: F32) -> F64:
    """By definition, in float64."""
    wide = logits.astype(np.float64) - float(logits.max())
    result: F64 = wide - math.log(math.fsum(np.exp(wide)))
    return result


def divergence(original: F32, judged: F32) -> float:
    """By definition, in float64."""
    p, q = log_softmax(original), log_softmax(judged)
    return math.fsum(np.exp(p) * (p - q))


def filled(logits: F32) -> Row:
    row = Row(len(logits))
    row.fill(logits)
    return row


def compared(original: F32, judged: F32) -> Comparison:
    pair = Comparison(len(original))
    pair.original.fill(original)
    pair.judged.fill(judged)
    return pair


class TestRows:
    @pytest.mark.parametrize("size", SIZES)
    def test_log_probabilities_are_those_of_float64(self, size: int) -> None:
        logits, _ = rows(size, 1)
        row, expected = filled(logits), log_softmax(logits)
        found: F64 = np.array([row.log_probability(token) for token in range(min(size, 500))])
        np.testing.assert_allclose(found, expected[: len(found)], atol=3e-6, rtol=0)
        assert row.best == int(logits.argmax())

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("noise", [0.003, 0.3, 3.0])
    def test_the_divergence_is_that_of_float64(self, size: int, noise: float) -> None:
        for seed in range(5):
            original, judged = rows(size, seed, noise)
            expected = divergence(original, judged)
            assert compared(original, judged).divergence() == pytest.approx(expected, rel=1e-4, abs=2e-7)

    def test_one_changed_logit_is_noticed(self) -> None:
        original, _ = rows(4096, 3)
        judged = original.copy()
        judged[int(original.argmax())] += 0.01
        assert compared(original, judged).divergence() > 1e-6
        assert compared(original, judged).divergence() == pytest.approx(
            divergence(original, judged), rel=0.02
        )

    def test_a_row_against_itself_diverges_by_nothing_at_all(self) -> None:
        original, _ = rows(49152, 4)
        assert compared(original, original).divergence() == 0.0

    def test_a_shift_of_all_logits_changes_nothing(self) -> None:
        original, _ = rows(4096, 5)
        assert compared(original, original + np.float32(64)).divergence() == pytest.approx(0, abs=3e-7)

    def test_tokens_of_probability_zero_add_nothing(self) -> None:
        original, judged = rows(300, 6)
        original[7] = judged[7] = -np.inf
        original[8] = -500.0
        judged[8] = -np.inf
        held = np.ones(300, dtype=bool)
        held[7] = held[8] = False
        expected = divergence(original[held], judged[held])
        assert compared(original, judged).divergence() == pytest.approx(expected, abs=1e-6)

    def test_a_token_that_only_the_original_gives_makes_the_divergence_infinite(self) -> None:
        original, judged = rows(300, 7)
        judged[int(original.argmax())] = -np.inf
        assert compared(original, judged).divergence() == math.inf

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_row_with_nan_or_infinity_gives_nan(self, bad: float) -> None:
        original, judged = rows(300, 8)
        judged[100] = bad
        pair = compared(original, judged)
        assert math.isnan(pair.judged.log_probability(3))
        assert math.isnan(pair.divergence())

    def test_of_equal_logits_the_first_is_the_best(self) -> None:
        assert filled(np.array([1, 5, 5, 2], dtype=np.float32)).best == 1


class TestBuckets:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_bucketed_divergence_is_that_of_float64(self, size: int) -> None:
        original, judged = rows(size, 9)
        kept = min(256, size)
        p, q = np.exp(log_softmax(original)), np.exp(log_softmax(judged))
        top = np.argsort(-original, kind="stable")[:kept]
        rest = np.setdiff1d(np.arange(size), top)
        expected = math.fsum(p[top] * np.log(p[top] / q[top]))
        if len(rest):
            expected += p[rest].sum() * math.log(p[rest].sum() / q[rest].sum())
        found = bucketed_divergence(likeliest(filled(original), kept), filled(judged))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)

    @pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
    def test_it_never_exceeds_the_full_one_and_reaches_it_with_all_tokens_kept(self, noise: float) -> None:
        for seed in range(20):
            original, judged = rows(2048, seed, noise)
            full = divergence(original, judged)
            found = [
                bucketed_divergence(likeliest(filled(original), kept), filled(judged))
                for kept in (1, 16, 256, 2047, 2048)
            ]
            assert all(low <= high + 1e-7 for low, high in zip(found, [*found[1:], full], strict=True))
            assert found[-1] == pytest.approx(full, rel=1e-4, abs=1e-7)

    def test_a_tail_that_is_lost_altogether_is_an_infinite_divergence(self) -> None:
        original, judged = rows(300, 10)
        kept = likeliest(filled(original), 256)
        judged[np.setdiff1d(np.arange(300), kept.ids)] = -np.inf
        assert bucketed_divergence(kept, filled(judged)) == math.inf

    def test_a_tail_of_nothing_adds_nothing(self) -> None:
        original = np.full(300, -np.inf, dtype=np.float32)
        original[:2] = [1.0, 2.0]
        found = likeliest(filled(original), 256)
        assert found.tail == 0.0
        assert bucketed_divergence(found, filled(original)) == pytest.approx(0, abs=1e-7)


class TestRecord:
    HEADING = Heading(vocabulary_size=4096, vocabulary_sha256="a", tokens_sha256="b", kept=256)

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "record"
        writer = RecordWriter(path, self.HEADING)
        expected: list[tuple[Likeliest, int, float]] = []
        for seed in range(3):
            original, _ = rows(4096, seed)
            expected.append((likeliest(filled(original), 256), int(original.argmax()), -0.5 * seed))
            writer.add(filled(original), -0.5 * seed)
        writer.close()
        reader = RecordReader(path)
        assert reader.heading == self.HEADING
        for likely, best, log_probability in expected:
            found = reader.next()
            np.testing.assert_array_equal(found[0].ids, likely.ids)
            np.testing.assert_array_equal(found[0].shifted, likely.shifted)
            assert (found[0].log_total, found[0].tail) == (likely.log_total, likely.tail)
            assert found[1:] == (best, log_probability)
        with pytest.raises(EngineError, match="ends before the last position"):
            reader.next()
        reader.close()

    def test_a_position_takes_two_kibibytes(self, tmp_path: Path) -> None:
        path = tmp_path / "record"
        writer = RecordWriter(path, self.HEADING)
        writer.add(filled(rows(4096, 0)[0]), 0.0)
        writer.close()
        assert path.stat().st_size < 2300


class TestChunks:
    def test_the_second_half_of_a_chunk_is_scored_but_for_the_last_token(self) -> None:
        assert (first_scored(512), scored_positions(512)) == (256, 255)
        assert (first_scored(17), scored_positions(17)) == (8, 8)

    def test_more_chunks_than_an_answer_holds_are_refused(self) -> None:
        def answer(chunks: int) -> bytes:
            scores = bytes(8 * 255 * chunks)
            return encode(
                [
                    Scored(
                        text_tokens=(1 << 60,),
                        text_chunks=(chunks,),
                        positions=255,
                        log_probability=scores,
                        original_log_probability=scores,
                        divergence=scores,
                        agrees=bytes(255 * chunks),
                    )
                ]
            )

        def refused(chunks: int) -> bool:
            try:
                check_size(chunks, 512)
            except InvalidRequest:
                return True
            return False

        per_chunk = len(answer(100)) - len(answer(99))
        around = len(answer(99)) - 99 * per_chunk
        most = next(count for count in range(41_000, 43_000) if refused(count)) - 1
        assert MAX_FRAME_BYTES - (2 << 20) < around + most * per_chunk <= MAX_FRAME_BYTES
        with pytest.raises(InvalidRequest, match=f"use --chunks {most} or fewer") as caught:
            check_size(1 << 40, 512)
        assert caught.value.field == "chunks"

    def test_chunks_follow_each_other_and_begin_with_the_first_token(self) -> None:
        texts = [np.arange(10, 22, dtype=np.int32), np.arange(50, 60, dtype=np.int32)]
        found = [chunk.tolist() for chunk in cut(texts, (2, 1), 5, 1)]
        assert found == [[1, 11, 12, 13, 14], [1, 16, 17, 18, 19], [1, 51, 52, 53, 54]]
        assert texts[0][0] == 10
        assert next(cut(texts, (1, 0), 5, None)).tolist() == [10, 11, 12, 13, 14]

    @pytest.mark.parametrize(
        ("available", "wanted", "taken"),
        [
            ((5, 5, 5), 6, (2, 2, 2)),
            ((5, 1, 5), 8, (4, 1, 3)),
            ((5, 5), 3, (2, 1)),
            ((2, 3), 100, (2, 3)),
            ((2, 3), None, (2, 3)),
        ],
    )
    def test_chunks_are_spread_evenly(
        self, available: tuple[int, ...], wanted: int | None, taken: Sequence[int]
    ) -> None:
        assert spread(available, wanted) == taken


def config(path: Path, **options: Any) -> EngineConfig:
    given: dict[str, Any] = {"context_tokens": 64, "threads": 2, "ubatch_tokens": 64} | options
    return EngineConfig(model_paths=(str(path),), **given)


def score(path: Path, **options: Any) -> Scored:
    """Two chunks of 64 tokens, in a process of its own."""
    given: dict[str, Any] = {"config": config(path), "texts": (ScoreText("tale", TEXT),), "chunks": 2}
    request = ScoreRequest(**given | options)
    return run_job("runtime.engine.score", request, progress=ScoreProgress, result=Scored)


def numbers(data: bytes) -> F64:
    return np.frombuffer(data, dtype=np.float64)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_model(tmp_path_factory.mktemp("models") / "original.gguf")


class TestJob:
    def test_a_model_scores_every_position_of_its_chunks(self, original: Path) -> None:
        heard: list[ScoreProgress] = []
        request = ScoreRequest(config=config(original), texts=(ScoreText("tale", TEXT),), chunks=2)
        scored = run_job(
            "runtime.engine.score",
            request,
            progress=ScoreProgress,
            result=Scored,
            on_progress=heard.append,
        )
        assert (scored.text_chunks, scored.positions) == ((2,), 31)
        assert scored.text_tokens == (len(TEXT) - TEXT.count("th"),)
        surprise = -numbers(scored.log_probability)
        assert len(surprise) == 62
        assert surprise.min() > 0
        assert not scored.divergence
        assert [progress.done for progress in heard] == [0, 1, 2]

    def test_the_logits_are_those_behind_the_token_before(self, original: Path) -> None:
        """A slice or a pass of any length: the same positions, up to how keys round to 16 bits."""
        expected = numbers(score(original).log_probability)
        for options in (
            {"slice_tokens": 1},
            {"slice_tokens": 7},
            {"config": config(original, ubatch_tokens=16)},
        ):
            found = score(original, **{"slice_tokens": 16} | options)
            np.testing.assert_allclose(numbers(found.log_probability), expected, atol=5e-3)
        shifted = score(original, texts=(ScoreText("tale", TEXT[1:]),))
        assert abs(numbers(shifted.log_probability)[:20] - expected[:20]).max() > 0.1

    def test_a_perturbed_tensor_is_noticed_and_the_record_gives_a_lower_bound(
        self, original: Path, tmp_path: Path
    ) -> None:
        judged = write_byte_model(tmp_path / "judged.gguf", noise=0.03, more_tokens=1)
        full = score(judged, original=config(original))
        assert numbers(full.divergence).min() > 0
        assert numbers(full.divergence).mean() > 1e-4
        record = str(tmp_path / "record")
        alone = score(original, record=record)
        assert alone.log_probability == full.original_log_probability
        low = score(judged, recorded=record)
        assert (full.kind, low.kind) == ("full", "top-256")
        assert low.log_probability == full.log_probability
        assert low.original_log_probability == full.original_log_probability
        assert low.agrees == full.agrees
        assert (numbers(low.divergence) <= numbers(full.divergence) + 1e-7).all()
        np.testing.assert_allclose(numbers(low.divergence), numbers(full.divergence), rtol=0.3)

    def test_texts_never_share_a_chunk(self, original: Path) -> None:
        first, second = ScoreText("a", TEXT), ScoreText("b", TEXT[::-1])
        both = score(original, texts=(first, second), chunks=5)
        assert both.text_chunks == (3, 2)
        alone = score(original, texts=(second,))
        assert both.log_probability.endswith(alone.log_probability)
        assert len(both.log_probability) == 5 * 31 * 8

    def test_a_short_text_is_refused_with_both_numbers(self, original: Path) -> None:
        with pytest.raises(TooFewTokens, match="tale has 100 tokens, and 128 are the least") as caught:
            score(original, texts=(ScoreText("tale", "x" * 100),))
        assert (caught.value.tokens, caught.value.needed_tokens) == (100, 128)

    def test_the_token_that_a_model_wants_first_begins_every_chunk(
        self, original: Path, tmp_path: Path
    ) -> None:
        wanting = write_byte_model(tmp_path / "wanting.gguf", first_token=True)
        assert score(wanting).text_tokens[0] == score(original).text_tokens[0] + 1
        second = ScoreText("late", TEXT[TEXT.index("A man") :])
        assert (
            score(wanting, texts=(second,)).log_probability
            != score(original, texts=(second,)).log_probability
        )

    def test_other_vocabularies_are_refused_with_both_sizes(self, original: Path, tmp_path: Path) -> None:
        larger = write_byte_model(tmp_path / "larger.gguf", more_tokens=1001)
        with pytest.raises(VocabulariesDiffer, match=r"1,260 and 260 tokens") as caught:
            score(larger, original=config(original))
        assert (caught.value.size, caught.value.original_size) == (1260, 260)
        wanting = write_byte_model(tmp_path / "wanting.gguf", first_token=True)
        with pytest.raises(VocabulariesDiffer, match="at the beginning of a text"):
            score(wanting, original=config(original))

    def test_a_record_of_other_chunks_or_of_another_vocabulary_is_refused(
        self, original: Path, tmp_path: Path
    ) -> None:
        record = str(tmp_path / "record")
        score(original, record=record)
        with pytest.raises(EngineError, match="other chunks"):
            score(original, recorded=record, chunks=3)
        larger = write_byte_model(tmp_path / "larger.gguf", more_tokens=1001)
        with pytest.raises(VocabulariesDiffer, match=r"1,260 and 260 tokens"):
            score(larger, recorded=record)

    @pytest.mark.parametrize("poison", [np.nan, np.inf])
    def test_a_model_that_gives_no_numbers_is_an_error(self, tmp_path: Path, poison: float) -> None:
        model = write_byte_model(tmp_path / "poisoned.gguf", poison=poison)
        with pytest.raises(EngineError, match="NaN or infinity in chunk 1"):
            score(model)

    def test_a_file_that_is_no_model_is_a_load_failure(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.gguf"
        path.write_bytes(b"GGUF nonsense")
        with pytest.raises(ModelLoadFailed, match=r"could not load .*broken\.gguf"):
            score(path)

    def test_a_scratch_folder_that_is_gone_is_an_error_with_its_reason(
        self, original: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(EngineError, match="No such file or directory"):
            score(original, record=str(tmp_path / "none" / "record"))


@pytest.mark.model
def test_the_demo_agrees_with_itself_for_any_number_of_threads(demo_path: Path) -> None:
    one = config(demo_path, threads=1)
    scored = score(demo_path, config=one, original=one)
    assert scored.log_probability == scored.original_log_probability
    assert not numbers(scored.divergence).any()
    assert set(scored.agrees) == {1}
    assert 0.5 < -numbers(scored.log_probability).mean() < 6
    assert score(demo_path).log_probability == scored.log_probability


def test_the_module_that_is_asked_is_never_loaded_here() -> None:
    modules = "runtime.engine.score_messages, quant.evaluation.evaluate"
    code = f"import sys, {modules}; print('llama_cpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
