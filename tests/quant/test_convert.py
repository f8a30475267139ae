"""Small checkpoints of every architecture become GGUFs that llama.cpp computes with as transformers does.

The references are in ``checkpoints/``; ``test_convert_reference.py`` holds that they are what transformers
and llama.cpp's converter say.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.convert.checkpoint import Checkpoint
from quant.convert.convert import Converted, convert
from quant.convert.metadata import Provenance
from quant.errors import NoRoom, OutputExists
from quant.files.writer import PartFile
from quant.progress import PhaseEvent, PlannedEvent, WarningEvent
from runtime.gguf import GgufHeader, open_gguf
from runtime.gguf.values import ArrayRef
from tests.quant import llama_child
from tests.quant.checkpoint_files import (
    GREEDY_PROMPT,
    GREEDY_TOKENS,
    PROMPT,
    described,
    weights,
    write_checkpoint,
)
from tests.quant.convert_reference import tensors_digest

TOLERANCE = 2e-3
"""Of the logits' span. llama.cpp rounds GELU to a table in F16, which costs a tenth of that; all else
1e-6."""
NAMES = tuple(described())


@dataclass(frozen=True)
class Computed:
    """What llama.cpp computes with the file that was made."""

    converted: Converted
    rows: NDArray[np.float32]
    greedy: list[int]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Computed]:
    """All architectures, converted and run in one process."""
    root = tmp_path_factory.mktemp("checkpoints")
    made, jobs = {}, []
    for name, reference in described().items():
        folder = write_checkpoint(root / name, reference)
        made[name] = convert(folder, root / f"{name}.gguf")
        if reference.embedder:
            jobs.append(llama_child.embedding(made[name].path, PROMPT))
        else:
            jobs.append(llama_child.computing(made[name].path, PROMPT))
            jobs.append(llama_child.answering(made[name].path, GREEDY_PROMPT, GREEDY_TOKENS))
    found = iter(llama_child.results(jobs))
    return {
        name: Computed(converted, next(found), [] if described()[name].embedder else next(found))
        for name, converted in made.items()
    }


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Llama-2", described()["llama2"])


def texts(header: GgufHeader, key: str) -> list[str]:
    """An array of texts about the model's origin."""
    found = header.metadata[f"localq.origin.{key}"]
    assert isinstance(found, ArrayRef)
    return [text.decode() for text in header.read_array(found) if isinstance(text, bytes)]


def test_every_architecture_that_is_promised_is_tested() -> None:
    from quant.convert.architectures import supported_classes

    tested = {described()[name].config["architectures"][0] for name in NAMES}
    assert tested >= {
        *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM"),
        *("Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"),
        *("Phi3ForCausalLM", "GraniteForCausalLM", "Olmo2ForCausalLM", "BertModel", "RobertaModel"),
        "XLMRobertaModel",
    }
    assert set(supported_classes()) - tested == {
        *("BertForMaskedLM", "RobertaForMaskedLM", "XLMRobertaForMaskedLM"),  # the same with a head
        "Gemma3ForConditionalGeneration",
    }


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(computed: Mapping[str, Computed], name: str) -> None:
    reference, found = described()[name], computed[name]
    assert np.abs(found.rows[-1] - np.array(reference.last)).max() <= TOLERANCE * reference.span
    assert abs(found.rows.max() - found.rows.min() - reference.span) <= TOLERANCE * reference.span
    assert found.greedy == reference.greedy


def test_the_tolerance_would_notice_weights_that_are_one_part_in_a_hundred_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = described()["llama2"]

    def changed(name: str, tensors: Any) -> dict[str, NDArray[np.float32]]:
        return {
            tensor: values * np.float32(1.01 if tensor.endswith("layers.1.mlp.up_proj.weight") else 1)
            for tensor, values in weights(name, tensors).items()
        }

    monkeypatch.setattr("tests.quant.checkpoint_files.weights", changed)
    folder = write_checkpoint(tmp_path / "wrong", reference)
    made = convert(folder, tmp_path / "wrong.gguf")
    (rows,) = llama_child.results([llama_child.computing(made.path, PROMPT)])
    assert np.abs(rows[-1] - np.array(reference.last)).max() > TOLERANCE * reference.span


