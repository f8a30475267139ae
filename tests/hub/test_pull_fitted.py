"""From the Hub to a file that fits the memory: ``pull --fit-ram``, ``plan REF``, and safetensors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.cli.pull_fitted import working_type
from app.cli.text import format_bytes
from app.errors import NotEnoughDisk
from app.hub import catalog as catalog_module
from app.hub.original import Outline
from app.store import Store
from quant import pipeline
from quant.allocation.running import read_running
from quant.encoders.nearest import nearest
from quant.formats.registry import BY_NAME
from quant.steps import Calibrated
from runtime.gguf import GgufHeader, open_gguf
from tests.app.cli_runner import Cli
from tests.hub.children import REPOSITORY
from tests.hub.server import FakeHub, Request
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


def test_one_that_was_interrupted_before_its_proof_is_proved_by_the_next_call(
    cli: Cli, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("app.cli.proof.prove", interrupt)
        assert cli.run("pull", "org/Tiny-Llama", "--fit-ram", *MEMORY).exit_code == 130
    stored = cli.store.get(NAME)
    fake_hub.forget()
    other = cli.run("pull", "org/Tiny-Llama", "--fit-ram", "--ram", "85M", "--ctx", "512")
    assert other.exit_code == 1
    assert "is taken" in other.stderr
    ran = cli.run("pull", "org/Tiny-Llama", "--fit-ram", *MEMORY, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert ran.json()["certificate"]["proof"] is not None
    assert cli.store.get(NAME).files == stored.files
    assert fake_hub.bytes_sent < 2 << 20, "nothing is fetched"
    assert cli.run("pull", "org/Tiny-Llama", "--fit-ram", *MEMORY).exit_code == 1


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


def sharded(fake_hub: FakeHub, folder: Path, model: str = "llama2", shards: int = 6) -> Path:
    """A repository ``org/Many`` of so many weight files."""
    write_checkpoint(folder, described()[model], dtype="BF16", shards=shards)
    fake_hub.add("org/Many", {path.name: path.read_bytes() for path in folder.iterdir()})
    return folder


def whole_weights_here(work: Path, folder: Path) -> int:
    """How many weight files lie whole among what is under way."""
    sizes = {path.stat().st_size for path in folder.glob("*.safetensors")}
    parts = [part.stat() for part in work.rglob("data")]
    return sum(part.st_size in sizes and part.st_blocks > 0 for part in parts)


def header(cli: Cli, name: str) -> GgufHeader:
    return open_gguf(cli.store.paths(cli.store.get(name))[0])


def weights(store: Store, name: str) -> list[bytes]:
    found = open_gguf(store.paths(store.get(name))[0])
    data = found.path.read_bytes()[found.data_offset :]
    return [data[each.offset : each.offset + each.nbytes] for each in found.tensors]


@pytest.mark.parametrize("model", ["llama2", "mixtral"])
def test_weights_are_let_go_as_soon_as_they_are_converted(
    cli: Cli, fake_hub: FakeHub, tmp_path: Path, model: str
) -> None:
    folder = sharded(fake_hub, tmp_path / "many", model)
    most = 0

    def look(_request: Request) -> bool:
        nonlocal most
        most = max(most, whole_weights_here(cli.store.work, folder))
        return False

    fake_hub.fault = look
    assert cli.run("pull", "org/Many").exit_code == 0
    assert (most == 0) == (model == "llama2")  # experts lie in several files, which wait for each other
    assert cli.run("import", str(folder), "--name", "local").exit_code == 0
    assert weights(cli.store, "org/many") == weights(cli.store, "local")
    assert not list(cli.store.work.iterdir())


def test_what_was_converted_is_not_fetched_again(cli: Cli, fake_hub: FakeHub, tmp_path: Path) -> None:
    folder = sharded(fake_hub, tmp_path / "many")
    names = sorted(path.name for path in folder.glob("*.safetensors"))

    def stop(request: Request) -> bool:
        if request.file is not None and request.file.path == names[4] and request.end - request.start > 4096:
            request.refuse(404, "EntryNotFound", "gone")
            return True
        return False

    fake_hub.fault = stop
    assert cli.run("pull", "org/Many").exit_code != 0
    assert not cli.store.list()
    fake_hub.fault = None
    fake_hub.forget()
    assert cli.run("pull", "org/Many").exit_code == 0
    again = {seen.target.split("?")[0].rpartition("/")[2] for seen in fake_hub.seen if seen.server == "cdn"}
    assert again == set(names[4:])
    assert cli.run("import", str(folder), "--name", "local").exit_code == 0
    assert weights(cli.store, "org/many") == weights(cli.store, "local")


@pytest.mark.parametrize(
    ("free", "type_", "needed"),
    [(1700, None, 1700), (1699, "q8_0", 1240), (1240, "q8_0", 1240), (1239, "refused", 1240)],
)
def test_a_disk_too_small_for_the_weights_type_is_worked_on_in_eight_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, type_: str | None, needed: int
) -> None:
    monkeypatch.setattr("app.store.disk.free_bytes", lambda _path: free)
    store, notes = Store(tmp_path), list[str]()
    front: Any = SimpleNamespace(out=SimpleNamespace(note=notes.append))
    narrow = Outline((), window_bytes=700, working_bytes=540)

    def choose() -> str | None:
        wide = Outline((), window_bytes=700, working_bytes=1000)
        return working_type(front, store, wide, 300, lambda _type: narrow)

    if type_ == "refused":
        with pytest.raises(NotEnoughDisk, match=r"1\.21 KiB needed, 1\.21 KiB free"):
            choose()
    else:
        assert choose() == type_
        assert f"up to {format_bytes(needed)} of disk" in notes[-1]
        assert ("Q8_0" in notes[0]) == (type_ == "q8_0")


def test_eight_bits_are_those_of_the_nearest_blocks(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for outtype in ("f32", "q8_0"):
        ran = cli.run("import", str(folder), "--name", outtype, "--outtype", outtype)
        assert ran.exit_code == 0, ran.stderr
    wide, narrow = ({t.name: t for t in header(cli, name).tensors} for name in ("f32", "q8_0"))
    assert {each.type.name for each in narrow.values()} == {"F32", "Q8_0"}
    data = dict(zip(narrow, weights(cli.store, "q8_0"), strict=True))
    exact = dict(zip(wide, weights(cli.store, "f32"), strict=True))
    for name, tensor in narrow.items():
        if tensor.type.name == "Q8_0":
            values = np.frombuffer(exact[name], np.float32).reshape(tensor.shape[::-1])
            assert data[name] == BY_NAME["q8_0"].pack(nearest(BY_NAME["q8_0"], values)).tobytes()


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
