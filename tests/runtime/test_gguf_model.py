"""Split models, roles, pairs of files, and summaries."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from runtime.errors import GgufError
from runtime.gguf import ModelSummary, open_gguf, open_model, summarize
from runtime.gguf.pairing import require_adapter_fits, require_draft_fits
from runtime.gguf.roles import Role
from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import Tensor

A, B, C = (Tensor(f"blk.{number}.attn_norm.weight") for number in range(3))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def split(folder: Path, *parts: bytes, count: int | None = None) -> list[Path]:
    return [
        write(folder / f"m-{number:05}-of-{count or len(parts):05}.gguf", part)
        for number, part in enumerate(parts, start=1)
    ]


def three_parts() -> list[bytes]:
    return [g.split_part(number, 3, [tensor], 3) for number, tensor in enumerate((A, B, C))]


def refused(rule: str, paths: Path | list[Path], role: Role = "model") -> str:
    with pytest.raises(GgufError) as caught:
        open_model(paths, role=role)
    assert caught.value.rule == rule, caught.value
    return caught.value.reason


def test_a_split_model_is_opened_from_any_part_or_from_all_in_any_order(tmp_path: Path) -> None:
    paths = split(tmp_path, *three_parts())
    given: list[Path | str | list[Path]] = [*paths, paths, paths[::-1], str(paths[0])]
    for files in given:
        model = open_model(files)
        assert model.paths == tuple(paths)
        assert [tensor.name for tensor in model.tensors] == [A.name, B.name, C.name]
        assert model.header.get("general.name", str, "") == "tiny"


def test_a_first_part_without_tensors_is_a_model(tmp_path: Path) -> None:
    paths = split(tmp_path, g.split_part(0, 2, [], 1), g.split_part(1, 2, [A], 1))
    assert open_model(paths[0]).header.role == "model"


def test_parts_with_other_names_are_opened_if_all_are_given(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.gguf", part) for name, part in zip("zyx", three_parts(), strict=True)]
    assert open_model(paths[::-1]).paths == tuple(paths)
    assert "does not end in -0000N-of-00003.gguf" in refused("split-name", paths[0])


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path, *three_parts())
    paths[1].unlink()
    assert "part 2 of 3 is missing" in refused("split-missing", paths[2])
    assert "is one of 3 parts, 2 were given" in refused("split-missing", [paths[0], paths[2]])
    with pytest.raises(ValueError):
        open_model([])


def test_a_duplicated_part_is_named(tmp_path: Path) -> None:
    first, second, _ = three_parts()
    paths = split(tmp_path, first, second, second)
    assert "is part 2 a second time" in refused("split-duplicate", paths[0])
    assert "is part 2, its name says 3" in refused("split-number", paths[2])
    assert refused("split-duplicate", [paths[0], paths[0], paths[1]])


def test_a_part_that_is_broken_is_refused_by_its_own_rule(tmp_path: Path) -> None:
    first, second, third = three_parts()
    paths = split(tmp_path, first, second[:-1], third)
    refused("truncated", paths[0])


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [
        (g.split_part(1, 2, [B], 2), "is part 2 of 2, among the parts of a model in 3 files"),
        (g.split_part(9, 3, [B], 3), "is part 10 of 3"),
        (g.model(), "is part 1 of 1"),
        (g.split_part(1, 3, [B], 4), "has another split.tensors.count"),
        (g.split_part(1, 3, [A], 3), "has the tensor blk.0.attn_norm.weight, as an earlier part has"),
        (g.split_part(1, 3, [B, Tensor("x")], 3), "hold 4 tensors together; the model has 3"),
        (g.split_part(1, 3, [B], 3, general__name=g.string("other")), "has another general.name"),
        (
            g.split_part(1, 3, [B], 3, general__architecture=g.string("qwen2")),
            "has another general.architecture",
        ),
    ],
)
def test_a_part_of_another_model_is_refused(stranger: bytes, reason: str, tmp_path: Path) -> None:
    first, _, third = three_parts()
    assert reason in refused("split-mixed", split(tmp_path, first, stranger, third)[0])


def test_a_set_of_65535_parts_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "m-00001-of-65535.gguf", g.split_part(0, 65_535, [A], 3))
    refused("out-of-range", path)
    path = write(tmp_path / "m-00001-of-04096.gguf", g.split_part(0, 4_096, [A], 3))
    assert "part 2 of 4096 is missing" in refused("split-missing", path)


ROLES: dict[Role, bytes] = {
    "model": g.model(),
    "mmproj": g.projector(),
    "lora": g.adapter(),
    "imatrix": g.imatrix(),
    "vocab": g.build(g.llama_keys()),
}


@pytest.mark.parametrize("role", ROLES)
def test_a_file_is_opened_for_its_role_and_no_other(role: Role, tmp_path: Path) -> None:
    path = write(tmp_path / "file.gguf", ROLES[role])
    assert open_model(path, role=role).header.role == role
    for other in ROLES.keys() - {role}:
        reason = refused("wrong-role", path, other)
        assert reason.startswith(("is a ", "is an ")) and "this needs " in reason


def test_an_adapter_by_its_keys_alone_is_one(tmp_path: Path) -> None:
    assert open_gguf(write(tmp_path / "a.gguf", g.adapter(general__type=None))).role == "lora"
    norm = Tensor("blk.0.attn_norm.weight")
    assert open_gguf(write(tmp_path / "b.gguf", g.adapter((*g.ADAPTER_PAIR, norm)))).role == "lora"


@pytest.mark.parametrize(
    "missing",
    ["general__architecture", "llama__context_length", "llama__embedding_length", "llama__block_count"],
)
def test_a_model_without_what_llama_cpp_needs_is_refused(missing: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", g.model(**{missing: None}))
    assert missing.rpartition("__")[2] in refused("missing-key", path)


def moe(*extra: Tensor) -> bytes:
    return g.build(g.llama_keys(), [*g.WEIGHTS, Tensor("blk.0.ffn_down_exps.weight", (64, 32, 8)), *extra])


EXPERTS = (
    Tensor("blk.0.ffn_down_exps.weight.lora_a", (64, 4, 8)),
    Tensor("blk.0.ffn_down_exps.weight.lora_b", (4, 32, 8)),
)
TOKENS = (
    Tensor("token_embd.weight.lora_a", (4, len(g.SPM_TOKENS))),
    Tensor("token_embd.weight.lora_b", (4, 32)),
)


def test_an_adapter_that_fits_is_accepted(tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "m.gguf", moe()))
    tensors = (*g.ADAPTER_PAIR, *EXPERTS, *TOKENS, Tensor("blk.0.attn_norm.weight"))
    require_adapter_fits(model, open_gguf(write(tmp_path / "a.gguf", g.adapter(tensors))))


@pytest.mark.parametrize(
    ("data", "rule", "reason"),
    [
        (g.model(), "wrong-role", "not a LoRA"),
        (g.adapter(general__architecture=g.string("qwen2")), "adapter-mismatch", "architecture 'qwen2'"),
        (
            g.adapter([Tensor("x.lora_a", (32, 4)), Tensor("x.lora_b", (4, 32))]),
            "adapter-mismatch",
            "model lacks",
        ),
        (
            g.adapter([Tensor(EXPERTS[0].name, (64, 4, 4)), Tensor(EXPERTS[1].name, (4, 32, 4))]),
            "adapter-mismatch",
            "in the shape [64, 32, 4, 1], the model's is [64, 32, 8, 1]",
        ),
        (
            g.adapter([Tensor(TOKENS[0].name, (4, 9)), TOKENS[1]]),
            "adapter-mismatch",
            "in the shape [32, 9, 1, 1]",
        ),
    ],
)
def test_an_adapter_of_another_model_is_refused(data: bytes, rule: str, reason: str, tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "m.gguf", moe()))
    adapter = open_gguf(write(tmp_path / "a.gguf", data))
    with pytest.raises(GgufError) as caught:
        require_adapter_fits(model, adapter)
    assert caught.value.rule == rule and reason in caught.value.reason


def draft_error(model: bytes, draft: bytes, folder: Path) -> str:
    ours = open_model(write(folder / "m.gguf", model))
    theirs = open_model(write(folder / "d.gguf", draft))
    with pytest.raises(GgufError) as caught:
        require_draft_fits(ours, theirs)
    return caught.value.reason


def test_a_draft_with_the_same_tokens_is_accepted_whatever_it_calls_its_special_ones(tmp_path: Path) -> None:
    ours = open_model(write(tmp_path / "m.gguf", g.model()))
    tokens = g.strings(["<pad>", "<bos>", *g.SPM_TOKENS[2:], *(f"<spare{number}>" for number in range(100))])
    changes = {
        "tokenizer__ggml__tokens": tokens,
        "tokenizer__ggml__scores": None,
        "tokenizer__ggml__token_type": None,
    }
    require_draft_fits(ours, open_model(write(tmp_path / "d.gguf", g.model(**changes))))


def test_a_draft_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    plain: dict[str, bytes | None] = {"tokenizer__ggml__scores": None, "tokenizer__ggml__token_type": None}
    other = g.model(tokenizer__ggml__tokens=g.strings([*g.SPM_TOKENS[:-1], "ba"]), **plain)
    assert "token 262 is b'ba' in it and b'ab' in the model" in draft_error(g.model(), other, tmp_path)
    assert "tokenizer is 'gpt2'" in draft_error(g.model(), g.bpe_model(), tmp_path)
    more = g.strings([*g.SPM_TOKENS, *(f"x{number}" for number in range(129))])
    assert "392 tokens, the model 263" in draft_error(
        g.model(), g.model(tokenizer__ggml__tokens=more, **plain), tmp_path
    )
    assert "has no vocabulary" in draft_error(
        g.model(), g.model(tokenizer__ggml__tokens=None, **plain), tmp_path
    )


def test_a_summary_says_what_the_header_says(tmp_path: Path) -> None:
    header = open_gguf(write(tmp_path / "tiny.gguf", g.model()))
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert summarize(header) == ModelSummary(
        architecture="llama",
        name="tiny",
        parameters=32 * 263 + 3 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64,
        file_type="F32",
        bits_per_weight=32.0,
        context_tokens=256,
        vocabulary_size=263,
        embedding_length=32,
        block_count=1,
        license="apache-2.0",
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        tensor_types={"F32": 11},
        size_bytes=header.file_size,
    )
    assert msgspec.json.decode(msgspec.json.encode(summarize(header)), type=ModelSummary) == summarize(header)


def test_a_summary_of_a_bare_file_invents_nothing(tmp_path: Path) -> None:
    keys = {"general.architecture": g.string("llama"), "llama.vocab_size": g.u32(7)}
    summary = summarize(open_gguf(write(tmp_path / "bare.gguf", g.build(keys))))
    assert summary.name == "bare" and summary.file_type == "none" and summary.bits_per_weight == 0.0
    assert summary.vocabulary_size == 7 and summary.license is None and summary.chat_template_sha256 is None
    assert summary.context_tokens is None and summary.block_count is None
    assert summarize(open_gguf(write(tmp_path / "e.gguf", g.build()))).vocabulary_size == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"general__file_type": g.u32(15)}, "Q4_K_M"),
        ({"general__file_type": g.u32(1024 + 15)}, "Q4_K_M"),
        ({"general__file_type": g.u32(4)}, "F32"),
        ({"general__file_type": None}, "F32"),
    ],
)
def test_the_file_type_is_named_or_the_commonest_tensor_type(
    changes: dict[str, bytes | None], expected: str, tmp_path: Path
) -> None:
    tensors = (
        Tensor("a", (320,)),
        Tensor("b", (32,), kind=2, nbytes=18),
        Tensor("c", (32,), kind=2, nbytes=18),
    )
    header = open_gguf(write(tmp_path / "m.gguf", g.build(g.llama_keys(**changes), tensors)))
    assert summarize(header).file_type == expected
    assert summarize(header).tensor_types == {"F32": 1, "Q4_0": 2}


@pytest.mark.model
def test_the_demo_models_summary_is_right(demo_path: Path) -> None:
    summary = summarize(open_model(demo_path))
    assert (summary.architecture, summary.file_type, summary.license) == ("llama", "Q4_1", "apache-2.0")
    assert (summary.parameters, summary.vocabulary_size, summary.block_count) == (134_515_008, 49_152, 30)
    assert (summary.context_tokens, summary.embedding_length) == (8_192, 576)
    assert summary.tensor_types == {"Q8_0": 1, "F32": 61, "Q4_1": 210}
    assert summary.size_bytes == demo_path.stat().st_size and 5.7 < summary.bits_per_weight < 5.8
