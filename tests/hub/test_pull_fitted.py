"""From the Hub to a file that fits the memory: ``pull --fit-ram``, ``plan REF``, and safetensors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from app.hub import catalog as catalog_module
from app.store import Store
from quant import pipeline
from quant.allocation.running import read_running
from quant.steps import Calibrated
from runtime.gguf import open_gguf
from tests.app.cli_runner import Cli
from tests.hub.children import REPOSITORY
from tests.hub.server import FakeHub
from tests.quant.checkpoint_files import described, write_checkpoint
from tests.quant.stand_ins import stand_ins
from tests.runtime.budget_models import transformer

MEMORY = ("--ram", "81M", "--ctx", "512")
NAME = "org/tiny-llama:fit"


@pytest.fixture
def cli(fake_hub: FakeHub, tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A Hub with the tiny Llama in F16 and in Q8_0, and with another as safetensors."""
    fake_hub.add(
        "org/Tiny-Llama",
        {"Tiny-Llama-F16.gguf": tiny_path, "Tiny-Llama-Q8_0.gguf": b"never read"},
        info={"cardData": {"license": "apache-2.0"}},
    )
    folder = write_checkpoint(tmp_path / "made", described()["llama2"], dtype="BF16", shards=2)
    fake_hub.add("org/Small", {path.name: path.read_bytes() for path in folder.iterdir()})
    monkeypatch.setattr(pipeline, "real_steps", stand_ins)
    return Cli(tmp_path)


def test_one_command_makes_the_file_that_fits(cli: Cli) -> None:
    ran = cli.run("pull", "org/Tiny-Llama", "--fit-ram", *MEMORY)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stderr.count("Plan: ") == 1
    assert "of disk on the way" in ran.stderr
    manifest = cli.store.get(NAME)
    assert (manifest.source.kind, manifest.source.origin) == ("quantized", "org/Tiny-Llama")
    assert manifest.source.license == "apache-2.0"
    running = read_running(open_gguf(cli.store.paths(manifest)[0]))
    assert running is not None and running.peak_bytes <= running.budget_bytes == 81 << 20
    assert [found.name for found in cli.store.list()] == [NAME]
    assert not list(cli.store.work.iterdir())
    assert cli.store.verify() == []


def test_what_was_fetched_is_kept_where_it_is_asked_for(cli: Cli) -> None:
    cli.run("pull", "org/Tiny-Llama", "--fit-ram", "--keep-source", *MEMORY)
    assert {found.name for found in cli.store.list()} == {NAME, "org/tiny-llama:original"}
    assert cli.run("refit", NAME, "--ram", "110M", "--ctx", "512", "--eval", "none").exit_code == 0


