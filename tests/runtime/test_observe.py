"""Watching a model: its inputs against NumPy, the same bits however it is run, and every refusal."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engine.accumulator import sums_bytes
from runtime.engine.job import run_job
from runtime.engine.messages import Prompt
from runtime.engine.observation import (
    MODULE,
    Observed,
    ObservedInput,
    ObserveProgress,
    ObserveRequest,
    Passage,
)
from runtime.errors import DoesNotFit, EngineError, InvalidRequest, ModelLoadFailed, TooFewTokens
from tests.runtime.byte_model import write_byte_model
from tests.runtime.watched_model import FIRST, WatchedLlama

CHUNK = 64
DENSE = WatchedLlama()
MIXTURE = WatchedLlama(width=96, layers=2, experts=4, used=2, wants_first=True, tied=False)
LETTERS = bytes(np.random.default_rng(1).integers(97, 116, 2000, dtype=np.uint8)).decode()
ROUNDED = 2e-4
"""Values that float16 rounds to another neighbour: they add up to 3e-5 behind three layers."""
SUMMED = 3e-6

Array = NDArray[np.float64]


def ask(model: Path, folder: Path, **changes: object) -> ObserveRequest:
    folder.mkdir(exist_ok=True)
    options: dict[str, object] = {
        "passages": (Passage("letters", Prompt(LETTERS, parse_special=False)),),
        "tokens": 6 * CHUNK,
        "chunk_tokens": CHUNK,
        "threads": 1,
        "memory_bytes": 1 << 30,
    }
    return ObserveRequest(model_paths=(str(model),), folder=str(folder), **(options | changes))  # type: ignore[arg-type]


def run(request: ObserveRequest) -> Observed:
    return run_job(MODULE, request, progress=ObserveProgress, result=Observed)


def moments(folder: Path, found: ObservedInput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean squares [matrices, columns] and second moments [matrices, blocks, block, block]."""
    values = np.fromfile(folder / found.file, "<f4")
    matrices, columns, block = len(found.tokens), found.columns, found.block
    assert found.batches > 0
    assert 4 * len(values) == sums_bytes(matrices, columns, block, found.batches)
    values = values[: matrices * columns * (1 + block)]
    squares, rest = np.split(values, [matrices * columns])
    blocks = columns // block if block else 0
    return squares.reshape(matrices, columns), rest.reshape(matrices, blocks, block, block)


