"""Static activation scales: from what calibration kept to the keys of a file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.activations import activation_keys, rounded_up, static_input, static_inputs
from quant.allocation.recipe import Override
from quant.certificate.document import Options
from quant.certificate.keys import read_certificate
from quant.errors import CannotEncode
from quant.formats.registry import ANY_BY_NAME
from quant.observers import MovingAverageMinMaxObserver
from quant.pipeline import quantize
from quant.request import QuantizeRequest, Target
from runtime.gguf import open_gguf
from tests.quant.ranges import normal, seen, steps_with_ranges
from tests.quant.source_models import write_source
from tests.quant.stand_ins import request, stand_ins

F32 = NDArray[np.float32]


class TestScales:
    @pytest.mark.parametrize("block", [32, 256])
    def test_the_largest_magnitude_of_a_block_is_127_steps(self, block: int) -> None:
        rows = normal()
        largest = np.abs(rows).reshape(-1, 512 // block, block).max(axis=(0, 2))
        scales = static_input(seen(rows), block).scales
        assert np.array_equal(scales, rounded_up(largest / np.float32(127)))
        assert (127 * scales.astype(np.float64) >= largest).all()
        assert (127 * scales < 1.001 * largest).all()

    def test_they_are_values_of_fp16_and_never_smaller(self) -> None:
        scales = np.exp(np.linspace(-16, 11, 1000)).astype(np.float32)
        found = rounded_up(scales)
        assert np.array_equal(found, found.astype(np.float16).astype(np.float32))
        assert ((scales <= found) & (found <= scales * np.float32(1 + 2**-10) + np.float32(6e-8))).all()
        assert rounded_up(np.array([1e6], np.float32)) == 1e6  # which fp16 does not have

    def test_columns_that_were_always_zero_have_a_scale(self) -> None:
        rows = normal()
        rows[:, 32:64] = 0
        scales = static_input(seen(rows), 32).scales
        assert scales[1] == 1
        assert (scales > 0).all()

    def test_another_observer_gives_other_scales(self) -> None:
        rows = normal()
        rows[399, 5] = 100  # in the last batch alone
        moving = partial(MovingAverageMinMaxObserver, averaging_constant=0.01)
        extremes, averaged = (static_input(seen(rows), 32, *observer).scales for observer in ((), (moving,)))
        assert extremes[0] == pytest.approx(100 / 127, rel=1e-3)
        assert averaged[0] < 0.1

    def test_experts_share_the_scales_of_their_input(self) -> None:
        one, four = static_input(seen(normal()), 32), static_input(seen(normal(), experts=4), 32)
        assert np.array_equal(one.scales, four.scales)
        assert one.coarseness == pytest.approx(four.coarseness)


class TestCoarseness:
    @pytest.mark.parametrize("block", [32, 256])
    def test_it_is_the_ratio_of_the_errors(self, block: int) -> None:
        rows = normal()
        blocks = rows.astype(np.float64).reshape(len(rows), -1, block)
        found = static_input(seen(rows), block)
        steps = found.scales.astype(np.float64)[:, None], np.abs(blocks).max(axis=2, keepdims=True) / 127
        errors = [np.square(np.rint(blocks / each) * each - blocks).sum() for each in steps]
        assert found.coarseness == pytest.approx(errors[0] / errors[1], rel=0.05)
        assert 1 < found.coarseness < 10

    def test_one_token_with_huge_inputs_makes_it_as_large_as_there_are_tokens(self) -> None:
        rows = normal()
        rows[7] *= 3000
        assert static_input(seen(rows), 32).coarseness == pytest.approx(len(rows), rel=0.05)

    def test_of_experts_each_token_counts_alike(self) -> None:
        rows = normal()
        found = seen(rows, experts=2)
        peaks = {32: found.peaks[32] * np.array([[1], [100]], np.float32)}
        alone, rare, often = (
            static_input(replace(found, peaks=peaks, tokens=np.array(tokens)), 32).coarseness
            for tokens in ([400, 0], [399, 1], [200, 200])
        )
        assert alone == pytest.approx(static_input(seen(rows), 32).coarseness)
        assert alone / rare == pytest.approx(1 + 99 / 400)
        assert alone / often == pytest.approx(50.5)

    def test_inputs_above_the_limit_stay_dynamic(self) -> None:
        rows = normal()
        rows[7] *= 3000
        names = {"calm": seen(normal()), "wild": seen(rows)}
        for most, wanted in ((1e9, ["calm", "wild"]), (20.0, ["calm"]), (1.0, [])):
            found = static_inputs(names, most_coarseness=most)
            assert [name for name in names if found.of(name, ANY_BY_NAME["q8_0"])] == wanted


class TestKeys:
    def test_a_format_decides_how_many_columns_share_a_scale(self) -> None:
        inputs = static_inputs({name: seen(normal()) for name in ("a", "b", "c", "d")})
        formats = {
            name: ANY_BY_NAME[fmt]
            for name, fmt in (("a", "q4_0"), ("b", "q4_k"), ("c", "lt2"), ("e", "q8_0"))
        }
        keys = {key.name: key.value for key in activation_keys(formats, inputs)}
        assert keys["localq.activations.tensors"] == ["a", "b"]
        assert keys["localq.activations.counts"] == [16, 2]
        scales = keys["localq.activations.scales"]
        assert isinstance(scales, list)
        assert scales == [*inputs.by_block[32]["a"].scales, *inputs.by_block[256]["b"].scales]

    def test_without_scales_there_are_none(self) -> None:
        assert activation_keys({"a": ANY_BY_NAME["q4_0"]}, static_inputs({})) == []

    def test_an_input_that_256_does_not_divide_has_none_for_such_blocks(self) -> None:
        inputs = static_inputs({"a": seen(normal(96))})
        assert inputs.of("a", ANY_BY_NAME["q4_k"]) is None
        assert inputs.of("a", ANY_BY_NAME["q4_0"]) is not None

    def test_an_importance_matrix_gives_none(self) -> None:
        found = replace(seen(normal()), peaks={}, extremes=None)
        assert static_inputs({"a": found}).of("a", ANY_BY_NAME["q4_0"]) is None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


def made(source: Path, out: Path, target: str | float = "q4_0", **more: object) -> Path:
    quantize(request(source, out, target, activations="static", **more), steps=steps_with_ranges())
    return out


class TestPipeline:
    def test_the_file_has_scales_for_all_that_calibration_saw(self, source: Path, tmp_path: Path) -> None:
        header = open_gguf(made(source, tmp_path / "out.gguf"))
        matrices = {tensor.name for tensor in header.tensors if tensor.type.name == "Q4_0"}
        assert set(header.activations) == matrices - {"token_embd.weight"}
        assert header.activations["blk.0.attn_q.weight"] == tuple(static_input(seen(normal(256)), 32).scales)

    def test_the_certificate_says_so(self, source: Path, tmp_path: Path) -> None:
        header = open_gguf(made(source, tmp_path / "out.gguf"))
        certificate = read_certificate(header)
        assert certificate is not None
        assert certificate.static_inputs == len(header.activations) > 0
        assert Options.parse(certificate.options).activations == "static"

    def test_the_tensors_are_those_of_dynamic_scales(self, source: Path, tmp_path: Path) -> None:
        static = read_certificate(open_gguf(made(source, tmp_path / "static.gguf")))
        dynamic = quantize(request(source, tmp_path / "dynamic.gguf", "q4_0"), steps=steps_with_ranges())
        assert not open_gguf(tmp_path / "dynamic.gguf").activations
        assert static is not None
        assert static.data_sha256 == dynamic.certificate.data_sha256

    def test_what_was_made_of_it_has_none(self, source: Path, tmp_path: Path) -> None:
        static = made(source, tmp_path / "static.gguf", "q8_0")
        plain = request(static, tmp_path / "again.gguf", "q4_0", calibration=(), evaluation=())
        quantize(plain, steps=stand_ins())
        assert not open_gguf(plain.out).activations

    def test_a_file_of_a_given_size_has_room_for_them(self, source: Path, tmp_path: Path) -> None:
        size = 700_000
        wanted = request(
            source,
            tmp_path / "out.gguf",
            activations="static",
            portable=True,
        )
        wanted = replace(wanted, target=Target(size_bytes=size))
        quantize(wanted, steps=steps_with_ranges())
        assert open_gguf(wanted.out).activations
        assert 0.95 * size < wanted.out.stat().st_size <= size

    def test_words_keep_their_dynamic_scales(self, source: Path, tmp_path: Path) -> None:
        words = (Override("ffn", "lt2"),)
        header = open_gguf(made(source, tmp_path / "out.gguf", "q4_0", overrides=words))
        assert header.packed is not None
        assert header.activations
        assert not any("ffn" in name for name in header.activations)

    def test_nothing_is_fixed_without_texts(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(CannotEncode, match="fixed by calibration texts; give --calib"):
            made(source, tmp_path / "out.gguf", calibration=())

    def test_where_no_kernel_would_read_them_they_are_refused(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quant.preflight.packed_types", frozenset)
        with pytest.raises(CannotEncode, match="do not run here"):
            made(source, tmp_path / "out.gguf")

    def test_a_run_that_goes_on_writes_the_same_scales(self, source: Path, tmp_path: Path) -> None:
        """The plan is read from the folder of work under way, which holds no scales."""
        whole = made(source, tmp_path / "whole.gguf").read_bytes()

        def stop(*_: object) -> Any:
            raise KeyboardInterrupt

        wanted = request(source, tmp_path / "whole.gguf", "q4_0", activations="static", replace=True)
        with pytest.raises(KeyboardInterrupt):
            quantize(wanted, steps=replace(steps_with_ranges(), evaluate=stop))
        quantize(wanted, steps=steps_with_ranges())
        assert wanted.out.read_bytes() == whole


def test_static_runs_do_not_go_on_with_the_work_of_dynamic_ones() -> None:
    plain = QuantizeRequest((Path("a"),), Target("q4_0"), Path("b"), "1")
    assert plain.deciding() != replace(plain, activations="static").deciding()
