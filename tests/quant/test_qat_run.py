"""A whole run: quantized, trained, written, certified; gone on with where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.allocation.recipe import Override
from quant.calibration.text import CalibrationText
from quant.calibration.texts import builtin
from quant.certificate.document import data_digest, from_json
from quant.certificate.keys import read_certificate
from quant.errors import CannotTrain, OutputExists, TextsOverlap, TextTooShort
from quant.evaluation.result import EvaluationText
from quant.files.source import open_source
from quant.files.stored import digests_of
from quant.files.work import PREFIX
from quant.pipeline import quantize
from quant.progress import CheckEvent, Event, PhaseEvent, WarningEvent
from quant.publication import certificate_path
from quant.qat.options import Mode, TrainOptions
from quant.qat.request import TrainRequest
from quant.request import Target
from runtime.errors import DoesNotFit
from runtime.gguf import open_gguf
from tests.quant.llama_child import computing, results
from tests.quant.source_models import write_source
from tests.quant.stand_ins import TEXTS, request, stand_ins

torch = pytest.importorskip("torch")

from quant.qat.llama import hidden, output_name  # noqa: E402
from quant.qat.run import Trained, train_quant  # noqa: E402
from quant.qat.shape import shape_of  # noqa: E402
from quant.qat.student import is_trained, read_weights  # noqa: E402

PROSE = next(text for text in builtin("calibration") if text.domain == "prose")
HELD_OUT = next(text for text in builtin("probing") if text.domain == "prose")


def wanted(source: Path, out: Path, mode: Mode = "full", **changes: Any) -> TrainRequest:
    """Four updates on 24 chunks of 64 tokens, judged by stand-ins."""
    options = TrainOptions(
        mode=mode, steps=4, chunks=2, checks=2, latent_rate=0.02, **changes.pop("options", {})
    )
    found = TrainRequest(
        quantize=request(source, out, "q2_0", calibration=(), context_tokens=64),
        options=options,
        data=(CalibrationText("a", "prose", PROSE.text[:6000]),),
        held_out=(EvaluationText("prose", HELD_OUT.text[:1500]),),
    )
    return replace(found, **changes)


def trained(asked: TrainRequest, **listeners: Any) -> Trained:
    return train_quant(asked, steps=stand_ins(), **listeners)


class TestResult:
    @pytest.mark.parametrize("mode", ["full", "scales", "blocks"])
    def test_it_has_the_formats_and_the_size_of_the_quantized_model_and_better_codes(
        self, mode: Mode, tiny_path: Path, tmp_path: Path
    ) -> None:
        events: list[Event] = []
        result = trained(wanted(tiny_path, tmp_path / "out.gguf", mode), on_event=events.append)
        kinds = {facts.name: (facts.type, facts.encoder) for facts in result.certificate.tensors}
        assert kinds["blk.0.ffn_up.weight"] == ("Q2_0", "trained")
        assert kinds["token_embd.weight"] == ("Q6_K", "nearest")
        facts = result.certificate.training
        assert facts is not None
        assert facts.steps == 4
        assert facts.held_out < facts.held_out_before
        assert [(text.name, text.tokens > 1000) for text in facts.texts] == [("prose", True)]
        assert (facts.kl_before, facts.perplexity_before) == (0.03, 12.5)
        assert result.before is not None
        phases = {event.phase for event in events if isinstance(event, PhaseEvent)}
        assert {"hash", "encode", "read", "train", "evaluate"} <= phases
        assert {event.layer for event in events if isinstance(event, CheckEvent)} == (
            set(range(6)) if mode == "blocks" else {None}
        )
        assert result.nbytes == result.path.stat().st_size

    def test_lt_formats_learn_their_scales(self, tiny_path: Path, tmp_path: Path) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf", "scales")
        quantize_request = replace(asked.quantize, target=Target("lt2"), calibration=TEXTS)
        result = trained(replace(asked, quantize=quantize_request))
        kinds = {facts.name: (facts.type, facts.encoder) for facts in result.certificate.tensors}
        assert kinds["blk.0.ffn_up.weight"] == ("LT2", "trained")
        facts = result.certificate.training
        assert facts is not None
        assert facts.held_out < facts.held_out_before
        header = open_gguf(result.path)
        assert data_digest(digests_of(header).values()) == result.certificate.data_sha256
        plain = quantize(replace(quantize_request, out=tmp_path / "plain.gguf"), steps=stand_ins())
        packed, same = header.packed, open_gguf(plain.path).packed
        assert packed is not None and same is not None
        assert (len(packed.inputs), packed.nbytes) == (len(same.inputs), same.nbytes)
        in_file = read_certificate(header)
        assert in_file is not None
        assert in_file.shared_bytes == result.certificate.shared_bytes == packed.shared_bytes

    @pytest.mark.parametrize("name", ["quantized.gguf", "trained", "part"])
    def test_no_name_of_the_result_is_that_of_something_under_way(
        self, name: str, tiny_path: Path, tmp_path: Path
    ) -> None:
        result = trained(wanted(tiny_path, tmp_path / name, "scales"))
        with open_source((tiny_path,)) as original, open_source((result.path,)) as found:
            for source in (original, found):
                (tensor,) = (each for each in source.tensors if each.name == "token_embd.weight")
                largest = np.abs(source.rows(tensor, 0, tensor.rows)).max()
                assert 0.1 < largest < 10

    def test_file_and_document_hold_the_same_certificate(self, tiny_path: Path, tmp_path: Path) -> None:
        import msgspec

        result = trained(wanted(tiny_path, tmp_path / "out.gguf"))
        beside = from_json(certificate_path(result.path).read_bytes())
        assert beside == result.certificate
        in_file = read_certificate(open_gguf(result.path))
        assert in_file == msgspec.structs.replace(result.certificate, making=None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "out.gguf.certificate.json"]

    def test_llama_cpp_computes_with_it_what_training_computed(self, tiny_path: Path, tmp_path: Path) -> None:
        """Nearly: llama.cpp rounds the inputs of quantized matrices to bytes."""
        result = trained(wanted(tiny_path, tmp_path / "out.gguf"))
        tokens = np.random.default_rng(0).integers(0, 2048, 48).tolist()
        (theirs,) = results([computing(result.path, tokens)])
        with open_source((result.path,)) as source, torch.no_grad():
            weights = read_weights(source, torch.float32)
            states = hidden(shape_of(source.header), weights, torch.tensor([tokens]))[0]
            mine = (states @ weights[output_name(weights)].T).numpy()
        assert np.abs(mine - theirs).max() < 0.05 * (theirs.max() - theirs.min())
        assert (mine.argmax(1) == theirs.argmax(1)).mean() > 0.9

    def test_what_does_not_help_leaves_the_quantized_model_as_it_is(
        self, tiny_path: Path, tmp_path: Path
    ) -> None:
        events: list[Event] = []
        asked = wanted(tiny_path, tmp_path / "out.gguf", options={"scale_rate": 9.0, "plain_rate": 9.0})
        result = trained(asked, on_event=events.append)
        assert result.certificate.training is not None
        assert result.certificate.training.steps == 0
        assert {facts.encoder for facts in result.certificate.tensors} == {"copied", "nearest"}
        assert "as quantized" in next(event.message for event in events if isinstance(event, WarningEvent))

    def test_the_same_request_gives_the_same_bytes(self, tiny_path: Path, tmp_path: Path) -> None:
        files = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            files.append(trained(wanted(tiny_path, tmp_path / name / "out.gguf")).path.read_bytes())
        assert files[0] == files[1]

    @pytest.mark.parametrize("mode", ["full", "blocks"])
    def test_a_stopped_run_ends_in_the_bytes_of_one_that_was_not(
        self, mode: Mode, tiny_path: Path, tmp_path: Path
    ) -> None:
        expected = trained(wanted(tiny_path, tmp_path / "whole.gguf", mode))
        (tmp_path / "parts").mkdir()
        asked = wanted(tiny_path, tmp_path / "parts" / "whole.gguf", mode)
        checks = 0

        def stop(event: Event) -> None:
            nonlocal checks
            checks += isinstance(event, CheckEvent)
            if checks == (8 if mode == "blocks" else 2):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(asked, on_event=stop)
        assert not asked.quantize.out.exists()
        (left,) = (path for path in asked.quantize.out.parent.iterdir() if path.name.startswith(PREFIX))
        assert left.is_dir()
        phases: list[str] = []
        again = trained(asked, on_event=lambda event: phases.append(getattr(event, "phase", "")))
        assert "encode" not in phases
        assert again.path.read_bytes() == expected.path.read_bytes()
        assert again.certificate.training == expected.certificate.training
        assert not left.exists()

    def test_no_other_file_takes_its_tensors_for_rounded_ones(self, tiny_path: Path, tmp_path: Path) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf")
        trained(asked)
        made = [
            replace(asked.quantize, out=tmp_path / name, reuse=earlier)
            for name, earlier in (("a.gguf", None), ("b.gguf", asked.quantize.out))
        ]
        digests = [quantize(each, steps=stand_ins()).certificate.data_sha256 for each in made]
        assert digests[0] == digests[1]

    @pytest.mark.parametrize("mode", ["full", "blocks"])
    def test_minutes_decide_how_many_updates_there_are_once(
        self, mode: Mode, tiny_path: Path, tmp_path: Path
    ) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf")
        asked = replace(asked, options=TrainOptions(mode=mode, steps=0, chunks=1, checks=1), minutes=0.02)
        totals: list[int] = []

        def listen(event: Event) -> None:
            if isinstance(event, PhaseEvent) and event.phase == "train":
                totals.append(event.total)
                if len(totals) == 1:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(asked, on_event=listen)
        certificate = trained(asked, on_event=listen).certificate
        assert len(set(totals)) == 1
        assert certificate.training is not None
        updates = totals[0] // 6 if mode == "blocks" else totals[0]
        assert f'"steps":{updates},' in certificate.training.options


class TestRefusal:
    def refused(self, asked: TrainRequest) -> None:
        trained(asked)
        raise AssertionError("it was trained")

    def test_a_model_that_is_not_quantized_has_nothing_to_learn(
        self, tiny_path: Path, tmp_path: Path
    ) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf")
        asked = replace(asked, quantize=replace(asked.quantize, target=Target("keep")))
        with pytest.raises(CannotTrain, match="nothing to train"):
            self.refused(asked)

    def test_texts_of_the_evaluation_are_not_learned_from(self, tiny_path: Path, tmp_path: Path) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf")
        seen = EvaluationText("prose", PROSE.text[:3000])
        asked = replace(asked, quantize=replace(asked.quantize, evaluation=(seen,)))
        with pytest.raises(TextsOverlap):
            self.refused(asked)

    def test_too_little_text_is_told_with_both_numbers(self, tiny_path: Path, tmp_path: Path) -> None:
        asked = replace(
            wanted(tiny_path, tmp_path / "out.gguf"), data=(CalibrationText("a", "prose", PROSE.text[:300]),)
        )
        with pytest.raises(TextTooShort, match="4 are the least"):
            self.refused(asked)

    def test_too_little_memory_is_told_before_the_work_begins(self, tiny_path: Path, tmp_path: Path) -> None:
        asked = wanted(tiny_path, tmp_path / "out.gguf")
        asked = replace(asked, quantize=replace(asked.quantize, memory_bytes=300 << 20))
        with pytest.raises(DoesNotFit, match="take --mode blocks"):
            self.refused(asked)
        assert not list(tmp_path.iterdir())

    def test_a_file_of_the_name_stays(self, tiny_path: Path, tmp_path: Path) -> None:
        (tmp_path / "out.gguf").write_bytes(b"here")
        with pytest.raises(OutputExists):
            self.refused(wanted(tiny_path, tmp_path / "out.gguf"))
        assert (tmp_path / "out.gguf").read_bytes() == b"here"

    def test_a_model_of_another_kind_is_told(self, tmp_path: Path) -> None:
        source = write_source(tmp_path / "source.gguf")
        data = source.read_bytes().replace(b"llama", b"gemma")
        source.write_bytes(data)
        with pytest.raises(CannotTrain, match="quantize it without training"):
            self.refused(wanted(source, tmp_path / "out.gguf"))


def test_matrices_outside_of_the_layers_do_not_learn(tiny_path: Path, tmp_path: Path) -> None:
    asked = wanted(tiny_path, tmp_path / "out.gguf")
    asked = replace(asked, quantize=replace(asked.quantize, overrides=(Override("blk.0.attn_*", "keep"),)))
    result = trained(asked)
    with open_source((result.path,)) as source:
        learned = {tensor.name for tensor in source.tensors if is_trained(tensor)}
    encoded = {facts.name for facts in result.certificate.tensors if facts.type == "Q2_0"}
    assert learned == encoded
    assert "token_embd.weight" not in learned
    assert "blk.0.attn_q.weight" not in learned
