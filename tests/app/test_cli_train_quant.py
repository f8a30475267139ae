from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

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
    def test_without_torch_it_is_said_how_to_get_it(
        self, cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(available, "find_spec", lambda name: None)
        ran = cli.run("train-quant", str(tiny_path))
        assert ran.exit_code == 1
        assert "training needs torch, which is not installed" in ran.stderr
        assert ran.last_line == f"next: {shlex.quote(sys.executable)} -m pip install torch"

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
        assert "no chat with an answer is kept" in ran.stderr


def test_nothing_that_the_help_needs_imports_torch() -> None:
    code = (
        "import app.cli.train_quant, app.cli.training, quant.qat.options, sys; print('torch' in sys.modules)"
    )
    assert _printed(code) == "False"


def _printed(code: str) -> Any:
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
