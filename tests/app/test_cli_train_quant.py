from __future__ import annotations

import importlib.util
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.cli import errors, remedies
from app.cli.remedies import Installation
from quant.calibration.texts import builtin
from quant.certificate.document import from_json
from quant.certificate.keys import read_certificate
from quant.publication import certificate_path
from quant.qat import available
from runtime.gguf import open_gguf
from tests.app.cli_runner import Cli
from tests.quant.source_models import write_source
from tests.quant.stand_ins import stand_ins

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A little to learn from."""
    path = tmp_path / "own.txt"
    path.write_text(next(text for text in builtin("calibration") if text.domain == "prose").text[:20_000])
    return path


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration and evaluation are stand-ins, and a short text is held out."""
    from quant import probing
    from quant.evaluation.result import EvaluationText
    from quant.qat import run

    held_out = next(text for text in builtin("probing") if text.domain == "prose").text[:10_000]
    monkeypatch.setattr(run, "real_steps", stand_ins)
    monkeypatch.setattr(probing, "builtin_texts", lambda: (EvaluationText("prose", held_out),))


@needs_torch
class TestResult:
    def test_original_quantized_and_trained_stand_side_by_side(
        self, cli: Cli, tiny_path: Path, text: Path, judged: None
    ) -> None:
        ran = cli.run(
            "train-quant", str(tiny_path), "--data", str(text), "--steps", "2", "--jobs", "1", "--no-speed"
        )
        assert ran.exit_code == 0, ran.stderr
        lines = [line.split() for line in ran.stdout.splitlines()]
        assert lines[0] == ["ORIGINAL", "QUANTIZED", "TRAINED"]
        rows = {line[0]: line for line in lines if line}
        assert rows["size"][1:] == ["10.6", "MiB", "1.99", "MiB", "1.99", "MiB"]
        assert rows["perplexity"].count("12.50") + rows["perplexity"].count("12.5") == 2
        assert rows["updates"] == ["updates", "2"]
        assert rows["model"] == ["model", "tiny-llama:q2_0-trained"]
        assert "After 2 updates:" in ran.stderr
        (path,) = cli.store.paths(cli.store.get("tiny-llama:q2_0-trained"))
        certificate = read_certificate(open_gguf(path))
        assert certificate is not None
        assert certificate.training is not None
        assert [text.name for text in certificate.training.texts] == ["given"]
        assert not list(cli.store.work.iterdir())
        shown = cli.run("show", "tiny-llama:q2_0-trained", "--quality").stdout
        assert "2 updates on given (" in shown
        assert "KL divergence before 0.03 ± 0.002" in shown
        for words in (("verify", "--rebuild"), ("refit",)):
            again = cli.run(words[0], "tiny-llama:q2_0-trained", *words[1:])
            assert again.exit_code == 1
            assert "was trained after it was quantized" in again.stderr
            cli.follow(again)

    def test_json_has_the_figures_before_training(
        self, cli: Cli, tiny_path: Path, text: Path, tmp_path: Path, judged: None
    ) -> None:
        out = tmp_path / "out.gguf"
        words = ("--data", str(text), "--steps", "2", "--jobs", "1", "--no-speed", "--out", str(out))
        ran = cli.run("train-quant", str(tiny_path), "--mode", "scales", *words, "--json")
        assert ran.exit_code == 0, ran.stderr
        document = ran.json()
        assert document["before_training"]["kl_mean"] == 0.03
        assert document["quantized"]["kl_mean"] == 0.03
        assert '"mode":"scales"' in document["certificate"]["training"]["options"]
        assert from_json(certificate_path(out).read_bytes()).training is not None