def test_an_interrupted_one_goes_on_without_fetching_anything_again(
    cli: Cli, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = stand_ins()

    def interrupted(*_words: object) -> Calibrated:
        raise KeyboardInterrupt

    broken = type(steps)(interrupted, steps.evaluate, steps.make_encoder)
    monkeypatch.setattr(pipeline, "real_steps", lambda: broken)
    words = ("pull", "org/Tiny-Llama", "--fit-ram", *MEMORY)
    assert cli.run(*words).exit_code == 130
    assert not cli.store.list()
    monkeypatch.setattr(pipeline, "real_steps", stand_ins)
    fake_hub.forget()
    ran = cli.run(*words)
    assert ran.exit_code == 0, ran.stderr
    assert fake_hub.bytes_sent < 2 << 20  # the header, to plan with
    assert cli.store.get(NAME)


def test_what_does_not_fit_is_refused_before_anything_is_fetched(cli: Cli, fake_hub: FakeHub) -> None:
    ran = cli.run("pull", "org/Tiny-Llama", "--fit-ram", "--ram", "60M")
    assert ran.exit_code == 3
    assert "60.0 MiB are available" in ran.stderr
    assert fake_hub.bytes_sent < 2 << 20


@pytest.mark.parametrize("repo", ["org/Tiny-Llama", "org/Small"])
def test_a_plan_reads_headers_only(cli: Cli, fake_hub: FakeHub, repo: str) -> None:
    document = cli.run("plan", repo, "--ram", "200M", "--json").json()
    assert document["model"] == repo
    assert document["plans"][0]["predicted_peak_bytes"] <= 200 << 20
    weights = [seen for seen in fake_hub.seen if "safetensors" in seen.target or ".gguf" in seen.target]
    assert weights
    assert not cli.store.list() and not list(cli.store.work.iterdir())


def test_a_plan_of_safetensors_is_that_of_the_file_they_become(cli: Cli, tmp_path: Path) -> None:
    remote = cli.run("plan", "org/Small", "--ram", "200M", "--json").json()["plans"]
    local = cli.run("plan", str(tmp_path / "made"), "--ram", "200M", "--json").json()["plans"]
    assert [plan["formats"] for plan in remote] == [plan["formats"] for plan in local]


def test_safetensors_are_converted_into_the_store(cli: Cli) -> None:
    ran = cli.run("pull", "org/Small")
    assert ran.exit_code == 0, ran.stderr
    manifest = cli.store.get("org/small")
    assert (manifest.source.kind, manifest.source.origin) == ("hub", "org/Small")
    assert manifest.summary.file_type == "BF16"
    assert not list(cli.store.work.iterdir())


def test_safetensors_are_fitted_too(cli: Cli) -> None:
    ran = cli.run("pull", "org/Small", "--fit-ram", "--ram", "100M", "--ctx", "64")
    assert ran.exit_code == 0, ran.stderr
    assert cli.store.get("org/small:fit")
    assert not list(cli.store.work.iterdir())


def test_its_options_belong_to_it(cli: Cli) -> None:
    for words in (("--kv", "q8_0"), ("--keep-free", "1G"), ("--keep-source",)):
        ran = cli.run("pull", "org/Tiny-Llama", *words)
        assert ran.exit_code == 2
        assert f"{words[0]} belongs to --fit-ram" in ran.stderr


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_in_the_same_bytes(
    fake_hub: FakeHub, tmp_path: Path, tiny_path: Path
) -> None:
    fake_hub.add("org/Tiny-Llama", {"Tiny-Llama-F16.gguf": tiny_path})
    command = [sys.executable, "-m", "app.cli.main", "pull", "org/Tiny-Llama", "--fit-ram", *MEMORY]

    def run(home: Path, seconds: float | None) -> int | None:
        """The exit code; None where it was killed after ``seconds``."""
        environment = {**os.environ, "LOCALQ_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
        child = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            child.communicate(timeout=seconds)
            return child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return None

    def digest(home: Path) -> str:
        return Store(home).get(NAME).files[0].digest

    began = time.monotonic()
    assert run(tmp_path / "undisturbed", None) == 0
    whole = time.monotonic() - began
    random = Random(7)
    killed = 0
    home = tmp_path / "killed"
    for round_ in range(4):
        while killed < 5 * (round_ + 1):
            if run(home, random.uniform(0.1, 0.9) * whole) is None:
                killed += 1
            elif Store(home).list():
                assert digest(home) == digest(tmp_path / "undisturbed")
                Store(home).remove(NAME)
        assert run(home, None) == 0
        assert digest(home) == digest(tmp_path / "undisturbed")
        Store(home).remove(NAME)
    assert killed == 20
    Store(home).gc()
    assert not list(Store(home).work.iterdir())


@pytest.mark.parametrize("words", [("pull", "--fit-ram"), ("plan",)])
def test_what_fits_in_no_form_names_the_largest_relative_that_does(
    cli: Cli, fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    huge = transformer(vocabulary=512, layers=8, embedding=2048, width=8192, heads=32, kv_heads=8, kind="F16")
    path = huge.write(tmp_path / "huge.gguf")
    fake_hub.add("org/Tiny-9B", {"Tiny-9B-F16.gguf": path})
    entries = {"tiny-0.5b": "org/Nowhere", "tiny-0.01b": "org/Tiny-Llama", "other-0.01b": "org/Small"}
    lines = [
        f'[[model]]\nname = "{name}"\nrepo = "{repo}"\noriginal = "{repo}"\nlicense = "MIT"\n'
        f'parameters = "{name.rpartition("-")[2].upper()}"\ngood_for = "tests"\n'
        for name, repo in entries.items()
    ]
    (tmp_path / "catalog.toml").write_text("\n".join(lines))
    monkeypatch.setattr(catalog_module, "catalog_path", lambda: tmp_path / "catalog.toml")
    catalog_module.catalog.cache_clear()
    try:
        ran = cli.run(words[0], "org/Tiny-9B", *words[1:], *MEMORY)
    finally:
        catalog_module.catalog.cache_clear()
    assert ran.exit_code == 3, ran.stderr
    assert "81.0 MiB" in ran.stderr
    assert "the largest of its family that fits is tiny-0.01b (0.01B)" in " ".join(ran.stderr.split())
    assert f"localq {words[0]} tiny-0.01b" in ran.stderr
