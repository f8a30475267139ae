"""Folders with safetensors on the command line: imported, quantized, refused where a GGUF is wanted."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from app.converting import converted, file_stem
from quant import pipeline
from quant.convert.metadata import Provenance
from quant.convert.snapshot import snapshot_provenance
from quant.encoders.model import encode_all
from quant.files.work import PREFIX
from quant.progress import OnEvent, ignore
from runtime.gguf import open_gguf
from tests.app.cli_runner import Cli
from tests.quant.checkpoint_files import described, write_checkpoint

PLAIN = ("--calib", "none", "--eval", "none", "--no-speed")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama that formats of 32 weights fit."""
    return write_checkpoint(tmp_path / "Small-Llama", described()["llama2"], dtype="BF16")


class TestImport:
    def test_a_folder_with_safetensors_is_converted_and_stored(self, cli: Cli, folder: Path) -> None:
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        ran = cli.run("import", str(folder))
        assert ran.exit_code == 0, ran.stderr
        assert "Imported small-llama" in ran.stdout
        manifest = cli.store.get("small-llama")
        assert (manifest.source.kind, manifest.source.origin) == ("file", str(folder))
        assert manifest.source.license == "mit"
        assert manifest.summary.file_type == "BF16"
        assert manifest.summary.name == "Small-Llama"
        assert not list(cli.store.work.iterdir())
        assert cli.store.verify() == []

    def test_a_name_and_a_type_can_be_chosen(self, cli: Cli, folder: Path) -> None:
        document = cli.run("import", str(folder), "--name", "mine", "--outtype", "f16", "--json").json()
        assert (document["name"], document["summary"]["file_type"]) == ("mine", "F16")

    def test_a_snapshot_of_the_hubs_cache_is_called_as_its_repository(self, cli: Cli, tmp_path: Path) -> None:
        snapshot = tmp_path / "models--org--Tiny-1.1B" / "snapshots" / COMMIT
        write_checkpoint(snapshot, described()["llama2"])
        assert cli.run("import", str(snapshot), "-q").stdout == "tiny-1.1b\n"
        source = cli.store.get("tiny-1.1b").source
        assert (source.version, source.url) == (COMMIT, "https://huggingface.co/org/Tiny-1.1B")

    def test_a_name_that_is_taken_is_told_before_the_work(self, cli: Cli, folder: Path) -> None:
        cli.add_model("small-llama")
        ran = cli.run("import", str(folder))
        assert ran.exit_code == 1
        assert "taken" in ran.stderr

    def test_what_is_converted_cannot_be_linked(self, cli: Cli, folder: Path) -> None:
        ran = cli.run("import", str(folder), "--link")
        assert ran.exit_code == 2
        cli.follow(ran)

    def test_a_gguf_has_no_type_to_choose(self, cli: Cli) -> None:
        path = cli.add_model()
        cli.run("rm", "tiny", "--yes")
        ran = cli.run("import", str(path), "--outtype", "f16")
        assert ran.exit_code == 2
        assert "--outtype is for a folder with safetensors" in ran.stderr


