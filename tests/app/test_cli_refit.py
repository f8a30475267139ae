"""``localq refit``: another memory, and only what changes is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from quant import pipeline
from quant.certificate.keys import read_certificate
from quant.encoders import model, tensor
from runtime.gguf import open_gguf
from tests.app.cli_runner import Cli
from tests.quant.ranges import steps_with_ranges
from tests.quant.stand_ins import stand_ins

QUICK = ("--eval", "none", "--no-speed", "--prefer", "quality", "--json")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> Cli:
    """With the tiny model in the store, and calibration a stand-in."""
    monkeypatch.setattr(pipeline, "real_steps", stand_ins)
    cli = Cli(tmp_path)
    cli.run("import", str(tiny_path), "--name", "tiny")
    cli.run("quantize", "tiny", "--fit-ram", "--ram", "81M", "--ctx", "512", *QUICK)
    return cli


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that are really encoded."""
    names: list[str] = []
    real = tensor.encode_tensor

    def spy(source, found, *rest, **more):  # type: ignore[no-untyped-def]
        names.append(found.name)
        return real(source, found, *rest, **more)

    monkeypatch.setattr(model, "encode_tensor", spy)
    return names


def types(cli: Cli, name: str) -> dict[str, str]:
    header = open_gguf(cli.store.paths(cli.store.get(name))[0])
    return {tensor.name: tensor.type.name for tensor in header.tensors}


def test_only_tensors_whose_format_changes_are_encoded(cli: Cli, encoded: list[str]) -> None:
    ran = cli.run("refit", "tiny:fit-81m", "--ram", "79M", "--ctx", "512", *QUICK)
    assert ran.json()["name"] == "tiny:fit-79m"
    before, after = types(cli, "tiny:fit-81m"), types(cli, "tiny:fit-79m")
    changed = {name for name in after if before[name] != after[name]}
    assert set(encoded) == changed
    assert 0 < len(changed) < len(after)


def test_the_bytes_are_those_that_would_have_been_made_anew(cli: Cli) -> None:
    cli.run("refit", "tiny:fit-81m", "--ram", "79M", "--ctx", "512", *QUICK)
    cli.run("quantize", "tiny", "--fit-ram", "--ram", "79M", "--ctx", "512", "--out", "anew", *QUICK)
    files = [cli.store.paths(cli.store.get(name))[0].read_bytes() for name in ("tiny:fit-79m", "anew")]
    assert files[0] == files[1]


def test_under_other_statistics_everything_is_made_anew(
    cli: Cli, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = stand_ins()
    other = replace(steps, calibrate=lambda *words: replace(steps.calibrate(*words), sha256="6" * 64))
    monkeypatch.setattr(pipeline, "real_steps", lambda: other)
    own = ("--ram", "81M", "--ctx", "512", "--out", "own", "--no-measure")
    cli.run("refit", "tiny:fit-81m", *own, *QUICK)
    assert set(encoded) == {name for name, kind in types(cli, "own").items() if kind not in ("F16", "F32")}
    assert len(encoded) > 10


@pytest.mark.parametrize(
    ("made", "refitted", "words"),
    [
        ((), (), True),
        ((), ("--portable",), False),
        (("--portable",), (), False),
        (("--portable",), ("--no-portable",), True),
    ],
)
def test_formats_of_localqs_own_come_into_question_as_the_model_was_made_unless_told(
    cli: Cli, made: tuple[str, ...], refitted: tuple[str, ...], words: bool
) -> None:
    memory = ("--ram", "81M", "--ctx", "512", *QUICK)
    cli.run("quantize", "tiny", "--fit-ram", *memory, *made, "--out", "first")
    cli.run("refit", "first", *memory, *refitted, "--out", "second")
    certificate = read_certificate(open_gguf(cli.store.paths(cli.store.get("second"))[0]))
    assert certificate is not None
    assert json.loads(certificate.options)["words"] is words


def test_a_refit_to_portable_formats_of_a_choice_of_another_is_refused(cli: Cli) -> None:
    words = ("--to", "q4_k", "--tensor", "blk.1.ffn_up=lt3", "--out", "mixed")
    cli.run("quantize", "tiny", *words, "--eval", "none", "--no-speed")
    ran = cli.run("refit", "mixed", "--ram", "81M", "--portable")
    assert ran.exit_code == 2
    assert "--tensor blk.1.ffn_up=lt3 asks for one" in ran.stderr


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_activations_stay_as_the_model_has_them(cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(pipeline, "real_steps", steps_with_ranges)
    memory = ("--ctx", "512", *QUICK)
    cli.run("quantize", "tiny", "--fit-ram", "--ram", "81M", *memory, "--activations", kind, "--out", "first")
    cli.run("refit", "first", "--ram", "79M", *memory, "--out", "second")
    for name in ("first", "second"):
        header = open_gguf(cli.store.paths(cli.store.get(name))[0])
        assert bool(header.activations) == (kind == "static")


def test_a_model_without_a_certificate_is_refused(cli: Cli) -> None:
    ran = cli.run("refit", "tiny", "--ram", "81M")
    assert ran.exit_code == 1
    assert "has no certificate" in ran.stderr


def test_a_damaged_file_is_not_taken_from(cli: Cli) -> None:
    path = cli.store.paths(cli.store.get("tiny:fit-81m"))[0]
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)
    ran = cli.run("refit", "tiny:fit-81m", "--ram", "79M", "--ctx", "512", *QUICK)
    assert ran.exit_code == 1
    assert "other data than its certificate says" in ran.stderr
