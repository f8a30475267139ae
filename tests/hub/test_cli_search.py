from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.app.cli_runner import Cli
from tests.hub.pulling import CONFIG, model_bytes
from tests.hub.server import FakeHub


def weights(count: int) -> dict[str, object]:
    return {"parameters": {"BF16": count}, "total": count}


@pytest.fixture
def cli(fake_hub: FakeHub, tmp_path: Path) -> Cli:
    fake_hub.add(
        "org/Tiny-GGUF",
        {
            "Tiny-Q4_K_M.gguf": model_bytes(),
            "Tiny-Q8_0.gguf": model_bytes(64),
            "Tiny-F16.gguf": model_bytes(1),
        },
        info={
            "tags": ["gguf", "license:mit"],
            "gguf": {"total": 19_000, "architecture": "llama", "context_length": 512},
            "downloads": 500,
        },
    )
    safetensors = {"model.safetensors": b"x", "config.json": json.dumps(CONFIG).encode()}
    fake_hub.add("org/Tiny-1B", safetensors, info={"safetensors": weights(10**9), "downloads": 1000})
    fake_hub.add("org/Tiny-huge", safetensors, info={"safetensors": weights(10**12), "downloads": 10})
    fake_hub.add("org/Tiny-gated", safetensors, gated=True, info={"safetensors": weights(1), "downloads": 5})
    fake_hub.add("org/Tiny-empty", {"README.md": b"x"}, info={"downloads": 1})
    return Cli(tmp_path)


def test_each_result_says_how_it_fits(cli: Cli) -> None:
    ran = cli.run("search", "tiny", "--ram", "2G", "--json")
    assert ran.exit_code == 0, ran.stderr
    results = {result["repo"]: result for result in ran.json()["results"]}
    assert list(results) == [
        "org/Tiny-1B",
        "org/Tiny-GGUF",
        "org/Tiny-huge",
        "org/Tiny-gated",
        "org/Tiny-empty",
    ]
    tiny = results["org/Tiny-GGUF"]
    assert (tiny["quant"], tiny["fits"], tiny["license"]) == ("Q8_0", True, "mit")
    assert (tiny["architecture"], tiny["parameters"], tiny["context"]) == ("llama", 19_000, 512)
    assert tiny["size_bytes"] == len(model_bytes(64))
    assert results["org/Tiny-1B"]["verdict"] == "8-bit, 4096 tokens, after conversion"
    assert not results["org/Tiny-huge"]["fits"]
    assert results["org/Tiny-huge"]["verdict"].startswith("no: 2-bit needs 3")
    assert results["org/Tiny-gated"]["verdict"] == "unknown: gated"
    assert results["org/Tiny-empty"]["verdict"].startswith("unknown: no weights")


def test_with_less_memory_a_smaller_form_is_named(cli: Cli) -> None:
    ran = cli.run("search", "tiny", "--ram", "120M", "--json")  # Q8_0 has 64 MiB of weights alone
    results = {result["repo"]: result for result in ran.json()["results"]}
    assert results["org/Tiny-GGUF"]["quant"] == "Q4_K_M"
    assert not results["org/Tiny-1B"]["fits"]


def test_whole_weights_are_also_judged_as_what_they_can_become(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.add(
        "org/Tiny-whole",
        {"Tiny-F16.gguf": model_bytes(64)},
        info={"gguf": {"total": 20_000_000, "architecture": "llama", "context_length": 512}},
    )
    (result,) = cli.run("search", "whole", "--ram", "120M", "--json").json()["results"]
    assert result["converts"] and result["fits"] and result["quant"] == "8-bit"
    (result,) = cli.run("search", "whole", "--ram", "1G", "--json").json()["results"]
    assert not result["converts"] and result["quant"] == "F16"
    assert result["nats"] >= 0 and result["tokens_per_second"] > 0


def test_only_what_fits_and_only_gguf(cli: Cli) -> None:
    assert cli.run("search", "tiny", "--fits", "-q", "--ram", "2G").stdout.split() == [
        "org/Tiny-1B",
        "org/Tiny-GGUF",
    ]
    assert cli.run("search", "tiny", "--gguf", "-q").stdout.split() == ["org/Tiny-GGUF"]
    assert "Nothing found" in cli.run("search", "nothing-like-it").stderr


def test_a_table_for_people(cli: Cli) -> None:
    ran = cli.run("search", "tiny", "--sort", "downloads", "--limit", "2")
    lines = ran.stdout.splitlines()
    assert lines[0].split()[:2] == ["REPOSITORY", "WEIGHTS"]
    assert len(lines) == 3


def test_little_is_read_of_each(cli: Cli, fake_hub: FakeHub) -> None:
    cli.run("search", "tiny", "--gguf")
    assert fake_hub.bytes_sent <= 1 << 18


def test_without_words_the_catalog_is_listed_and_nobody_is_asked(cli: Cli, fake_hub: FakeHub) -> None:
    ran = cli.run("search")
    assert "qwen3-4b" in ran.stdout
    assert len(cli.run("search", "--json").json()["catalog"]) >= 18
    assert fake_hub.seen == []
