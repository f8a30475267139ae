from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from quant.allocation.recipe import Override
from quant.calibration.imatrix import ImatrixFile, look_into, read_imatrix, write_imatrix
from quant.certificate.document import from_json
from quant.certificate.keys import read_certificate
from quant.encoders import tensor as encode
from quant.encoders.tensor import spread_rows
from quant.errors import CannotEncode, JobFailed, NoRoom, OutputExists, QuantError, SourceDamaged, WorkInUse
from quant.evaluation.memory import plan_scoring
from quant.files.source import SourceTensor
from quant.files.work import PREFIX
from quant.formats.dequantize import dequantize
from quant.formats.registry import BY_GGML_TYPE
from quant.pipeline import RESERVE_BYTES, quantize
from quant.progress import Event, PhaseEvent, PlannedEvent, TensorEvent, WarningEvent
from quant.publication import certificate_path
from quant.request import QuantizeRequest, Target
from runtime.errors import DoesNotFit, GgufError
from runtime.gguf import open_gguf
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME
from tests.quant.source_models import Shape, put, write_source
from tests.quant.stand_ins import made_up, request, seed_of, stand_ins

REPOSITORY = Path(__file__).resolve().parents[2]


def made(wanted: QuantizeRequest, **options: Any) -> bytes:
    """Quantizes with stand-ins, and gives the file's bytes."""
    quantize(wanted, steps=stand_ins(), **options)
    return wanted.out.read_bytes()