@pytest.mark.parametrize("outtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", NAMES)
def test_tensors_are_byte_for_byte_those_of_llama_cpps_converter(
    name: str, outtype: Any, tmp_path: Path
) -> None:
    reference = described()[name]
    folder = write_checkpoint(tmp_path / name, reference)
    made = convert(folder, tmp_path / "made.gguf", outtype=outtype)
    assert reference.converted is not None
    assert tensors_digest(made.path) == reference.converted[outtype]


class TestFile:
    def test_the_same_folder_gives_the_same_bytes(self, llama: Path, tmp_path: Path) -> None:
        first = convert(llama, tmp_path / "a.gguf").path.read_bytes()
        assert convert(llama, tmp_path / "b.gguf").path.read_bytes() == first

    def test_shards_and_a_stored_type_change_nothing_of_the_tensors(self, tmp_path: Path) -> None:
        reference = described()["mixtral"]
        whole = write_checkpoint(tmp_path / "whole", reference, dtype="BF16")
        parts = write_checkpoint(tmp_path / "parts", reference, dtype="BF16", shards=3)
        one = convert(whole, tmp_path / "one.gguf")
        three = convert(parts, tmp_path / "three.gguf")
        assert tensors_digest(one.path) == tensors_digest(three.path)
        types = {tensor.type.name for tensor in open_gguf(three.path).tensors if len(tensor.shape) > 1}
        assert types == {"BF16", "F32"}  # the router's matrix is read in no other type

    def test_parts_without_an_index_belong_together_by_their_names(self, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / "parts", described()["llama2"], shards=2)
        (folder / "model.safetensors.index.json").unlink()
        assert convert(folder, tmp_path / "made.gguf").tensors == 30

    def test_a_tied_model_has_one_matrix_for_both_ends(
        self, computed: Mapping[str, Computed], tmp_path: Path
    ) -> None:
        names = {tensor.name for tensor in open_gguf(computed["smollm"].converted.path).tensors}
        assert "token_embd.weight" in names
        assert "output.weight" not in names
        # a head that was saved all the same is the embedding once more
        reference = described()["smollm"]
        shape = reference.tensors["model.embed_tokens.weight"]
        with_head = type(reference)(
            "smollm", reference.config, {**reference.tensors, "lm_head.weight": shape}
        )
        made = convert(write_checkpoint(tmp_path / "head", with_head), tmp_path / "head.gguf")
        assert made.left_out == ("lm_head.weight",)

    def test_the_header_says_where_the_model_comes_from(self, llama: Path, tmp_path: Path) -> None:
        (llama / "README.md").write_text(
            "---\nlicense: apache-2.0\nlicense_name: 'odd one'\n---\n# A model\n"
        )
        provenance = Provenance(
            repository="org/Llama-2",
            commit="a" * 40,
            url="https://huggingface.co/org/Llama-2",
            sha256={"model.safetensors": "b" * 64, "config.json": "c" * 64},
        )
        header = open_gguf(convert(llama, tmp_path / "made.gguf", provenance=provenance).path)
        assert header.get("general.name", str, "") == "Llama-2"
        assert header.get("general.license", str, "") == "apache-2.0"
        assert header.get("general.license.name", str, "") == "odd one"
        assert header.get("general.source.repo_url", str, "") == "https://huggingface.co/org/Llama-2"
        assert header.get("localq.origin.commit", str, "") == "a" * 40
        assert dict(zip(texts(header, "files"), texts(header, "sha256"), strict=True)) == provenance.sha256

    def test_a_name_that_llama_cpp_takes_for_phi_3s_is_written_apart(
        self, computed: Mapping[str, Computed]
    ) -> None:
        # By that name it looks for tokens which this vocabulary lacks, and loads nothing.
        header = open_gguf(computed["phi3"].converted.path)
        assert header.get("general.name", str, "") == "phi 3"

    def test_progress_is_told_in_bytes_up_to_the_last(self, llama: Path, tmp_path: Path) -> None:
        events: list[object] = []
        made = convert(llama, tmp_path / "made.gguf", on_event=events.append)
        assert isinstance(events[0], PlannedEvent)
        assert events[0].nbytes == made.nbytes == made.path.stat().st_size
        done = [event.done for event in events if isinstance(event, PhaseEvent)]
        assert done == sorted(done)
        assert isinstance(events[-1], PhaseEvent)
        assert events[-1].done == events[-1].total

    def test_parts_of_a_model_that_sees_are_left_out_and_told(self, tmp_path: Path) -> None:
        reference = described()["gemma3"]
        config = {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": dict(reference.config),
        }
        names = {f"language_model.{name}": shape for name, shape in reference.tensors.items()}
        seeing = type(reference)("gemma3", config, {**names, "vision_tower.patch.weight": (4, 4)})
        events: list[object] = []
        made = convert(
            write_checkpoint(tmp_path / "seeing", seeing), tmp_path / "made.gguf", on_event=events.append
        )
        assert made.left_out == ("vision_tower.patch.weight",)
        assert any("vision_tower" in event.message for event in events if isinstance(event, WarningEvent))
        assert made.tensors == 93