@needs_torch
def test_size_and_bits_before_training_are_those_of_the_quantized_file(
    cli: Cli, tiny_path: Path, text: Path, judged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant.qat import run

    train = run.train_quant

    def larger(*given: Any, **more: Any) -> Any:
        return replace(train(*given, **more), nbytes_before=3 << 20, bits_per_weight_before=3.5)

    monkeypatch.setattr(run, "train_quant", larger)
    words = ("--data", str(text), "--steps", "1", "--jobs", "1", "--mode", "scales", "--no-speed")
    rows = [line.split() for line in cli.run("train-quant", str(tiny_path), *words).stdout.splitlines()]
    assert ["size", "10.6", "MiB", "3.0", "MiB", "1.99", "MiB"] in [
        [word.replace("3.00", "3.0") for word in row] for row in rows
    ]
    assert "3.50" in next(row for row in rows if row[:1] == ["bits"])


@needs_torch
def test_a_certificate_names_what_was_learned_from_and_no_more(cli: Cli) -> None:
    from app.cli.quality import _training
    from quant.certificate.document import Certificate, SourceFacts, TextFacts, TrainingFacts

    texts = tuple(
        TextFacts(name=name, sha256="0" * 64, tokens=tokens) for name, tokens in (("prose", 512), ("code", 0))
    )
    facts = TrainingFacts(options="{}", steps=2, texts=texts, held_out=1.0, held_out_before=2.0)
    source = SourceFacts(name="a", sha256=(), types="F16", already_quantized=False)
    found = Certificate(tool="1", source=source, target="q2_0", training=facts)
    assert _training(found) == [("trained", "2 updates on prose (512 tokens)")]
    found = msgspec.structs.replace(found, training=msgspec.structs.replace(facts, steps=0))
    assert _training(found) == [("trained", "no update made it better on held-out text: as quantized")]


@needs_torch
def test_a_mixture_is_of_formats_that_are_trained(
    cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant.qat import run
    from quant.qat.request import TrainRequest

    seen: list[TrainRequest] = []
    monkeypatch.setattr(run, "train_quant", lambda request, **_: seen.append(request))
    cli.run("train-quant", str(tiny_path), "--bpw", "2.5")
    assert seen[0].quantize.portable
    assert seen[0].quantize.target.bits_per_weight == 2.5


class TestRefusal:
    @pytest.mark.parametrize(
        ("kind", "pip", "said"),
        [
            ("checkout", True, "{python} -m pip install torch"),
            ("environment", True, "{python} -m pip install torch"),
            ("environment", False, "uv pip install --python {python} torch"),
            (
                "package",
                False,
                "install localq's wheel and torch in a Python environment: this self-contained",
            ),
            (
                "archive",
                False,
                "install localq's wheel and torch in a Python environment: this self-contained",
            ),
        ],
    )
    def test_without_torch_it_is_said_how_to_get_it(
        self, kind: Any, pip: bool, said: str, cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        python = "/opt/an environment/bin/python"
        monkeypatch.setattr(available, "find_spec", lambda name: None)
        monkeypatch.setattr(errors, "find_spec", lambda name: pip or None)
        installed = Installation(kind, python, compiler=True, family="")
        monkeypatch.setattr(remedies, "this_installation", lambda: installed)
        ran = cli.run("train-quant", str(tiny_path))
        assert ran.exit_code == 1
        assert "training needs torch, which is not installed" in ran.stderr
        assert ran.last_line.startswith(f"next: {said.format(python=shlex.quote(python))}")

    @needs_torch
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--to", "q2_0", "--bpw", "2"), "each decide all formats"),
            (("--to", "q2_9"), "there is no format 'q2_9'"),
            (("--mode", "some"), "'some' is not one of"),
            (("--minutes", "0"), "0.05"),
            (("--data", "none"), "something to learn from"),
            (("--steps", "0"), "0 is not in the range"),
        ],
        ids=lambda words: words[1] if isinstance(words, tuple) else "",
    )
    def test_a_wrong_choice_is_told_before_the_work(
        self, words: tuple[str, ...], said: str, cli: Cli, tiny_path: Path
    ) -> None:
        ran = cli.run("train-quant", str(tiny_path), *words)
        assert ran.exit_code == 2
        assert said in ran.stderr

    @needs_torch
    def test_a_model_that_is_not_trained_is_told(self, cli: Cli, tmp_path: Path) -> None:
        path = write_source(tmp_path / "source.gguf")
        path.write_bytes(path.read_bytes().replace(b"llama", b"gemma"))
        ran = cli.run("train-quant", str(path))
        assert ran.exit_code == 2
        assert "architecture 'gemma'" in ran.stderr
        assert ran.last_line == "next: localq train-quant --help"

    @needs_torch
    def test_too_little_text_is_told_before_the_work(self, cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
        (tmp_path / "short.txt").write_text("A few words. " * 100)
        ran = cli.run("train-quant", str(tiny_path), "--data", str(tmp_path / "short.txt"))
        assert ran.exit_code == 1
        assert "give 2 chunks of 512 tokens, 4 are the least" in ran.stderr
        assert ran.last_line == f"next: localq train-quant {tiny_path} --data builtin"

    @needs_torch
    def test_own_chats_need_chats(self, cli: Cli, tiny_path: Path) -> None:
        ran = cli.run("train-quant", str(tiny_path), "--data", "chats")
        assert ran.exit_code == 2
        assert (
            "no chat with an answer is kept on this machine, so there is nothing to learn from" in ran.stderr
        )

    @needs_torch
    @pytest.mark.parametrize("option", ["--data", "--eval"])
    def test_texts_that_are_judged_on_are_not_learned_from(
        self, option: str, cli: Cli, tiny_path: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "seen.txt").write_text(
            builtin("evaluation")[0].text[:9000]
            if option == "--data"
            else builtin("calibration")[0].text[:9000]
        )
        words = ("train-quant", str(tiny_path), option, str(tmp_path / "seen.txt"), "--steps", "1")
        ran = cli.run(*words)
        assert ran.exit_code == 1
        assert "training would see" in ran.stderr
        assert "with --data or --eval" in ran.stderr
        again = ["localq", *words[:2], "--steps", "1", option, "builtin"]
        assert ran.last_line == f"next: {shlex.join(again)}"
        ran = cli.run("quantize", str(tiny_path), option.replace("data", "calib"), str(tmp_path / "seen.txt"))
        assert "calibration would see" in ran.stderr
        assert ran.last_line.endswith(f"{option.replace('data', 'calib')} builtin")


def test_nothing_that_the_help_needs_imports_torch() -> None:
    code = (
        "import app.cli.train_quant, app.cli.training, quant.qat.options, sys; print('torch' in sys.modules)"
    )
    assert _printed(code) == "False"


def _printed(code: str) -> Any:
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