class TestQuantize:
    def test_a_folder_becomes_a_stored_model_in_one_command(self, cli: Cli, folder: Path) -> None:
        ran = cli.run("quantize", str(folder), "--to", "q8_0", *PLAIN, "-q")
        assert (ran.exit_code, ran.stdout) == (0, "small-llama:q8_0\n")
        manifest = cli.store.get("small-llama:q8_0")
        assert (manifest.source.kind, manifest.source.origin) == ("quantized", str(folder))
        assert not list(cli.store.work.iterdir())

    def test_a_wrong_option_is_told_before_anything_is_converted(
        self, cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.converting.convert", refuse_to_convert)
        assert cli.run("quantize", str(folder), "--to", "q99").exit_code == 2

    def test_what_was_converted_serves_the_next_try(
        self, cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        real = encode_all
        monkeypatch.setattr(pipeline, "encode_all", interrupt)
        words = ("quantize", str(folder), "--to", "q8_0", *PLAIN)
        assert cli.run(*words).exit_code == 130
        (kept,) = cli.store.work.glob(f"{PREFIX}*/part/Small-Llama.gguf")
        inode = kept.stat().st_ino
        monkeypatch.setattr(pipeline, "encode_all", real)
        with converted(cli.store, folder, refuse_to_convert) as path:
            assert path.stat().st_ino == inode
        assert cli.run(*words).exit_code == 0
        assert not list(cli.store.work.iterdir())

    def test_a_folder_that_changed_is_converted_again(self, cli: Cli, folder: Path) -> None:
        with pytest.raises(RuntimeError), converted(cli.store, folder, listening) as path:
            raise RuntimeError
        write_checkpoint(folder, described()["llama2"], dtype="F16")
        with converted(cli.store, folder, listening) as again:
            assert again != path
            assert {tensor.type.name for tensor in open_gguf(again).tensors} == {"F16", "F32"}

    def test_two_commands_with_the_same_folder_do_not_meet(self, cli: Cli, folder: Path) -> None:
        with converted(cli.store, folder, listening):
            error = run_for_error(cli, "quantize", str(folder), "--to", "q8_0", *PLAIN)
        assert error["type"] == "WorkInUse"
        assert f"works with the safetensors in {folder}" in error["message"]

    def test_gc_removes_what_an_interrupted_one_left(self, cli: Cli, folder: Path) -> None:
        with pytest.raises(RuntimeError), converted(cli.store, folder, listening) as path:
            raise RuntimeError
        assert path.exists()
        assert cli.run("gc").exit_code == 0
        assert not path.exists()

    def test_verify_rebuild_converts_again(self, cli: Cli, folder: Path) -> None:
        assert cli.run("quantize", str(folder), "--to", "q8_0", *PLAIN).exit_code == 0
        document = cli.run("verify", "small-llama:q8_0", "--rebuild", "--json").json()
        assert document["ok"] is True
        assert not list(cli.store.work.iterdir())


def test_a_refit_converts_again(cli: Cli, folder: Path) -> None:
    assert cli.run("quantize", str(folder), "--fit-ram", "--ram", "2G", *PLAIN).exit_code == 0
    refit = ("refit", "small-llama:fit-2g", "--ram", "1G", "--out", "again", "--eval", "none", "--no-speed")
    ran = cli.run(*refit)
    assert ran.exit_code == 0, ran.stderr
    assert cli.store.get("again").source.origin == str(folder)
    assert not list(cli.store.work.iterdir())


def test_a_plan_reads_headers_alone_and_says_the_same_as_of_the_converted_file(
    cli: Cli, folder: Path
) -> None:
    shown = cli.run("plan", str(folder), "--ram", "2G", "--json").json()
    assert shown["model"] == "Small-Llama"
    assert not list(cli.store.work.iterdir())
    cli.run("import", str(folder))
    stored = cli.run("plan", "small-llama", "--ram", "2G", "--json").json()
    for planned in (*shown["plans"], *stored["plans"]):
        planned.pop("predicted_tokens_per_second")  # by a measurement
    assert shown["plans"] == stored["plans"]


class TestRefused:
    @pytest.mark.parametrize("command", ["run", "show", "eval", "bench"])
    def test_where_a_gguf_is_wanted_the_way_to_one_is_said(
        self, cli: Cli, folder: Path, command: str
    ) -> None:
        ran = cli.run(command, str(folder), *(("hello",) if command == "run" else ()))
        assert ran.exit_code == 1
        assert "has to be converted first" in ran.stderr
        assert ran.last_line == f"next: localq import {folder}"

    def test_an_unknown_architecture_is_named_with_those_that_are_known(self, cli: Cli, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["MambaForCausalLM"]}))
        error = run_for_error(cli, "quantize", str(folder))
        assert error["type"] == "UnknownArchitecture"
        assert "MambaForCausalLM are not converted; supported are BertForMaskedLM, " in error["message"]
        assert error["details"]["architecture"] == "MambaForCausalLM"

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
    def test_pickles_are_never_opened(self, cli: Cli, folder: Path, name: str) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).symlink_to("/dev/zero")  # whoever opened it would not come back
        error = run_for_error(cli, "import", str(folder))
        assert error["type"] == "CannotConvert"
        assert "Python's pickle format" in error["message"]

    def test_a_damaged_file_is_named(self, cli: Cli, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        error = run_for_error(cli, "import", str(folder))
        assert (error["type"], error["details"]["rule"]) == ("CheckpointDamaged", "truncated")
        assert error["next"] == f"ls -l {path}"
        assert not cli.store.list()


def run_for_error(cli: Cli, *words: str) -> Any:
    ran = cli.run(*words, "--json")
    assert ran.exit_code == 1
    return ran.error()


def test_file_names_are_plain_whatever_the_folder_is_called() -> None:
    def stem(name: str) -> str:
        return file_stem(Path("/models") / name, Provenance())

    assert stem("Llama-3.2-1B") == "Llama-3.2-1B"
    assert stem("..") not in ("", ".", "..")
    assert stem("mein Modell\n\udcff") == "mein-Modell-"
    assert stem("日本語") == "model"
    assert len(stem("x" * 255)) == 100


def test_only_a_snapshots_path_says_where_a_folder_comes_from(tmp_path: Path) -> None:
    for path in (f"models--a--b/snapshots/{COMMIT[1:]}", f"models--a/snapshots/{COMMIT}", f"a/b/{COMMIT}"):
        (tmp_path / path).mkdir(parents=True)
        assert snapshot_provenance(tmp_path / path) == Provenance()


def refuse_to_convert() -> AbstractContextManager[OnEvent]:
    raise AssertionError("it is converted already")


def listening() -> AbstractContextManager[OnEvent]:
    return nullcontext(ignore)