class TestNothingIsLeftBehind:
    def test_an_interruption_publishes_nothing(self, llama: Path, tmp_path: Path) -> None:
        def stop(event: object) -> None:
            if isinstance(event, PhaseEvent) and event.done * 2 > event.total:
                raise KeyboardInterrupt

        out = tmp_path / "out" / "made.gguf"
        with pytest.raises(KeyboardInterrupt):
            convert(llama, out, on_event=stop)
        assert not list(out.parent.iterdir())

    def test_a_file_that_is_there_is_kept(self, llama: Path, tmp_path: Path) -> None:
        out = tmp_path / "made.gguf"
        out.write_text("mine")
        with pytest.raises(OutputExists):
            convert(llama, out)
        assert out.read_text() == "mine"
        assert convert(llama, out, replace=True).nbytes == out.stat().st_size

    def test_too_little_room_is_told_before_anything_is_written(
        self, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full:
            f_bavail, f_frsize = 100, 4096

        monkeypatch.setattr(os, "statvfs", lambda _path: Full())
        with pytest.raises(NoRoom) as caught:
            convert(llama, tmp_path / "out" / "made.gguf")
        assert caught.value.available_bytes == 409_600
        assert not (tmp_path / "out").exists()

    def test_a_publisher_that_fails_leaves_nothing(self, llama: Path, tmp_path: Path) -> None:
        def refuse(part: PartFile) -> None:
            assert open_gguf(part.path).architecture == "llama"
            raise OSError(errno.EROFS, "read-only")

        with pytest.raises(OSError, match="read-only"):
            convert(llama, tmp_path / "out" / "made.gguf", publish=refuse)
        assert not list((tmp_path / "out").iterdir())

    def test_a_source_that_is_written_to_meanwhile_is_refused(self, llama: Path, tmp_path: Path) -> None:
        from quant.errors import CheckpointDamaged

        def touch(event: object) -> None:
            if isinstance(event, PhaseEvent) and event.done == event.total:
                os.utime(llama / "model.safetensors", ns=(1, 1))

        with pytest.raises(CheckpointDamaged) as caught:
            convert(llama, tmp_path / "made.gguf", on_event=touch)
        assert caught.value.rule == "changed"
        assert not (tmp_path / "made.gguf").exists()


def test_a_copy_goes_on_where_the_system_cannot_copy_within_itself(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = convert(llama, tmp_path / "a.gguf").path.read_bytes()

    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "on another disk")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert convert(llama, tmp_path / "b.gguf").path.read_bytes() == expected


def test_a_checkpoint_tells_its_size(llama: Path) -> None:
    with Checkpoint(llama) as checkpoint:
        assert checkpoint.nbytes == 4 * sum(
            tensor.size for tensor in weights("x", described()["llama2"].tensors).values()
        )