def chunks_of(text: str, count: int, first: bool) -> list[list[int]]:
    """As the job draws them: spread over the text."""
    body = CHUNK - first
    available = len(text) // body
    places = [index * available // count * body for index in range(count)]
    return [[FIRST] * first + list(text[at : at + body].encode()) for at in places]


def distance(found: NDArray[np.float32], wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@functools.cache
def expected(kind: str) -> dict[str, list[Array]]:
    model = {"dense": DENSE, "mixture": MIXTURE}[kind]
    return model.inputs(chunks_of(LETTERS, 6, model.wants_first))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("watched")
    return {
        "dense": DENSE.write(folder / "dense.gguf"),
        "mixture": MIXTURE.write(folder / "mixture.gguf"),
    }


@pytest.fixture(scope="module")
def dense(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Observed]:
    folder = tmp_path_factory.mktemp("dense")
    return folder, run(ask(models["dense"], folder))


@pytest.fixture(scope="module")
def mixture(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Observed]:
    folder = tmp_path_factory.mktemp("mixture")
    return folder, run(ask(models["mixture"], folder, expert_hessian=True, threads=2))


class TestDense:
    def test_every_matrix_is_seen_and_those_with_one_input_share_it(
        self, dense: tuple[Path, Observed]
    ) -> None:
        observed = dense[1]
        shared = {frozenset(found.tensors) for found in observed.inputs}
        for layer in range(DENSE.layers):
            at = f"blk.{layer}."
            assert {f"{at}attn_{part}.weight" for part in "qkv"} in shared
            assert {f"{at}ffn_gate.weight", f"{at}ffn_up.weight"} in shared
        assert len(shared) == 4 * DENSE.layers + 1
        assert observed.unseen == ()
        assert (observed.tokens, observed.passes) == (6 * CHUNK, 1)
        assert all(found.tokens == (6 * CHUNK,) for found in observed.inputs)

    def test_second_moments_are_those_of_numpy(self, dense: tuple[Path, Observed]) -> None:
        folder, observed = dense
        for found in observed.inputs:
            squares, gram = moments(folder, found)
            assert gram.shape == (1, 1, found.columns, found.columns)
            np.testing.assert_array_equal(gram[0, 0], gram[0, 0].T)
            np.testing.assert_allclose(gram[0, 0].diagonal(), squares[0], rtol=SUMMED)
            for name in found.tensors:
                rows = expected("dense")[name][0]
                exact = name.startswith("blk.0.attn") and "output" not in name
                assert distance(gram[0, 0], rows.T @ rows / len(rows)) < (SUMMED if exact else ROUNDED), name
                assert distance(squares[0], (rows * rows).mean(axis=0)) < (SUMMED if exact else ROUNDED)

    def test_the_tolerance_notices_one_token_in_three_hundred(self, dense: tuple[Path, Observed]) -> None:
        folder, observed = dense
        squares, _ = moments(folder, observed.inputs[-1])
        rows = expected("dense")["token_embd.weight"][0].copy()
        rows[100] *= 2
        assert distance(squares[0], (rows * rows).mean(axis=0)) > ROUNDED

    @pytest.mark.parametrize(
        "changes",
        [{"threads": 2}, {"memory_bytes": 1}, {"mapped_bytes": 0}, {"memory_bytes": 400_000, "threads": 3}],
        ids=["two threads", "a pass for each input", "no file pages kept", "three threads in passes"],
    )
    def test_the_bytes_are_the_same_however_it_is_run(
        self, changes: dict[str, object], models: dict[str, Path], tmp_path: Path
    ) -> None:
        # 256 columns at most: the bound on memory cannot change the blocks
        model = WatchedLlama(width=256)
        path = model.write(tmp_path / "narrow.gguf")
        plain, changed = (
            run(ask(path, tmp_path / name, **options)) for name, options in (("a", {}), ("b", changes))
        )
        assert changed.inputs == plain.inputs
        assert (changed.passes > 1) == ("memory_bytes" in changes)

    def test_tokens_of_several_batches_are_all_seen(self, tmp_path: Path) -> None:
        """The last batch has fewer chunks than the others."""
        model = WatchedLlama(layers=1, width=64)
        text = LETTERS + LETTERS[::-1]
        found = [
            run(
                ask(
                    model.write(tmp_path / "small.gguf"),
                    tmp_path / name,
                    passages=(Passage("letters", Prompt(text, parse_special=False)),),
                    tokens=41 * CHUNK,
                    memory_bytes=memory_bytes,
                    hessian=False,
                )
            )
            for name, memory_bytes in (("one", 1 << 30), ("several", 1000))
        ]
        assert [observed.passes > 1 for observed in found] == [False, True]
        assert found[0].batch_tokens < found[0].tokens == 41 * CHUNK
        assert found[0].inputs == found[1].inputs
        rows = model.inputs(chunks_of(text, 41, False))
        for observed in found[0].inputs:
            assert observed.tokens == (41 * CHUNK,)
            squares = (rows[observed.tensors[0]][0] ** 2).mean(axis=0)
            assert distance(moments(tmp_path / "one", observed)[0][0], squares) < ROUNDED

    def test_narrow_blocks_are_the_diagonal_blocks_of_the_whole(
        self, dense: tuple[Path, Observed], models: dict[str, Path], tmp_path: Path
    ) -> None:
        narrow = run(ask(models["dense"], tmp_path, memory_bytes=3_000_000))
        assert narrow.passes == 1
        wide = {found.tensors: found for found in dense[1].inputs}
        widths = {found.columns: found.block for found in narrow.inputs}
        assert widths == {DENSE.hidden: DENSE.hidden, DENSE.width: DENSE.width // 2}
        for found in narrow.inputs:
            _, blocks = moments(tmp_path, found)
            _, whole = moments(dense[0], wide[found.tensors])
            for index in range(found.columns // found.block):
                part = slice(index * found.block, (index + 1) * found.block)
                np.testing.assert_array_equal(blocks[0, index], whole[0, 0, part, part])

    def test_without_hessians_the_squares_are_the_same(
        self, dense: tuple[Path, Observed], models: dict[str, Path], tmp_path: Path
    ) -> None:
        observed = run(ask(models["dense"], tmp_path, hessian=False))
        for found, whole in zip(observed.inputs, dense[1].inputs, strict=True):
            assert (found.block, found.tensors, found.tokens) == (0, whole.tensors, whole.tokens)
            np.testing.assert_array_equal(moments(tmp_path, found)[0], moments(dense[0], whole)[0])


class TestMixture:
    def test_rows_reach_the_experts_that_they_were_routed_to(self, mixture: tuple[Path, Observed]) -> None:
        folder, result = mixture
        for found in result.inputs:
            squares, gram = moments(folder, found)
            for name in found.tensors:
                rows = expected("mixture")[name]
                experts = MIXTURE.experts if "exps" in name else 1
                assert found.tokens == tuple(len(part) for part in rows[:experts]), name
                for expert in range(experts):
                    wanted = rows[expert].T @ rows[expert] / len(rows[expert])
                    assert distance(gram[expert, 0], wanted) < ROUNDED, (name, expert)
                    assert distance(squares[expert], wanted.diagonal()) < ROUNDED

    def test_the_experts_share_all_tokens(self, mixture: tuple[Path, Observed]) -> None:
        by_name = {name: found for found in mixture[1].inputs for name in found.tensors}
        routed = by_name["blk.1.ffn_down_exps.weight"]
        assert sum(routed.tokens) == 6 * CHUNK * MIXTURE.used
        assert by_name["blk.1.ffn_gate_exps.weight"] is by_name["blk.1.ffn_up_exps.weight"]
        assert by_name["blk.1.ffn_gate_inp.weight"].tokens == (6 * CHUNK,)
        assert mixture[1].unseen == ("token_embd.weight",)

    def test_experts_have_no_hessians_unless_asked(self, models: dict[str, Path], tmp_path: Path) -> None:
        observed = run(ask(models["mixture"], tmp_path, memory_bytes=1))
        assert {found.block for found in observed.inputs if len(found.tokens) > 1} == {0}
        assert {found.block for found in observed.inputs if len(found.tokens) == 1} == {MIXTURE.hidden}


class TestTexts:
    def test_domains_get_the_same_number_of_tokens(self, models: dict[str, Path], tmp_path: Path) -> None:
        passages = [
            Passage(domain, Prompt(LETTERS[:length], parse_special=False))
            for domain, length in (("a", 200), ("b", 2000), ("a", 200))
        ]
        observed = run(ask(models["dense"], tmp_path, passages=tuple(passages), tokens=5 * CHUNK - 3))
        assert observed.domain_tokens == {"a": 3 * CHUNK, "b": 2 * CHUNK}
        assert observed.tokens == 5 * CHUNK

    def test_control_tokens_are_read_only_where_the_prompt_says_so(
        self, models: dict[str, Path], tmp_path: Path
    ) -> None:
        tokens = {}
        for special in (False, True):
            prompt = Prompt("<s></s>" * 1000, parse_special=special)
            with pytest.raises(TooFewTokens) as short:
                run(ask(models["dense"], tmp_path, passages=(Passage("p", prompt),), tokens=1 << 20))
            tokens[special] = short.value.tokens
        assert tokens == {False: 7000, True: 2000}

    def test_a_text_that_is_too_short_is_refused_with_both_numbers(
        self, models: dict[str, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(
            TooFewTokens, match="the domain 'letters' have 2000 tokens; 2048 are needed"
        ) as short:
            run(ask(models["dense"], tmp_path, tokens=2048))
        assert (short.value.tokens, short.value.needed_tokens) == (2000, 2048)


class TestRefusals:
    def test_a_model_that_overflows_is_named(self, tmp_path: Path) -> None:
        model = write_byte_model(tmp_path / "poisoned.gguf", poison=float("nan"))
        with pytest.raises(EngineError, match=r"the input of blk\.1\.ffn_down\.weight is not finite"):
            run(ask(model, tmp_path / "out"))

    def test_a_model_that_llama_cpp_refuses_is_a_typed_error(self, tmp_path: Path) -> None:
        model = WatchedLlama()
        del model.weights["blk.1.attn_k"]
        with pytest.raises(ModelLoadFailed) as failed:
            run(ask(model.write(tmp_path / "wanting.gguf"), tmp_path / "out"))
        assert "blk.1.attn_k.weight" in failed.value.log

    def test_nothing_to_read_is_refused(self, models: dict[str, Path], tmp_path: Path) -> None:
        for changes in ({"passages": ()}, {"tokens": 0}, {"threads": 0}, {"chunk_tokens": 1}):
            with pytest.raises(InvalidRequest):
                run(ask(models["mixture"], tmp_path, **changes))

    def test_a_model_that_cannot_be_watched_is_an_error_and_not_an_empty_result(
        self, models: dict[str, Path]
    ) -> None:
        from runtime.engine.llama.observing import WatchedModel

        model = WatchedModel((str(models["dense"]),), frozenset({"other"}), chunk_tokens=CHUNK, threads=1)
        with pytest.raises(EngineError, match="without calibration"):
            model.survey([np.full(CHUNK, 97, np.int32)])

    def test_passes_that_are_ended_early_leave_nothing_in_the_log(
        self, models: dict[str, Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        from runtime.engine.accumulator import Accumulator
        from runtime.engine.llama.observing import WatchedModel

        names = frozenset({"blk.0.attn_q.weight"})
        model = WatchedModel((str(models["dense"]),), names, chunk_tokens=CHUNK, threads=1)
        chunks = [np.full(CHUNK, 97, np.int32)]
        survey = model.survey(chunks)
        model.watch(survey, {0: Accumulator(DENSE.hidden, 1, 0, 1)}, chunks, lambda share: None)
        assert capfd.readouterr().err == ""
        model._abort_flag.value = 0
        model._log_error(4, b"an error of a pass that runs\n", None)
        assert capfd.readouterr().err == "an error of a pass that runs\n"

    def test_inputs_that_llama_cpp_does_not_show_are_an_error(
        self, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runtime.engine.accumulator import Accumulator
        from runtime.engine.llama.observing import WatchedModel
        from runtime.engine.llama.survey import weight_of

        names = frozenset({"blk.0.attn_q.weight", "blk.1.attn_q.weight"})
        model = WatchedModel((str(models["dense"]),), names, chunk_tokens=CHUNK, threads=1)
        chunks = [np.full(CHUNK, 97, np.int32)]
        survey = model.survey(chunks)
        sums = {number: Accumulator(DENSE.hidden, 1, 0, 1) for number in range(2)}
        model.watch(survey, sums, chunks, lambda share: None)
        monkeypatch.setattr(
            "runtime.engine.llama.observer.weight_of",
            lambda node, names: weight_of(node, names - {"blk.1.attn_q.weight"}),
        )
        with pytest.raises(EngineError, match="1 of 2 inputs"):
            model.watch(survey, sums, chunks, lambda share: None)

    def test_an_error_while_the_graph_is_looked_at_is_raised(
        self, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runtime.engine.llama.observing import WatchedModel
        from runtime.engine.llama.survey import Surveyor

        def unreadable(self: Surveyor, address: int) -> None:
            raise EngineError(f"no node at {address}")

        monkeypatch.setattr(Surveyor, "offer", unreadable)
        names = frozenset({"blk.0.attn_q.weight"})
        model = WatchedModel((str(models["dense"]),), names, chunk_tokens=CHUNK, threads=1)
        with pytest.raises(EngineError, match="no node at"):
            model.survey([np.full(CHUNK, 97, np.int32)])

    def test_a_full_disk_is_foreseen(
        self, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runtime.engine import observe
        from runtime.engine.llama.survey import Input, Survey
        from runtime.engine.moment_plan import MomentPlan

        survey = Survey([Input(1 << 20, 1, (0,))], {}, [], [], [], 0)
        with pytest.raises(DoesNotFit) as full:
            observe.require_room(str(tmp_path), survey, MomentPlan((1 << 40,), (range(1),)), 1)
        assert full.value.needed_bytes > full.value.available_bytes


@pytest.mark.model
def test_the_demo_model_is_watched_whole(demo_path: Path, tmp_path: Path) -> None:
    prompt = Prompt("The quick brown fox jumps over the lazy dog. " * 40, parse_special=False)
    observed = run(
        ask(demo_path, tmp_path, passages=(Passage("p", prompt),), tokens=128, threads=2, hessian=False)
    )
    assert observed.unseen == ()
    assert len(observed.inputs) == 4 * 30 + 1
    assert observed.inputs[0].tensors == ("blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.0.attn_k.weight")
    assert observed.inputs[-1].tensors == ("token_embd.weight",)
