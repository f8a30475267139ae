from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from app.cli.eval import read_texts
from app.cli.figures import with_error
from tests.app.cli_runner import Cli
from tests.runtime.byte_model import write_byte_model

KEYS = {
    "perplexity",
    "perplexity_stderr",
    "kl_mean",
    "kl_stderr",
    "kl_p99",
    "top1_agreement",
    "tokens",
}
WORDS = ("the", "harbour", "lay", "quiet", "under", "first", "snow", "and", "a", "man", "walked", "along")
SMALL = ("--ctx", "32", "--threads", "1")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.store.import_file(write_byte_model(tmp_path / "original.gguf"), "original")
    cli.store.import_file(write_byte_model(tmp_path / "rounded.gguf", noise=0.03), "rounded")
    (tmp_path / "tale.txt").write_text(" ".join(random.Random(0).choices(WORDS, k=200)))
    return cli


def test_json_has_the_promised_keys(cli: Cli, tmp_path: Path) -> None:
    words = ("eval", "rounded", "--against", "original", "--text", str(tmp_path / "tale.txt"), *SMALL)
    report = cli.run(*words, "--chunks", "4", "--json").json()
    assert report.keys() >= KEYS
    assert all(isinstance(report[key], int | float) for key in KEYS)
    assert (report["model"], report["against"]) == ("rounded", "original")
    assert (report["tokens"], report["chunks"], report["context"]) == (4 * 15, 4, 32)
    assert 0 < report["kl_mean"] < report["kl_p99"] and 0.5 < report["top1_agreement"] <= 1
    (text,) = report["texts"]
    assert text["name"] == str(tmp_path / "tale.txt")
    assert text["sha256"] == hashlib.sha256((tmp_path / "tale.txt").read_bytes()).hexdigest()
    assert text["kl_mean"] == report["kl_mean"]


def test_a_path_without_an_original_has_its_perplexity_alone(cli: Cli, tmp_path: Path) -> None:
    words = ("eval", str(tmp_path / "rounded.gguf"), "--text", str(tmp_path / "tale.txt"), *SMALL)
    report = cli.run(*words, "--json").json()
    assert report["perplexity"] > 1 and report["perplexity_stderr"] > 0
    assert report["kl_mean"] is report["top1_agreement"] is report["against"] is None
    lines = cli.run(*words).stdout.splitlines()
    assert lines[0].split() == ["TOKENS", "PERPLEXITY"]
    assert lines[-1] == "model  rounded.gguf"
    assert cli.run(*words, "-q").stdout == f"{report['perplexity']:.6g}\n"


def test_the_built_in_texts_are_judged_by_domain(cli: Cli) -> None:
    ran = cli.run("eval", "original", "--against", "original", "--chunks", "8", *SMALL)
    lines = ran.stdout.splitlines()
    assert lines[0].split() == [
        "TOKENS",
        "PERPLEXITY",
        "KL",
        "DIVERGENCE",
        "KL",
        "99",
        "%",
        "SAME",
        "TOP",
        "TOKEN",
    ]
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["prose", "30"],
        ["code", "30"],
        ["dialogue", "30"],
        ["unseen", "30"],
        ["all", "120"],
    ]
    assert all(line.endswith("100.0 ± 0.0 %") and " 0 ± 0 " in line for line in lines[1:6])
    assert "ratio 1 ± 0" in lines[-1]
    assert [text.name for text in read_texts(())] == ["prose", "code", "dialogue", "unseen"]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.03172, 0.00211, "0.0317 ± 0.0021"),
        (0.000631, 0.0000213, "0.000631 ± 0.000021"),
        (494.153, 293.47, "494 ± 293"),
        (18.6123, 2.5, "18.6 ± 2.5"),
        (1.5, 0.0996, "1.500 ± 0.100"),
        (1e-14, 1e-15, "1.00e-14 ± 1.0e-15"),
        (1.0, 0.0, "1 ± 0"),
        (None, 0.1, ""),
    ],
)
def test_an_error_has_two_digits_and_its_value_as_many_places(
    value: float | None, error: float, text: str
) -> None:
    assert with_error(value, error) == text


def test_quiet_prints_the_divergence(cli: Cli, tmp_path: Path) -> None:
    words = ("eval", "rounded", "--against", "original", "--text", str(tmp_path / "tale.txt"), *SMALL)
    report = cli.run(*words, "--json").json()
    assert cli.run(*words, "-q").stdout == f"{report['kl_mean']:.6g}\n"


def test_models_that_do_not_fit_together_are_compared_with_a_note(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.evaluation.evaluate.fit_together", lambda plans, available: False)
    words = ("eval", "rounded", "--against", "original", "--text", str(tmp_path / "tale.txt"), *SMALL)
    assert cli.run(*words, "--json").json()["kl_kind"] == "top-256"
    assert "the divergence is a lower bound" in cli.run(*words).stdout


def test_too_few_chunks_for_the_texts_are_wrong_use(cli: Cli) -> None:
    ran = cli.run("eval", "original", "--chunks", "3", *SMALL)
    assert (ran.exit_code, ran.last_line) == (2, "next: localq eval original --ctx 32 --threads 1 --chunks 8")
    cli.follow(ran)


def test_a_short_text_is_read_in_shorter_chunks(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("abc " * 50)
    ran = cli.run("eval", "original", "--text", str(tmp_path / "note.txt"))
    assert ran.exit_code == 1
    assert "note.txt has 200 tokens, and 1,024 are the least" in ran.stderr
    assert ran.last_line.endswith("note.txt --ctx 100")
    cli.follow(ran)
    (tmp_path / "note.txt").write_text("abc")
    assert cli.run("eval", "original", "--text", str(tmp_path / "note.txt")).last_line.endswith("eval --help")


def test_models_of_other_vocabularies_are_not_compared(cli: Cli, tmp_path: Path) -> None:
    larger = write_byte_model(tmp_path / "larger.gguf", more_tokens=1001)
    words = ("eval", "original", "--against", str(larger), "--text", str(tmp_path / "tale.txt"), *SMALL)
    ran = cli.run(*words)
    assert (ran.exit_code, ran.last_line) == (1, "next: localq show original")
    assert "other vocabularies (260 and 1,260 tokens)" in ran.stderr
    details = cli.run(*words, "--json").error()["details"]
    assert (details["size"], details["original_size"]) == (260, 1260)


def test_a_model_that_does_not_fit_has_its_own_exit_code(cli: Cli) -> None:
    ran = cli.run("eval", "original", "--ram", "63M", *SMALL)
    assert ran.exit_code == 3
    assert "scoring a model takes" in ran.stderr


def test_a_chunk_beyond_the_trained_context_is_wrong_use(cli: Cli) -> None:
    ran = cli.run("eval", "original", "--ctx", "2048")
    assert ran.exit_code == 2
    assert "was trained for 1,024 tokens" in ran.stderr


def test_conversations_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n{"text": "There"}\n')
    (text,) = read_texts((path,))
    assert text.name == str(path)
    assert "Hi" in text.text and "There" in text.text


def test_a_text_that_is_none_is_refused_before_a_model_is_loaded(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    ran = cli.run("eval", "original", "--text", str(tmp_path / "picture.png"))
    assert ran.exit_code == 1
    assert "picture.png" in ran.stderr
