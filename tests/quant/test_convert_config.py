"""Configurations: both forms of rotary positions, what transformers adds, what llama.cpp cannot compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quant.convert.config import Config, read_config
from quant.convert.convert import convert, read_model
from quant.convert.pooling import pooling_type
from quant.convert.rope import read_rope
from quant.errors import CannotConvert, CheckpointDamaged, UnknownArchitecture
from runtime.gguf import GgufHeader, open_gguf
from tests.quant.checkpoint_files import described, write_checkpoint
from tests.quant.convert_reference import tensors_digest


def header(folder: Path) -> GgufHeader:
    return open_gguf(convert(folder, folder.with_suffix(".gguf"), replace=True).path)


def config(**values: Any) -> Config:
    return Config(Path("config.json"), values)


class TestRope:
    @pytest.mark.parametrize(
        ("values", "theta", "kind", "sliding"),
        [
            ({}, 10_000.0, "default", None),
            ({"rope_theta": 5e5}, 5e5, "default", None),
            ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}, 5e5, "linear", None),
            ({"rope_scaling": {"rope_type": "su", "type": "longrope"}}, 1e4, "longrope", None),
            ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, 1e6, "yarn", None),
            ({"rope_theta": 1e6, "rope_local_base_freq": 1e4}, 1e6, "default", 1e4),
            (
                {
                    "rope_parameters": {
                        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    }
                },
                *(1e6, "linear", 1e4),
            ),
        ],
    )
    def test_old_and_new_configurations_say_the_same(
        self, values: dict[str, Any], theta: float, kind: str, sliding: float | None
    ) -> None:
        rope = read_rope(config(**values))
        assert (rope.theta, rope.kind, rope.sliding_theta) == (theta, kind, sliding)

    @pytest.mark.parametrize("name", ["llama3", "llama-linear", "qwen2-yarn", "gemma3-linear", "phi3-long"])
    def test_the_old_form_converts_to_the_same_file(self, name: str, tmp_path: Path) -> None:
        reference = described()[name]
        folder = write_checkpoint(tmp_path / "model", reference)
        new = convert(folder, tmp_path / "new.gguf")
        values = dict(reference.config)
        found = values.pop("rope_parameters")
        if "full_attention" in found:
            values["rope_local_base_freq"] = found["sliding_attention"]["rope_theta"]
            found = found["full_attention"]
        found = dict(found)
        values["rope_theta"] = found.pop("rope_theta")
        values["rope_scaling"] = {"type": found.pop("rope_type"), **found}
        (folder / "config.json").write_text(json.dumps(values))
        old = convert(folder, tmp_path / "old.gguf")
        assert old.path.read_bytes() == new.path.read_bytes()
        assert tensors_digest(old.path) == (reference.converted or {})["f32"]

    def test_an_unknown_scaling_is_refused(self) -> None:
        with pytest.raises(CannotConvert, match="'mrope', which is not known"):
            read_rope(config(rope_scaling={"type": "mrope"}))

    @pytest.mark.parametrize("factor", [0, -1, "8", True, None, float("nan"), float("inf"), 1e31])
    def test_a_factor_that_is_no_positive_number_is_refused(self, factor: Any, tmp_path: Path) -> None:
        changed = {"rope_parameters": {"rope_type": "linear", "factor": factor, "rope_theta": 1e4}}
        folder = write_checkpoint(tmp_path / "model", described()["llama2"], changed=changed)
        with pytest.raises(CheckpointDamaged):
            header(folder)


class TestWhatIsMissing:
    def test_a_hyperparameter_that_transformers_would_add_is_added(self, tmp_path: Path) -> None:
        reference = described()["mistral"]
        values = {key: value for key, value in reference.config.items() if key != "rms_norm_eps"}
        folder = write_checkpoint(tmp_path / "model", reference)
        (folder / "config.json").write_text(json.dumps(values))
        found = header(folder).get("llama.attention.layer_norm_rms_epsilon", float, 0.0)
        assert found == pytest.approx(1e-6)

    @pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "intermediate_size"])
    @pytest.mark.parametrize("value", [None, 0, -1, "64", 1.5, True, 1 << 40])
    def test_a_size_that_is_none_is_named(self, name: str, value: Any, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / "model", described()["llama2"], changed={name: value})
        with pytest.raises(CheckpointDamaged) as caught:
            header(folder)
        assert caught.value.rule == "bad-config"
        assert name in str(caught.value)

    def test_a_tensor_that_is_missing_is_named(self, tmp_path: Path) -> None:
        reference = described()["llama2"]
        tensors = dict(reference.tensors)
        del tensors["model.layers.2.mlp.down_proj.weight"]
        folder = write_checkpoint(tmp_path / "model", type(reference)("llama2", reference.config, tensors))
        with pytest.raises(CheckpointDamaged, match=r"no tensor for blk\.2\.ffn_down\.weight"):
            header(folder)

    def test_a_tensor_of_another_model_is_named(self, tmp_path: Path) -> None:
        reference = described()["llama2"]
        tensors = {**reference.tensors, "model.layers.0.mamba.weight": (4, 4)}
        folder = write_checkpoint(tmp_path / "model", type(reference)("llama2", reference.config, tensors))
        with pytest.raises(CannotConvert, match=r"model\.layers\.0\.mamba\.weight has no place"):
            header(folder)

    def test_a_shape_that_the_configuration_does_not_give_is_refused(self, tmp_path: Path) -> None:
        changed = {"num_key_value_heads": 4}
        folder = write_checkpoint(tmp_path / "model", described()["llama2"], changed=changed)
        with pytest.raises(CheckpointDamaged) as caught:
            header(folder)
        assert caught.value.rule == "bad-shape"

    def test_an_expert_that_is_missing_is_told(self, tmp_path: Path) -> None:
        reference = described()["qwen3-moe"]
        tensors = {
            name: shape
            for name, shape in reference.tensors.items()
            if "layers.1.mlp.experts.3.up" not in name
        }
        assert len(tensors) == len(reference.tensors) - 1
        folder = write_checkpoint(tmp_path / "m", type(reference)("qwen3-moe", reference.config, tensors))
        with pytest.raises(CheckpointDamaged):
            header(folder)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("llama2", {"hidden_act": "gelu"}),
        ("qwen3-moe", {"norm_topk_prob": False}),
        ("qwen3-moe", {"mlp_only_layers": [0]}),
        ("qwen3-moe", {"decoder_sparse_step": 2}),
        ("gemma2", {"query_pre_attn_scalar": 144}),
        ("gemma3", {"layer_types": ["full_attention"] * 7}),
        ("gemma3", {"attn_logit_softcapping": 50.0}),
        ("olmo2", {"tie_word_embeddings": True}),
        ("bert", {"hidden_act": "relu"}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("granite", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    name: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "model", described()[name], changed=changed)
    with pytest.raises(CannotConvert):
        header(folder)


class TestArchitecture:
    @pytest.mark.parametrize("value", [None, [], "LlamaForCausalLM", [7]])
    def test_a_configuration_without_one_is_refused(self, value: Any, tmp_path: Path) -> None:
        changed = {"architectures": value}
        folder = write_checkpoint(tmp_path / "model", described()["llama2"], changed=changed)
        with pytest.raises(CannotConvert, match="names no architecture"):
            read_model(folder)

    def test_one_that_is_unknown_is_named_with_those_that_are_known(self, tmp_path: Path) -> None:
        changed = {"architectures": ["MambaForCausalLM"]}
        folder = write_checkpoint(tmp_path / "model", described()["llama2"], changed=changed)
        with pytest.raises(UnknownArchitecture) as caught:
            read_model(folder)
        assert caught.value.architecture == "MambaForCausalLM"
        assert "Qwen3MoeForCausalLM" in caught.value.supported

    @pytest.mark.parametrize("text", ["[]", "{", '{"a": NaN}', '{"text_config": 7}', "\xff"])
    def test_a_config_json_that_is_none_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(CheckpointDamaged):
            read_config(tmp_path / "config.json")


class TestPooling:
    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ({"pooling_mode_mean_tokens": True}, 1),
            ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
            ({"pooling_mode": "lasttoken"}, 3),
        ],
    )
    def test_it_is_what_sentence_transformers_writes(
        self, pooling: dict[str, Any], expected: int, tmp_path: Path
    ) -> None:
        self.write(tmp_path, "1_Pooling", pooling)
        assert pooling_type(tmp_path) == expected

    def test_a_repository_may_say_nothing(self, tmp_path: Path) -> None:
        assert pooling_type(tmp_path) is None

    def test_a_pooling_that_llama_cpp_has_not_is_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path, "1_Pooling", {"pooling_mode_max_tokens": True})
        with pytest.raises(CannotConvert, match="it has mean, cls and lasttoken"):
            pooling_type(tmp_path)

    @pytest.mark.parametrize("place", ["../other", "/etc", "", None, "a/b"])
    def test_a_folder_elsewhere_is_refused(self, place: Any, tmp_path: Path) -> None:
        (tmp_path / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": place}]))
        with pytest.raises(CheckpointDamaged):
            pooling_type(tmp_path)

    @pytest.mark.parametrize("name", ["bert", "qwen3"])
    def test_it_stands_in_the_file(self, name: str, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / "model", described()[name])
        self.write(folder, "1_Pooling", {"pooling_mode_mean_tokens": True})
        assert header(folder).get(f"{name}.pooling_type", int, 0) == 1

    @staticmethod
    def write(folder: Path, place: str, pooling: dict[str, Any]) -> None:
        (folder / place).mkdir()
        modules = [{"type": "sentence_transformers.models.Pooling", "path": place}]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / place / "config.json").write_text(json.dumps(pooling))
