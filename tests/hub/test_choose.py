from __future__ import annotations

import hashlib

import pytest

from app.errors import NeedsConversion, NoSuchChoice
from app.hub.api import RemoteFile, RemoteRepo
from app.hub.choose import Choice, candidates, choose, quant_of
from app.hub.reference import HubReference, parse_reference


def repo(*paths: str, refused: tuple[tuple[str, str], ...] = ()) -> RemoteRepo:
    files = tuple(
        RemoteFile(path, 1000 + index, hashlib.sha256(path.encode()).hexdigest(), "")
        for index, path in enumerate(paths)
    )
    return RemoteRepo("org/model", "c" * 40, None, files, refused, {}, None)


def chosen(reference: str, *paths: str) -> list[str]:
    parsed = parse_reference(reference)
    assert isinstance(parsed, HubReference)
    choice: Choice = choose(parsed, repo(*paths))
    return [file.path for file in choice.files]


LADDER = tuple(f"M-{quant}.gguf" for quant in ("Q2_K", "IQ3_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0", "f16"))


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("Model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.Q4_K_M.gguf", "Q4_K_M"),
        ("model-q4_k_m.gguf", "Q4_K_M"),
        ("Model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Model-Q6_K_L.gguf", "Q6_K_L"),
        ("Model-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("Model-BF16.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("model-f32.gguf", "F32"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Model-TQ1_0.gguf", "TQ1_0"),
        ("Q8_0/Model-Q8_0-00001-of-00003.gguf", "Q8_0"),
        ("BF16/Model-00001-of-00003.gguf", "BF16"),
        ("Qwen3-4B.gguf", None),
        ("Q4-model.gguf", "Q4"),
        ("Quantum-8B.gguf", None),
    ],
)
def test_the_quantization_is_read_from_the_name(path: str, quant: str | None) -> None:
    assert quant_of(path) == quant


@pytest.mark.parametrize(
    ("reference", "paths", "files"),
    [
        ("org/model", LADDER, ["M-Q4_K_M.gguf"]),
        ("org/model:q8_0", LADDER, ["M-Q8_0.gguf"]),
        ("org/model:F16", LADDER, ["M-f16.gguf"]),
        ("org/model:fp16", LADDER, ["M-f16.gguf"]),
        ("org/model/M-IQ3_M.gguf", LADDER, ["M-IQ3_M.gguf"]),
        ("org/model", ("only.gguf", "README.md"), ["only.gguf"]),
        ("org/model", ("a-Q8_0.gguf", "a-Q5_K_S.gguf"), ["a-Q5_K_S.gguf"]),
        ("org/model:Q4_K_XL", ("a-UD-Q4_K_XL.gguf", "a-Q8_0.gguf"), ["a-UD-Q4_K_XL.gguf"]),
        ("org/model", ("a-Q4_K_M.gguf", "imatrix.gguf", "a.imatrix"), ["a-Q4_K_M.gguf"]),
        (
            "org/model:Q4_K_M",
            ("a-q4_k_m-00001-of-00002.gguf", "a-q4_k_m-00002-of-00002.gguf", "a-q4_k_m.gguf"),
            ["a-q4_k_m.gguf"],
        ),
        (
            "org/model",
            ("d/a-Q4_K_M-00002-of-00002.gguf", "d/a-Q4_K_M-00001-of-00002.gguf"),
            ["d/a-Q4_K_M-00001-of-00002.gguf", "d/a-Q4_K_M-00002-of-00002.gguf"],
        ),
        (
            "org/model/d/a-00002-of-00002.gguf",
            ("d/a-00001-of-00002.gguf", "d/a-00002-of-00002.gguf"),
            ["d/a-00001-of-00002.gguf", "d/a-00002-of-00002.gguf"],
        ),
        (
            "org/model",
            ("a-Q4_K_M.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"),
            ["a-Q4_K_M.gguf", "mmproj-F16.gguf"],
        ),
        (
            "org/model:Q4_K_M",
            ("d/a-Q4_K_M.gguf", "e/mmproj-F16.gguf", "d/mmproj-model.gguf", "chat_template.jinja"),
            ["d/a-Q4_K_M.gguf", "d/mmproj-model.gguf", "chat_template.jinja"],
        ),
        (
            "org/model:Q4_K_M",
            ("d/a-Q4_K_M.gguf", "d/chat_template.jinja", "chat_template.jinja"),
            ["d/a-Q4_K_M.gguf", "d/chat_template.jinja"],
        ),
    ],
)
def test_a_reference_means_these_files(reference: str, paths: tuple[str, ...], files: list[str]) -> None:
    assert chosen(reference, *paths) == files


@pytest.mark.parametrize(
    ("reference", "paths", "told"),
    [
        ("org/model:Q3_K_M", LADDER, "there is no Q3_K_M"),
        ("org/model/other.gguf", LADDER, "there is no model file"),
        ("org/model", ("a.gguf", "b.gguf"), "several models"),
        ("org/model:Q4_0", ("a-Q4_0.gguf", "b-Q4_0.gguf"), "several files are Q4_0"),
        ("org/model", ("a-00001-of-00003.gguf", "a-00003-of-00003.gguf"), "split in 3 parts, of which 2"),
        ("org/model", ("a-00001-of-99999.gguf",), "split in 99999 parts, of which 1"),
        ("org/model", ("README.md",), "no model as GGUF"),
        ("org/model", ("pytorch_model.bin",), "pickle files, which are never opened"),
        ("org/model", ("mmproj-F16.gguf",), "no model as GGUF"),
    ],
)
def test_what_cannot_be_chosen_says_why(reference: str, paths: tuple[str, ...], told: str) -> None:
    with pytest.raises(NoSuchChoice, match=told) as caught:
        chosen(reference, *paths)
    assert caught.value.next_command is None or caught.value.next_command.startswith("localq ")


def test_safetensors_alone_need_a_conversion() -> None:
    with pytest.raises(NeedsConversion):
        chosen("org/model", "model.safetensors", "config.json", "pytorch_model.bin")


def test_what_was_refused_is_told() -> None:
    with pytest.raises(NoSuchChoice, match="left out: the name begins like"):
        choose(
            HubReference("org/model"), repo(refused=(("/x.gguf", "the name begins like an absolute path"),))
        )


def test_candidates_come_by_size() -> None:
    sizes = [model.size for model in candidates(repo(*LADDER).files)]
    assert sizes == sorted(sizes)
    assert len(sizes) == len(LADDER)
