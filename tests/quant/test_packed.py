"""Files with matrices in LT formats: always the same bytes, and what another decoder reads in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from quant.allocation.fit import Fit
from quant.allocation.joint import planned_header
from quant.allocation.recipe import KEEP, Override
from quant.certificate.document import Certificate
from quant.certificate.keys import read_certificate
from quant.encoders import tensor as encode
from quant.encoders.tensor import spread_rows
from quant.errors import CannotEncode, JobFailed
from quant.files.layout import Key
from quant.files.packed_layout import PackedEntry, lay_out_packed
from quant.files.source import open_source
from quant.formats.lt import LT2, LT3
from quant.formats.registry import ANY_BY_NAME
from quant.pipeline import quantize
from quant.progress import Event, WarningEvent
from quant.request import Target
from quant.steps import Steps
from runtime.gguf import open_gguf, summarize
from runtime.gguf.packed_data import read_packed_data
from runtime.kernels import available_isas
from tests.quant.source_models import Shape, write_source
from tests.quant.stand_ins import made_up, request, seed_of, stand_ins
from tests.runtime.packed_models import plain_weights

REPOSITORY = Path(__file__).resolve().parents[2]
MATRICES = 14


def types_of(path: Path) -> dict[str, str]:
    """What the certificate in a file says of its tensors."""
    certificate = read_certificate(open_gguf(path))
    assert certificate is not None
    return {tensor.name: tensor.type for tensor in certificate.tensors}


def without(name: str) -> Steps:
    """Stand-ins whose calibration kept no Hessian of the input of ``name``."""
    steps = stand_ins()

    def calibrate(*given: Any) -> Any:
        found = steps.calibrate(*given)
        return replace(found, inputs={each: key for each, key in found.inputs.items() if each != name})

    return replace(steps, calibrate=calibrate)


# --- the section's layout ----------------------------------------------------


def value_of(keys: tuple[Key, ...], name: str) -> Any:
    return next(key.value for key in keys if key.name == f"localq.packed.{name}")


def test_pieces_are_aligned_and_apart_and_inputs_and_tables_lie_there_once() -> None:
    layout = lay_out_packed(
        [
            PackedEntry("a.weight", LT2, (192, 70), "x"),
            PackedEntry("b.weight", LT2, (192, 64), "x"),
            PackedEntry("c_exps.weight", LT3, (64, 65, 3), "y"),
        ]
    )
    pieces = sorted({piece for tensor in layout.tensors for piece in tensor.pieces})
    assert len(pieces) == 3 + 2 + 2
    assert all(position % 64 == 0 for position, _ in pieces)
    ends = [position + nbytes for position, nbytes in pieces]
    assert all(end <= begin for end, (begin, _) in zip(ends, pieces[1:], strict=False))
    assert ends[-1] <= layout.nbytes
    assert value_of(layout.keys, "tensors.input") == [0, 0, 1]
    assert value_of(layout.keys, "tensors.table") == [0, 0, 1]
    assert value_of(layout.keys, "tensors.size")[2] == 3 * 2 * LT3.strip_bytes(64)
    assert lay_out_packed([]).nbytes == 0


# --- what is made ------------------------------------------------------------


@pytest.mark.parametrize("target", ["lt1", "lt2", "lt3", "lt4"])
def test_matrices_of_layers_are_packed_and_the_rest_is_in_types_of_ggml(
    source: Path, out: Path, target: str
) -> None:
    result = quantize(request(source, out, target), steps=stand_ins())
    header = open_gguf(out)
    assert header.packed is not None
    assert Counter(types_of(out).values()) == {target.upper(): MATRICES, "F32": 5, "Q6_K": 1}
    assert [tensor.name for tensor in header.all_tensors] == list(types_of(out))
    assert read_certificate(header) == msgspec.structs.replace(result.certificate, making=None)
    assert result.nbytes == out.stat().st_size
    assert summarize(header).file_type == target.upper()


@pytest.mark.parametrize("target", ["lt2", "lt3", "lt4"])
def test_the_error_in_the_certificate_is_that_of_what_the_file_holds(
    source: Path, out: Path, target: str
) -> None:
    certificate = quantize(request(source, out, target), steps=stand_ins()).certificate
    header = open_gguf(out)
    assert header.packed is not None
    data = read_packed_data(header, header.packed)
    facts = {tensor.name: tensor for tensor in certificate.tensors}
    with open_source(source) as original:
        tensors = {tensor.name: tensor for tensor in original.tensors}
        for packed in header.packed.tensors[::5]:
            before = original.rows(tensors[packed.name], 0, packed.shape[1])
            rows = spread_rows(packed.shape[1], 128)
            lost = (before - plain_weights(header, header.packed, data, packed)[0])[rows]
            gram = made_up(1, 256, seed=seed_of(packed.name)).gram
            assert gram is not None
            before = before[rows]
            expected = ((lost @ gram[0, 0]) * lost).sum() / ((before @ gram[0, 0]) * before).sum()
            assert facts[packed.name].error == pytest.approx(expected, rel=1e-3)


def test_experts_are_packed_each_from_a_strip_of_its_own_on(tmp_path: Path, out: Path) -> None:
    moe = write_source(tmp_path / "moe.gguf", Shape(width=192, layers=1, experts=3))
    quantize(request(moe, out, "lt3"), steps=stand_ins())
    header = open_gguf(out)
    assert header.packed is not None
    packed = {tensor.name: tensor for tensor in header.packed.tensors}
    assert packed["blk.0.ffn_gate_exps.weight"].shape == (256, 192, 3)
    with open_source(out) as made, open_source(moe) as original:
        before = {tensor.name: tensor for tensor in original.tensors}
        for tensor in made.tensors:
            if tensor.packed is None:
                continue
            wanted = original.rows(before[tensor.name], 0, tensor.rows)
            found = made.rows(tensor, 0, tensor.rows)
            assert np.square(found - wanted).sum() < 0.2 * np.square(wanted).sum(), tensor.name


def test_any_number_of_jobs_any_chunks_and_any_instruction_set_give_the_same_bytes(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bytes_with(jobs: int) -> bytes:
        quantize(request(source, out, "lt2", jobs=jobs, replace=True), steps=stand_ins())
        return out.read_bytes()

    one = bytes_with(1)
    assert bytes_with(3) == one
    monkeypatch.setattr(encode.chunks, "__defaults__", (1, 256 * 16))
    assert bytes_with(2) == one
    program = (
        "import sys; from pathlib import Path; from quant.pipeline import quantize\n"
        "from tests.quant.stand_ins import request, stand_ins\n"
        "quantize(request(Path(sys.argv[1]), Path(sys.argv[2]), 'lt2', replace=True), steps=stand_ins())"
    )
    for isa in available_isas():
        command = [sys.executable, "-c", program, str(source), str(out)]
        subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "LOCALQ_FORCE_ISA": isa}, check=True)
        assert out.read_bytes() == one, isa


def test_the_seed_decides_the_signs(source: Path, out: Path) -> None:
    first = quantize(request(source, out, "lt2"), steps=stand_ins()).certificate
    second = quantize(request(source, out, "lt2", seed=1, replace=True), steps=stand_ins()).certificate
    assert first.data_sha256 != second.data_sha256


# --- what cannot be packed ---------------------------------------------------


def test_rows_that_no_word_fits_get_a_type_of_about_those_bits_and_that_is_told(
    tmp_path: Path, out: Path
) -> None:
    odd = write_source(tmp_path / "odd.gguf", Shape(width=224))
    said: list[Event] = []
    wanted = request(odd, out, "lt3", overrides=(Override("attn_q", "q4_k"),))
    quantize(wanted, steps=stand_ins(), on_event=said.append)
    types = types_of(out)
    assert types["blk.0.ffn_down.weight"] == "IQ4_NL"  # rows of 224: q3_k does not fit
    assert types["blk.0.ffn_up.weight"] == "LT3"
    warnings = [event.message for event in said if isinstance(event, WarningEvent)]
    assert any("2 of 15 matrices" in text and "blk.0.ffn_down.weight" in text for text in warnings)


def test_a_matrix_without_a_hessian_gets_a_type_of_ggml(source: Path, out: Path) -> None:
    quantize(request(source, out, "lt2"), steps=without("blk.1.attn_q.weight"))
    types = types_of(out)
    assert (types["blk.1.attn_q.weight"], types["blk.0.attn_q.weight"]) == ("Q2_K", "LT2")


def test_ones_own_choice_goes_beside_types_of_ggml(source: Path, out: Path) -> None:
    choices = (Override("ffn", "lt3"), Override("blk.1.ffn_up", KEEP))
    quantize(request(source, out, "q4_k", overrides=choices), steps=stand_ins())
    assert Counter(types_of(out).values()) == {"LT3": 5, "Q4_K": 8, "F32": 5, "F16": 1, "Q6_K": 1}


def test_bits_for_each_weight_count_ones_own_choices(source: Path, out: Path) -> None:
    wanted = request(source, out, 4.0, overrides=(Override("ffn_down", "lt2"),))
    certificate = quantize(wanted, steps=stand_ins()).certificate
    assert types_of(out)["blk.0.ffn_down.weight"] == "LT2"
    assert 3.0 < certificate.bits_per_weight <= 4.0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"overrides": (Override("token_embd", "lt2"),)}, "matrices that are multiplied.*q2_k fits"),
        ({"overrides": (Override("ffn_up", "lt2"),), "calibration": ()}, "calibration texts"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    source: Path, out: Path, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CannotEncode, match=reason):
        quantize(replace(request(source, out), **more), steps=stand_ins())
    assert list(out.parent.iterdir()) == []


# --- chosen among others -----------------------------------------------------


def chosen(source: Path, out: Path, target: Target, **more: Any) -> Certificate:
    wanted = replace(request(source, out, replace=True, **more), target=target)
    return quantize(wanted, steps=stand_ins()).certificate


def words_of(certificate: Certificate) -> set[str]:
    return {tensor.type for tensor in certificate.tensors} & {"LT1", "LT2", "LT3", "LT4"}


@pytest.mark.parametrize("bits", [2.2, 3.0, 4.0])
def test_bits_for_each_weight_count_inputs_and_tables(source: Path, out: Path, bits: float) -> None:
    certificate = chosen(source, out, Target(bits_per_weight=bits))
    header = open_gguf(out)
    assert words_of(certificate) and header.packed is not None
    tensors = header.all_tensors
    shared = header.packed.inputs + header.packed.tables
    nbytes = sum(tensor.nbytes for tensor in tensors) + sum(piece.nbytes for piece in shared)
    assert certificate.bits_per_weight == 8 * nbytes / sum(tensor.elements for tensor in tensors)
    assert bits - 0.3 < certificate.bits_per_weight <= bits


def test_a_size_is_used_up_and_never_passed(source: Path, out: Path) -> None:
    for size in range(250_000, 500_000, 25_000):
        chosen(source, out, Target(size_bytes=size))
        assert size - 30_000 < out.stat().st_size <= size


def test_with_them_the_error_is_never_foreseen_to_be_more(source: Path, out: Path) -> None:
    def foreseen(bits: float, *, portable: bool) -> float:
        certificate = chosen(source, out, Target(bits_per_weight=bits), portable=portable)
        assert not (portable and words_of(certificate))
        return sum(tensor.error or 0.0 for tensor in certificate.tensors)

    for bits in (2.5, 3.0, 3.5):
        assert foreseen(bits, portable=False) < foreseen(bits, portable=True)


def test_without_texts_or_feedback_only_formats_of_ggml_are_chosen(source: Path, out: Path) -> None:
    for more in ({"calibration": ()}, {"feedback": False}):
        assert not words_of(chosen(source, out, Target(bits_per_weight=3.0), **more))


def test_a_matrix_whose_input_has_no_hessian_is_not_offered_them_and_that_is_told_once(
    source: Path, out: Path
) -> None:
    said: list[Event] = []
    name = "blk.1.attn_q.weight"
    quantize(request(source, out, 2.5), steps=without(name), on_event=said.append)
    assert types_of(out)[name] not in ("LT1", "LT2", "LT3", "LT4")
    told = [event.message for event in said if isinstance(event, WarningEvent) and name in event.message]
    assert len(told) == 1


def test_experts_are_measured_on_the_two_that_saw_most(tmp_path: Path, out: Path) -> None:
    moe = write_source(tmp_path / "moe.gguf", Shape(width=192, layers=1, experts=3))
    certificate = chosen(moe, out, Target(bits_per_weight=2.5))
    types = {tensor.name: tensor.type for tensor in certificate.tensors}
    assert {"LT2", "LT3"} & {types[f"blk.0.ffn_{part}_exps.weight"] for part in ("gate", "up", "down")}


def test_ones_own_choice_goes_with_a_size(source: Path, out: Path) -> None:
    choices = (Override("ffn_down", "lt3"),)
    certificate = chosen(source, out, Target(size_bytes=400_000), overrides=choices, portable=True)
    assert words_of(certificate) == {"LT3"}
    assert 370_000 < out.stat().st_size <= 400_000


def test_a_planned_header_is_that_of_the_file_to_the_byte(source: Path, out: Path) -> None:
    certificate = chosen(source, out, Target(bits_per_weight=2.5))
    assert len(words_of(certificate)) > 1
    formats = {
        tensor.name: ANY_BY_NAME[tensor.type.lower()]
        for tensor in certificate.tensors
        if tensor.encoder != "copied"
    }
    with open_source(source) as opened:
        inputs = stand_ins().calibrate(request(source, out), (), out.parent / "again", lambda _: None).inputs
        planned = planned_header(opened.model.headers, formats, inputs)
    header = open_gguf(out)
    assert header.packed is not None and planned.packed is not None
    assert replace(planned.packed, offset=header.packed.offset) == header.packed
    assert [(each.name, each.type, each.nbytes) for each in header.tensors] == [
        (each.name, each.type, each.nbytes) for each in planned.tensors
    ]
    assert planned.file_size == planned.packed.offset + planned.packed.nbytes


def test_kills_of_a_mixed_plan_end_in_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.quant.quantize_kills", "8", "5", str(tmp_path), "damage", "3.5"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["kills"] == 8


def test_ones_own_choice_without_a_hessian_is_an_error(source: Path, out: Path) -> None:
    wanted = request(source, out, overrides=(Override("blk.1.attn_q", "lt2"),))
    with pytest.raises(CannotEncode, match=r"blk\.1\.attn_q\.weight .* kept no Hessian"):
        quantize(wanted, steps=without("blk.1.attn_q.weight"))


# --- work under way ----------------------------------------------------------


def test_kills_end_in_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.quant.quantize_kills", "8", "3", str(tmp_path), "damage", "lt2"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["kills"] == 8


def test_other_texts_to_judge_on_keep_the_finished_tensors(source: Path, out: Path) -> None:
    quantize(request(source, out, "lt2", evaluation=()), steps=stand_ins())
    expected = out.read_bytes()
    out.unlink()

    def fail(*_: object) -> Any:
        raise JobFailed("a text is too short", step="evaluation")

    with pytest.raises(JobFailed):
        quantize(request(source, out, "lt2"), steps=replace(stand_ins(), evaluate=fail))
    result = quantize(request(source, out, "lt2", evaluation=()), steps=stand_ins())
    assert result.resumed_tensors == 20
    assert out.read_bytes() == expected


def test_what_an_earlier_file_holds_is_copied(source: Path, out: Path) -> None:
    first = out.with_name("first.gguf")
    quantize(request(source, first, "lt2", evaluation=()), steps=stand_ins())
    wanted = request(source, out, "lt2", evaluation=(), overrides=(Override("attn_q", "lt3"),))
    quantize(wanted, steps=stand_ins())
    expected = out.read_bytes()
    out.unlink()
    result = quantize(replace(wanted, reuse=first), steps=stand_ins())
    assert result.resumed_tensors == 18
    assert out.read_bytes() == expected


def test_of_a_plan_for_fewer_bits_what_stays_is_copied(source: Path, out: Path) -> None:
    first = out.with_name("first.gguf")
    chosen(source, first, Target(bits_per_weight=3.2), evaluation=())
    certificate = chosen(source, out, Target(bits_per_weight=3.0), evaluation=())
    expected = out.read_bytes()
    wanted = replace(request(source, out, 3.0, evaluation=(), replace=True), reuse=first)
    result = quantize(wanted, steps=stand_ins())
    before, after = types_of(first), types_of(out)
    same = {name for name, kind in after.items() if before[name] == kind}
    assert words_of(certificate) and any(after[name].startswith("LT") for name in same)
    assert result.resumed_tensors == len(same) < len(after)
    assert out.read_bytes() == expected


# --- packed models as sources ------------------------------------------------


def test_a_packed_model_becomes_one_in_types_of_ggml(source: Path, out: Path, tmp_path: Path) -> None:
    quantize(request(source, out, "lt3"), steps=stand_ins())
    halves = tmp_path / "halves.gguf"
    quantize(request(out, halves, KEEP, calibration=()), steps=stand_ins())
    header, packed = open_gguf(halves), open_gguf(out)
    assert header.packed is None
    assert header.get("general.file_type", int, 0) == 1
    assert packed.packed is not None
    data = read_packed_data(packed, packed.packed)
    with open_source(halves) as made:
        tensors = {tensor.name: tensor for tensor in made.tensors}
        for tensor in packed.packed.tensors:
            expected = plain_weights(packed, packed.packed, data, tensor)[0]
            found = made.rows(tensors[tensor.name], 0, tensor.shape[1])
            assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    certificate = quantize(request(out, tmp_path / "q8.gguf", "q8_0", calibration=()), steps=stand_ins())
    assert certificate.certificate.source.types == "LT3, Q6_K"
    assert Counter(types_of(tmp_path / "q8.gguf").values()) == {"Q8_0": MATRICES, "F32": 5, "Q6_K": 1}


def test_a_part_of_the_rows_is_the_same_as_all_of_them(tmp_path: Path, out: Path) -> None:
    moe = write_source(tmp_path / "moe.gguf", Shape(width=320, layers=1, experts=2))
    quantize(request(moe, out, "lt2"), steps=stand_ins())
    with open_source(out) as made:
        tensor = next(each for each in made.tensors if each.name == "blk.0.ffn_up_exps.weight")
        whole = made.rows(tensor, 0, tensor.rows)
        for start, stop in ((0, 1), (63, 65), (250, 260), (319, 321), (639, 640)):
            assert np.array_equal(made.rows(tensor, start, stop), whole[start:stop])


def test_calibration_does_not_run_a_packed_model_and_says_what_does(
    source: Path, out: Path, tmp_path: Path
) -> None:
    quantize(request(source, out, "lt3"), steps=stand_ins())
    with pytest.raises(CannotEncode, match="export MODEL --to gguf:f16"):
        quantize(request(out, tmp_path / "again.gguf", "q4_k"), steps=stand_ins())


def test_a_packed_model_is_no_original_to_plan_with(source: Path, out: Path, tmp_path: Path) -> None:
    quantize(request(source, out, "lt3"), steps=stand_ins())
    wanted = request(out, tmp_path / "again.gguf", calibration=(), evaluation=())
    with pytest.raises(CannotEncode, match="it is a result, not an original"):
        quantize(replace(wanted, target=Target(fit=Fit())), steps=stand_ins())