def values(path: Path, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A tensor's weights as ggml reads them."""
    tensor = next(found for found in gguf.GGUFReader(path).tensors if found.name == name)
    fmt = BY_GGML_TYPE.get(int(tensor.tensor_type))
    data = np.array(tensor.data)
    return dequantize(fmt, data) if fmt else data.astype(np.float32)


class TestResult:
    def test_every_matrix_gets_its_format_and_the_rest_is_copied(self, source: Path, out: Path) -> None:
        result = quantize(request(source, out), steps=stand_ins())
        types = {tensor.name: tensor.type.name for tensor in open_gguf(out).tensors}
        assert types["blk.0.attn_q.weight"] == "Q4_K"
        assert types["token_embd.weight"] == "Q6_K"
        assert types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == "F32"
        assert Counter(facts.encoder for facts in result.certificate.tensors) == {
            "copied": 5,
            "feedback": 14,
            "nearest": 1,  # the embeddings, whose input nobody saw
        }
        assert result.nbytes == out.stat().st_size

    def test_weights_are_near_those_of_the_source(self, source: Path, out: Path) -> None:
        certificate = quantize(request(source, out, "q6_k"), steps=stand_ins()).certificate
        for facts in certificate.tensors:
            before, after = values(source, facts.name), values(out, facts.name)
            if facts.encoder == "copied":
                assert np.array_equal(before, after)
            else:
                assert ((before - after) ** 2).sum() < 2e-3 * (before**2).sum()

    def test_the_error_in_the_certificate_is_that_of_the_output(self, source: Path, out: Path) -> None:
        certificate = quantize(request(source, out), steps=stand_ins()).certificate
        facts = next(found for found in certificate.tensors if found.name == "blk.1.ffn_up.weight")
        moments = made_up(1, 256, seed=seed_of(facts.name)).gram
        assert moments is not None
        before, after = values(source, facts.name), values(out, facts.name)
        rows = spread_rows(256, 128)
        before, error = before[rows], (before - after)[rows]
        expected = ((error @ moments[0, 0]) * error).sum() / ((before @ moments[0, 0]) * before).sum()
        assert facts.error == pytest.approx(expected, rel=1e-4)
        assert facts.error != pytest.approx(expected * 1.001, rel=1e-4)

    def test_metadata_of_the_source_is_kept(self, source: Path, out: Path) -> None:
        made(request(source, out))
        before, after = gguf.GGUFReader(source).fields, gguf.GGUFReader(out).fields
        for key, field in before.items():
            if not key.startswith("GGUF.") and key != "general.file_type":
                assert after[key].contents() == field.contents(), key
        assert after["general.file_type"].contents() == 14
        assert after["general.quantization_version"].contents() == 2

    def test_file_and_document_hold_the_same_certificate(self, source: Path, out: Path) -> None:
        result = quantize(request(source, out), steps=stand_ins())
        in_file = read_certificate(open_gguf(out))
        beside = from_json(certificate_path(out).read_bytes())
        assert beside == result.certificate
        assert in_file is not None
        assert beside.making is not None
        assert replace_making(beside) == in_file
        assert in_file.figures is not None
        assert in_file.figures.kl_mean == 0.03
        assert [text.name for text in in_file.evaluation] == ["prose", "unseen"]
        assert [(domain.name, domain.tokens) for domain in in_file.calibration] == [
            ("prose", 100),
            ("code", 200),
        ]

    def test_nothing_is_left_but_the_file_and_its_certificate(self, source: Path, out: Path) -> None:
        made(request(source, out))
        assert sorted(path.name for path in out.parent.iterdir()) == [
            "small.gguf",
            "small.gguf.certificate.json",
        ]

    def test_without_texts_weights_are_rounded_for_their_own_sake(self, source: Path, out: Path) -> None:
        wanted = request(source, out, calibration=(), evaluation=())
        certificate = quantize(wanted, steps=stand_ins()).certificate
        assert {facts.encoder for facts in certificate.tensors} == {"copied", "nearest"}
        assert certificate.figures is None
        assert read_certificate(open_gguf(out)) == replace_making(certificate)

    def test_experts_are_encoded_each_with_its_own_statistics(self, tmp_path: Path, out: Path) -> None:
        source = write_source(tmp_path / "experts.gguf", Shape(experts=3, layers=1))
        certificate = quantize(request(source, out), steps=stand_ins()).certificate
        kinds = {facts.name: (facts.type, facts.encoder) for facts in certificate.tensors}
        assert kinds["blk.0.ffn_down_exps.weight"] == ("Q4_K", "feedback")
        assert kinds["blk.0.ffn_gate_inp.weight"] == ("F16", "copied")
        before, after = values(source, "blk.0.ffn_up_exps.weight"), values(out, "blk.0.ffn_up_exps.weight")
        assert ((before - after) ** 2).sum() < 0.02 * (before**2).sum()

    def test_parts_of_a_split_source_become_one_file(self, tmp_path: Path, out: Path) -> None:
        from tests.app.store_kit import write_split

        paths = write_split(tmp_path / "parts", 3)
        wanted = replace(request(paths[0], out, "q8_0", calibration=(), evaluation=()), source=tuple(paths))
        quantize(wanted, steps=stand_ins())
        header = open_gguf(out)
        assert not any(key.startswith("split.") for key in header.metadata)
        assert len(header.tensors) == 4


def replace_making(certificate: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(certificate, making=None)


class TestImportanceMatrices:
    @pytest.fixture
    def matrix(self, source: Path, tmp_path: Path) -> ImatrixFile:
        """What the stand-ins measure of every matrix, in whole tokens."""
        statistics = stand_ins().calibrate(request(source, tmp_path), (), tmp_path / "s", lambda _share: None)
        names = [tensor.name for tensor in open_gguf(source).tensors if len(tensor.shape) > 1]
        found = {name: statistics.statistics(name) for name in names}
        path = tmp_path / "m.gguf"
        write_imatrix(path, {name: one for name, one in found.items() if one}, datasets=["a/b.txt", "c"])
        return look_into(path)

    def test_weights_are_rounded_by_what_the_file_says_of_their_inputs(
        self, source: Path, out: Path, matrix: ImatrixFile
    ) -> None:
        called: list[str] = []
        wanted = request(source, out, calibration=(), imatrix=matrix)
        certificate = quantize(wanted, steps=stand_ins(called.append)).certificate
        assert called == ["evaluate"]
        assert {facts.encoder for facts in certificate.tensors} == {"copied", "nearest"}
        measured = quantize(request(source, out, feedback=False, replace=True), steps=stand_ins()).certificate
        assert certificate.data_sha256 == measured.data_sha256
        plain = quantize(request(source, out, calibration=(), replace=True), steps=stand_ins()).certificate
        assert certificate.data_sha256 != plain.data_sha256

    def test_the_certificate_names_the_file_and_not_where_it_lay(
        self, source: Path, out: Path, matrix: ImatrixFile
    ) -> None:
        certificate = quantize(
            request(source, out, calibration=(), imatrix=matrix), steps=stand_ins()
        ).certificate
        found = read_certificate(open_gguf(out))
        assert found is not None
        assert found.imatrix == certificate.imatrix
        assert found.imatrix is not None
        assert (found.imatrix.name, found.imatrix.datasets) == ("m.gguf", ("b.txt", "c"))
        assert found.imatrix.sha256 == hashlib.sha256(matrix.path.read_bytes()).hexdigest()
        assert found.imatrix.tokens == 512
        assert (found.calibration, found.statistics_sha256) == ((), None)
        assert str(matrix.path.parent).encode() not in out.read_bytes()

    def test_matrices_that_the_file_says_nothing_of_are_told(
        self, source: Path, out: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "some.gguf"
        write_imatrix(path, {"blk.0.ffn_up.weight": made_up(1, 256, seed=0)})
        events: list[Event] = []
        wanted = request(source, out, calibration=(), imatrix=look_into(path))
        quantize(wanted, steps=stand_ins(), on_event=events.append)
        (warning,) = [event for event in events if isinstance(event, WarningEvent)]
        assert "says nothing of 13 of 15 matrices" in warning.message

    def test_a_matrix_of_another_model_is_refused(self, source: Path, out: Path, tmp_path: Path) -> None:
        for name, columns, said in (("blk.9.x.weight", 256, "nothing of"), ("blk.0.ffn_up.weight", 64, "64")):
            path = tmp_path / "other.gguf"
            write_imatrix(path, {name: made_up(1, columns, seed=0)})
            with pytest.raises(QuantError, match=rf"{said}.* another model"):
                quantize(request(source, out, calibration=(), imatrix=look_into(path)), steps=stand_ins())
        assert list(out.parent.iterdir()) == []

    def test_a_matrix_that_was_changed_since_is_refused(
        self, source: Path, out: Path, matrix: ImatrixFile
    ) -> None:
        write_imatrix(matrix.path, {"blk.0.ffn_up.weight": made_up(1, 256, seed=1)})
        with pytest.raises(GgufError, match="changed"):
            quantize(request(source, out, calibration=(), imatrix=matrix), steps=stand_ins())

    def test_what_was_measured_is_written_once_and_never_over_something_else(
        self, source: Path, out: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "measured.gguf"
        wanted = request(source, out, replace=True, save_imatrix=path)
        made(wanted)
        first = path.read_bytes()
        found = read_imatrix(path)
        assert found.datasets == ("prose", "code")
        assert "token_embd.weight" not in found.entries
        measured = made_up(1, 256, seed=seed_of("blk.0.ffn_up.weight")).mean_square
        np.testing.assert_allclose(found.entries["blk.0.ffn_up.weight"].mean_square, measured, rtol=1e-6)
        made(wanted)
        assert path.read_bytes() == first
        path.write_bytes(b"mine")
        with pytest.raises(OutputExists):
            made(wanted)
        assert path.read_bytes() == b"mine"
        assert not path.with_name("measured.gguf.new").exists()


class TestSizes:
    @pytest.mark.parametrize("bits", [3.0, 4.5, 6.0])
    def test_bits_for_each_weight_are_not_passed(self, source: Path, out: Path, bits: float) -> None:
        certificate = quantize(request(source, out, bits), steps=stand_ins()).certificate
        assert bits - 0.6 < certificate.bits_per_weight <= bits

    def test_a_size_counts_the_whole_file(self, source: Path, out: Path) -> None:
        for size in (400_000, 500_000, 600_000):
            wanted = replace(request(source, out, replace=True), target=Target(size_bytes=size))
            assert size - 40_000 < quantize(wanted, steps=stand_ins()).nbytes <= size

    def test_more_bits_never_give_more_error(self, source: Path, out: Path) -> None:
        errors = []
        for bits in (2.5, 3.5, 4.5, 5.5):
            certificate = quantize(request(source, out, bits, replace=True), steps=stand_ins()).certificate
            errors.append(sum(facts.error or 0.0 for facts in certificate.tensors))
        assert errors == sorted(errors, reverse=True)

    def test_a_size_that_no_format_reaches_is_an_error_with_both_numbers(
        self, source: Path, out: Path
    ) -> None:
        wanted = replace(request(source, out), target=Target(size_bytes=50_000))
        with pytest.raises(CannotEncode, match=r"smallest formats need .* are there"):
            quantize(wanted, steps=stand_ins())
        assert not out.exists()

    def test_a_persons_own_choices_hold_within_a_size(self, source: Path, out: Path) -> None:
        wanted = request(source, out, 9.0, overrides=(Override("attn_q", "q8_0"), Override("ffn_up", "keep")))
        certificate = quantize(wanted, steps=stand_ins()).certificate
        types = {facts.name: facts.type for facts in certificate.tensors}
        assert types["blk.0.attn_q.weight"] == "Q8_0"
        assert types["blk.1.ffn_up.weight"] == "F16"
        assert 6.0 < certificate.bits_per_weight <= 9.0
        assert certificate.overrides == ("attn_q=q8_0", "ffn_up=keep")


class TestDeterminism:
    def test_any_number_of_jobs_gives_the_same_bytes(self, source: Path, out: Path) -> None:
        one = made(request(source, out, "q4_k_m", jobs=1))
        assert made(request(source, out, "q4_k_m", jobs=2, replace=True)) == one
        assert made(request(source, out, "q4_k_m", jobs=5, replace=True)) == one

    def test_any_size_of_the_chunks_gives_the_same_bytes(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = made(request(source, out))
        monkeypatch.setattr(encode.chunks, "__defaults__", (1, 256 * 16))
        assert len(encode.chunks(first_tensor(source))) == 2
        assert made(request(source, out, replace=True)) == whole

    def test_another_seed_or_name_is_in_the_certificate_only(self, source: Path, out: Path) -> None:
        first = quantize(request(source, out), steps=stand_ins()).certificate
        second = quantize(request(source, out, seed=1, replace=True), steps=stand_ins()).certificate
        assert first.data_sha256 == second.data_sha256
        assert (first.seed, second.seed) == (0, 1)

    def test_one_other_weight_gives_another_digest(self, tmp_path: Path, source: Path, out: Path) -> None:
        first = quantize(request(source, out), steps=stand_ins()).certificate
        other = write_source(tmp_path / "other.gguf", change=put("blk.0.ffn_up.weight", 5, 0.25))
        second = quantize(request(other, out, replace=True), steps=stand_ins()).certificate
        assert first.data_sha256 != second.data_sha256
        assert first.source.sha256 != second.source.sha256


def first_tensor(path: Path) -> Any:
    from quant.files.source import open_source

    with open_source(path) as source:
        return source.tensors[0]


class TestChunks:
    @pytest.mark.parametrize(
        ("shape", "jobs", "expected"),
        [
            ((256, 1000), 1, [1000]),  # within what a chunk may hold
            ((256, 1000), 3, [384, 384, 232]),  # one for each job
            ((1 << 14, 1000), 1, [128] * 7 + [104]),  # 2 Mi weights
            ((1 << 17, 130), 1, [64, 64, 2]),  # no fewer rows than are worked on together
            ((256, 100, 3), 1, [100, 100, 100]),  # an expert's rows
            ((256, 100, 3), 2, [64, 36] * 3),
            ((5000,), 4, [1]),
        ],
    )
    def test_a_tensor_is_cut_into_rows_that_fit(
        self, shape: tuple[int, ...], jobs: int, expected: list[int]
    ) -> None:
        tensor = SourceTensor("t", GGML_TYPES_BY_NAME["F32"], shape, 0, 0, 0)
        pieces = encode.chunks(tensor, jobs)
        assert [piece.stop - piece.start for piece in pieces] == expected
        assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
        per_expert = tensor.rows // tensor.experts
        assert [piece.expert for piece in pieces] == [piece.start // per_expert for piece in pieces]


class TestRefusals:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize(
        "tensor", ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight", "output_norm.weight"]
    )
    def test_a_weight_that_is_no_number_names_its_tensor_and_publishes_nothing(
        self, tmp_path: Path, out: Path, tensor: str, value: float
    ) -> None:
        bad = write_source(tmp_path / "bad.gguf", change=put(tensor, 0, value))
        called: list[str] = []
        with pytest.raises(SourceDamaged) as caught:
            quantize(request(bad, out), steps=stand_ins(called.append))
        assert caught.value.tensor == tensor
        assert called == []
        assert not out.exists()
        assert not certificate_path(out).exists()

    def test_a_weight_that_is_no_number_is_found_where_sizes_are_chosen_too(
        self, tmp_path: Path, out: Path
    ) -> None:
        bad = write_source(tmp_path / "bad.gguf", change=put("blk.1.ffn_down.weight", 100, np.nan))
        with pytest.raises(SourceDamaged):
            quantize(request(bad, out, 4.5), steps=stand_ins())
        assert not out.exists()

    @pytest.mark.parametrize("left", [0, 100, 5000, 200_000])
    def test_a_truncated_source_publishes_nothing(self, source: Path, out: Path, left: int) -> None:
        os.truncate(source, left)
        with pytest.raises(GgufError):
            quantize(request(source, out), steps=stand_ins())
        assert list(out.parent.iterdir()) == []

    def test_a_source_that_changes_meanwhile_publishes_nothing(self, source: Path, out: Path) -> None:
        def change(event: Event) -> None:
            if isinstance(event, TensorEvent) and event.number == 5:
                with source.open("r+b") as file:
                    file.seek(-64, os.SEEK_END)
                    file.write(b"\1\2\3")
                os.utime(source, ns=(1, 1))

        with pytest.raises(GgufError, match="changed"):
            quantize(request(source, out), steps=stand_ins(), on_event=change)
        assert not out.exists()

    def test_weights_beyond_half_precision_are_an_error_that_names_the_tensor(
        self, tmp_path: Path, out: Path
    ) -> None:
        change = put("blk.0.ffn_up.weight", 3, 1e30)
        bad = write_source(tmp_path / "bad.gguf", plain=np.float32, change=change)
        with pytest.raises(CannotEncode, match=r"blk\.0\.ffn_up\.weight"):
            quantize(request(bad, out), steps=stand_ins())
        assert not out.exists()

    def test_a_file_that_is_there_is_not_replaced_unless_asked(self, source: Path, out: Path) -> None:
        out.write_bytes(b"mine")
        with pytest.raises(QuantError, match="exists already"):
            quantize(request(source, out), steps=stand_ins())
        assert out.read_bytes() == b"mine"

    def test_of_two_runs_to_one_file_the_second_one_is_told(self, source: Path, out: Path) -> None:
        def overtake(event: Event) -> None:
            if isinstance(event, TensorEvent) and event.number == 9:
                made(request(source, out, "q8_0"))

        with pytest.raises(OutputExists, match="exists already"):
            quantize(request(source, out), steps=stand_ins(), on_event=overtake)
        assert open_gguf(out).get("general.file_type", int, 0) == 7
        assert from_json(certificate_path(out).read_bytes()).target == "q8_0"

    def test_a_run_that_fails_before_its_work_leaves_nothing(self, source: Path, out: Path) -> None:
        wanted = replace(request(source, out, calibration=()), target=Target(size_bytes=50_000))
        with pytest.raises(CannotEncode):
            quantize(wanted, steps=stand_ins())
        assert list(out.parent.iterdir()) == []

    def test_too_little_disk_is_told_with_both_numbers_before_the_work(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = os.statvfs_result((4096, 4096, 10, 5, 5, 10, 10, 10, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda _path: full)
        called: list[str] = []
        with pytest.raises(NoRoom) as caught:
            quantize(request(source, out), steps=stand_ins(called.append))
        assert caught.value.available_bytes == 5 * 4096
        assert caught.value.needed_bytes > caught.value.available_bytes
        assert called == []

    def test_too_little_memory_is_told_with_both_numbers_before_the_work(
        self, source: Path, out: Path
    ) -> None:
        called: list[str] = []
        with pytest.raises(DoesNotFit, match=r"takes up to .* available \(limited by --ram\)") as caught:
            quantize(request(source, out, memory_bytes=100 << 20), steps=stand_ins(called.append))
        assert caught.value.available_bytes == 100 << 20 < caught.value.needed_bytes
        assert called == []

    def test_too_little_memory_to_judge_is_told_before_the_work(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def huge(*given: Any) -> Any:
            return replace(plan_scoring(*given), bytes=1 << 50, reclaimable=0)

        monkeypatch.setattr("quant.preflight.plan_scoring", huge)
        called: list[str] = []
        with pytest.raises(
            DoesNotFit, match=r"judging source.gguf takes up to 1024 TiB .* --eval none"
        ) as caught:
            quantize(request(source, out), steps=stand_ins(called.append))
        assert caught.value.needed_bytes == 1 << 50
        assert called == []
        made(request(source, out, evaluation=()))

    def test_too_little_memory_to_calibrate_is_told_before_the_work(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quant.preflight.observing_bytes", lambda *_, **__: 1 << 50)
        called: list[str] = []
        with pytest.raises(DoesNotFit, match=r"calibrating source.gguf takes up to 1024 TiB .* --mem"):
            quantize(request(source, out), steps=stand_ins(called.append))
        assert called == []
        made(request(source, out, calibration=()))

    @pytest.mark.parametrize(
        "target", [Target("q8_0"), Target(bits_per_weight=8.5), Target(size_bytes=700_000)], ids=str
    )
    def test_a_disk_that_the_file_does_not_fit_on_is_told_before_calibration(
        self, source: Path, out: Path, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.statvfs

        def nearly_full(path: Any) -> os.statvfs_result:
            values = list(real(path))
            values[1], values[4] = 1, (RESERVE_BYTES + 500_000)
            return os.statvfs_result(values)

        monkeypatch.setattr(os, "statvfs", nearly_full)
        called: list[str] = []
        wanted = replace(request(source, out), target=target)
        with pytest.raises(NoRoom) as caught:
            quantize(wanted, steps=stand_ins(called.append))
        assert called == []
        assert caught.value.needed_bytes > RESERVE_BYTES + 600_000
        assert list(out.parent.iterdir()) == []
        made(replace(wanted, target=Target("q4_k"), evaluation=()))

    def test_statistics_of_another_shape_are_an_error(self, source: Path, out: Path) -> None:
        steps = stand_ins()

        def wrong(*given: Any) -> Any:
            found = steps.calibrate(*given)
            return replace(found, statistics=lambda _name: made_up(2, 256, seed=0))

        with pytest.raises(CannotEncode, match="calibrate again with this model"):
            quantize(request(source, out), steps=replace(steps, calibrate=wrong))

    def test_an_already_quantized_source_is_a_warning_and_stands_in_the_certificate(
        self, source: Path, out: Path
    ) -> None:
        first = out.with_name("first.gguf")
        made(request(source, first, "q8_0"))
        events: list[Event] = []
        certificate = quantize(
            request(first, out, "q4_k"), steps=stand_ins(), on_event=events.append
        ).certificate
        (warning,) = [event for event in events if isinstance(event, WarningEvent)]
        assert "already quantized (Q8_0)" in warning.message
        assert certificate.source.already_quantized
        assert certificate.source.types == "Q8_0"

    def test_quantizing_to_the_same_format_again_copies_every_tensor_and_says_so(
        self, source: Path, out: Path
    ) -> None:
        first = out.with_name("first.gguf")
        made(request(source, first, "q4_k"))
        events: list[Event] = []
        certificate = quantize(
            request(first, out, "q4_k"), steps=stand_ins(), on_event=events.append
        ).certificate
        assert {facts.encoder for facts in certificate.tensors} == {"copied"}
        warnings = [event.message for event in events if isinstance(event, WarningEvent)]
        assert warnings[-1].startswith("nothing is to encode")


class TestEvents:
    def test_every_tensor_is_told_once_and_the_last_one_has_nothing_left(
        self, source: Path, out: Path
    ) -> None:
        events: list[Event] = []
        quantize(request(source, out), steps=stand_ins(), on_event=events.append)
        tensors = [event for event in events if isinstance(event, TensorEvent)]
        assert [event.number for event in tensors] == list(range(1, 21))
        assert {event.count for event in tensors} == {20}
        assert tensors[-1].eta_seconds == 0.0
        (planned,) = [event for event in events if isinstance(event, PlannedEvent)]
        assert (planned.encoded, planned.copied, planned.nbytes) == (15, 5, out.stat().st_size)
        phases = [event.phase for event in events if isinstance(event, PhaseEvent)]
        assert list(dict.fromkeys(phases)) == ["hash", "check", "calibrate", "encode", "evaluate"]
        assert all(0 <= event.done <= event.total for event in events if isinstance(event, PhaseEvent))

    def test_the_weights_that_are_told_of_are_all_weights(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encode.chunks, "__defaults__", (1, 256 * 64))
        events: list[Event] = []
        quantize(request(source, out), steps=stand_ins(), on_event=events.append)
        encoded = [event for event in events if isinstance(event, PhaseEvent) and event.phase == "encode"]
        weights = sum(tensor.elements for tensor in open_gguf(source).tensors)
        assert (encoded[-1].done, encoded[-1].total) == (weights, weights)

    def test_what_a_listener_raises_ends_the_run_and_keeps_what_is_finished(
        self, source: Path, out: Path
    ) -> None:
        def interrupt(event: Event) -> None:
            if isinstance(event, TensorEvent) and event.number == 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            quantize(request(source, out), steps=stand_ins(), on_event=interrupt)
        assert not out.exists()
        called: list[str] = []
        result = quantize(request(source, out), steps=stand_ins(called.append))
        assert result.resumed_tensors == 8
        assert called == ["evaluate"]


class TestWork:
    def test_the_same_work_is_done_by_one_process_at_a_time(self, source: Path, out: Path) -> None:
        def again(event: Event) -> None:
            if isinstance(event, PlannedEvent):
                quantize(request(source, out), steps=stand_ins())

        with pytest.raises(WorkInUse, match="another localq process"):
            quantize(request(source, out), steps=stand_ins(), on_event=again)

    def test_a_lock_of_a_dead_process_is_no_obstacle(self, source: Path, out: Path) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, PlannedEvent):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            quantize(request(source, out), steps=stand_ins(), on_event=stop)
        (folder,) = out.parent.glob(f"{PREFIX}*")
        fd = os.open(folder, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.close(fd)
        made(request(source, out))

    def test_another_request_has_a_folder_of_its_own(self, source: Path, out: Path) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, TensorEvent):
                raise KeyboardInterrupt

        for target in ("q4_k", "q5_k"):
            with pytest.raises(KeyboardInterrupt):
                quantize(request(source, out, target), steps=stand_ins(), on_event=stop)
        assert len(list(out.parent.glob(f"{PREFIX}*"))) == 2

    @pytest.mark.parametrize("piece", [1000, 1 << 22])
    def test_other_texts_to_judge_on_keep_the_finished_tensors(
        self, source: Path, out: Path, piece: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quant.files.work._READ_BYTES", piece)
        expected = made(request(source, out, evaluation=()))
        out.unlink()

        def fail(*_: object) -> Any:
            raise JobFailed("a text is too short", step="evaluation")

        with pytest.raises(JobFailed):
            quantize(request(source, out), steps=replace(stand_ins(), evaluate=fail))
        called: list[str] = []
        result = quantize(request(source, out, evaluation=()), steps=stand_ins(called.append))
        assert result.resumed_tensors == 20
        assert called == []
        assert out.read_bytes() == expected

    def test_figures_of_an_interrupted_publication_are_kept(self, source: Path, out: Path) -> None:
        def refuse(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            quantize(request(source, out), steps=stand_ins(), publish=refuse)
        called: list[str] = []
        certificate = quantize(request(source, out), steps=stand_ins(called.append)).certificate
        assert called == []
        assert certificate.figures is not None
        assert certificate.making is not None

    def test_what_was_encoded_under_other_statistics_is_encoded_again(self, source: Path, out: Path) -> None:
        steps = stand_ins()
        expected = made(request(source, out, evaluation=()))
        out.unlink()

        def otherwise(*given: Any) -> Any:
            found = steps.calibrate(*given)
            return replace(found, sha256="6" * 64, statistics=lambda _name: made_up(1, 256, seed=99))

        def stop(event: Event) -> None:
            if isinstance(event, TensorEvent) and event.number == 9:
                raise KeyboardInterrupt

        wanted = request(source, out, evaluation=())
        with pytest.raises(KeyboardInterrupt):
            quantize(wanted, steps=replace(steps, calibrate=otherwise), on_event=stop)
        assert quantize(wanted, steps=steps).resumed_tensors == 0
        assert out.read_bytes() == expected

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{",
            b'{"\xff": 1}',
            b'{"statistics_sha256": "%s", "formats": {"blk.0.attn_q.weight": "q9"}}' % (b"5" * 64),
            b'{"statistics_sha256": "%s", "formats": {"nothing": "q4_k"}}' % (b"5" * 64),
        ],
    )
    def test_a_damaged_plan_is_made_again(self, source: Path, out: Path, damage: bytes) -> None:
        expected = made(request(source, out))
        out.unlink()

        def stop(event: Event) -> None:
            if isinstance(event, TensorEvent) and event.number == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            quantize(request(source, out), steps=stand_ins(), on_event=stop)
        (folder,) = out.parent.glob(f"{PREFIX}*")
        (folder / "plan.json").write_bytes(damage)
        with (folder / "journal.jsonl").open("ab") as journal:
            journal.write(b'\n{"name": "blk.1.attn_q.weight", "sha2')
        assert made(request(source, out)) == expected


def killed(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tests.quant.quantize_kills",
        *arguments[:2],
        str(tmp_path),
        *arguments[2:],
    ]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


class TestKills:
    def test_eight_kills_end_in_the_bytes_of_an_undisturbed_run(self, tmp_path: Path) -> None:
        ran = killed(tmp_path, "8", "1")
        assert ran.returncode == 0, ran.stderr
        outcome = json.loads(ran.stdout)
        assert outcome["kills"] == 8
        assert outcome["changes"] > 40
        assert outcome["most_in_a_row"] >= 2
        assert outcome["left"] == []

    def test_bytes_that_a_power_failure_took_are_made_again(self, tmp_path: Path) -> None:
        ran = killed(tmp_path, "8", "2", "damage")
        assert ran.returncode == 0, ran.stderr

    def test_the_check_above_notices_a_journal_that_is_believed_blindly(self, tmp_path: Path) -> None:
        ran = killed(tmp_path, "8", "2", "damage", "trust")
        assert ran.returncode == 1
        assert "the bytes differ" in ran.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3, 6))
    def test_a_hundred_kills_end_in_the_bytes_of_an_undisturbed_run(self, tmp_path: Path, seed: int) -> None:
        ran = killed(tmp_path, "100", str(seed), *(["damage"] if seed % 2 else []))
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["kills"] == 100
