from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidReference
from app.hub.reference import CatalogReference, HubReference, PathReference, parse_reference

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = "https://huggingface.co/org/model"
PART = "Q8_0/file-00001-of-00002.gguf"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/model", HubReference("org/model")),
        ("org/model/", HubReference("org/model")),
        ("org/model:Q4_K_M", HubReference("org/model", quant="Q4_K_M")),
        ("org/model:UD-Q4_K_XL", HubReference("org/model", quant="UD-Q4_K_XL")),
        ("org/model/file.gguf", HubReference("org/model", file="file.gguf")),
        (f"org/model/{PART}", HubReference("org/model", file=PART)),
        ("org/model@v1.0", HubReference("org/model", "v1.0")),
        (f"org/model@{COMMIT}:Q8_0", HubReference("org/model", COMMIT, quant="Q8_0")),
        ("org/model@dev/file.gguf", HubReference("org/model", "dev", file="file.gguf")),
        ("hf.co/org/model:Q4_K_M", HubReference("org/model", quant="Q4_K_M")),
        ("HF.co/org/model", HubReference("org/model")),
        ("huggingface.co/org/model", HubReference("org/model")),
        (PAGE, HubReference("org/model")),
        ("https://hf.co/org/model/tree/main", HubReference("org/model", "main")),
        (f"{PAGE}/blob/main/a/b.gguf", HubReference("org/model", "main", file="a/b.gguf")),
        (f"{PAGE}/resolve/main/b.gguf?download=true", HubReference("org/model", "main", file="b.gguf")),
        (f"{PAGE}/resolve/main/a%20b.gguf", HubReference("org/model", "main", file="a b.gguf")),
        ("hf://org/model/b.gguf", HubReference("org/model", file="b.gguf")),
        ("hf://models/org/model", HubReference("org/model")),
        ("qwen3-4b", CatalogReference("qwen3-4b")),
        ("qwen3-4b:Q8_0", CatalogReference("qwen3-4b", "Q8_0")),
        ("llama3.1-8b", CatalogReference("llama3.1-8b")),
        ("./org/model", PathReference("./org/model")),
        ("/models/a.gguf", PathReference("/models/a.gguf")),
        ("../a.gguf", PathReference("../a.gguf")),
        ("~/a.gguf", PathReference("~/a.gguf")),
        ("model.gguf", PathReference("model.gguf")),
        ("Model", PathReference("Model")),
    ],
)  # fmt: skip
def test_what_a_person_writes_is_understood(text: str, meant: object) -> None:
    assert parse_reference(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 2000,
        "org/",
        "org/..",
        "org/../etc/passwd",
        "org/model/../../../etc/passwd",
        "org/model/..",
        "org/model//x.gguf",
        "org/model/a\\b.gguf",
        "org/mo\x1bdel",
        "org/model\n",
        "org/mo\u202edel",
        "-org/model",
        ".org/model",
        "org/-model",
        "org/model.git",
        "org/mo--del",
        "org/model:",
        "org/model:a b",
        "org/model:../x",
        "org/model@",
        "org/model@../x",
        "org/model@a..b",
        "https://example.org/org/model",
        "http://huggingface.co/org/model",
        "https://huggingface.co.example.org/org/model",
        "https://huggingface.co@example.org/org/model",
        "https://huggingface.co/datasets/org/model",
        "https://huggingface.co/org/model/resolve/main/..%2f..%2fx",
        "https://huggingface.co/org/model/resolve/main/%2e%2e/x.gguf",
        "file:///etc/passwd",
        "hf.co/org",
        "org/ünïcode",
    ],
)
def test_what_could_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


@pytest.mark.parametrize("text", ["org/model", "org/model@dev:Q8_0", "org/model/a/b.gguf"])
def test_a_reference_reads_as_it_was_written(text: str) -> None:
    assert str(parse_reference(text)) == text


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parsed = parse_reference(text)
    except InvalidReference:
        return
    if isinstance(parsed, HubReference):
        assert parse_reference(str(parsed)) == parsed
        assert ".." not in parsed.repo
        assert ".." not in (parsed.file or "").split("/")
