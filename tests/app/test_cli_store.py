from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.import_ import default_name
from app.errors import InvalidName
from app.store import Manifest, Source, Store
from tests.app.cli_runner import Cli
from tests.app.store_kit import overwrite
from tests.app.tiny_model import write_tiny_model

HOSTILE_NAME = "Evil\x1b]0;title\x07 \u202egnp \U000e0041\nsecond line"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


class TestImport:
    def test_a_file_is_stored_under_a_name_made_from_its_own(self, cli: Cli, tmp_path: Path) -> None:
        path = write_tiny_model(tmp_path / "My Model.Q4_0.gguf")
        ran = cli.run("import", str(path))
        assert ran.exit_code == 0
        assert "localq run my-model-q4_0" in ran.stdout
        assert [model.name for model in cli.store.list()] == ["my-model-q4_0"]

    def test_a_name_may_be_chosen_and_the_file_linked(self, cli: Cli, tmp_path: Path) -> None:
        path = write_tiny_model(tmp_path / "a.gguf")
        document = cli.run("import", str(path), "--name", "org/mine:v1", "--link", "--json").json()
        assert document["name"] == "org/mine:v1"
        assert document["files"][0]["link"]["path"] == str(path)
        assert document["size_bytes"] == path.stat().st_size

    def test_quiet_prints_the_name_alone(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli.run("import", "-q", str(write_tiny_model(tmp_path / "a.gguf")))
        assert (ran.stdout, ran.stderr) == ("a\n", "")

    def test_a_file_that_is_no_gguf_is_refused(self, cli: Cli, tmp_path: Path) -> None:
        path = tmp_path / "notes.gguf"
        path.write_text("dear diary, " * 100)
        ran = cli.run("import", str(path))
        assert ran.exit_code == 1
        assert str(path) in ran.stderr
        assert ran.last_line == f"next: ls -l {path}"
        assert cli.store.list() == []

    def test_a_path_where_nothing_is_proposes_to_look_beside_it(self, cli: Cli, tmp_path: Path) -> None:
        for words in (
            ("import", str(tmp_path / "no" / "such.gguf")),
            ("run", str(tmp_path / "x.gguf"), "Hi"),
        ):
            ran = cli.run(*words)
            assert (ran.exit_code, ran.last_line) == (1, f"next: ls -l {tmp_path}")

    def test_a_name_that_cannot_be_one_is_wrong_use(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli.run("import", str(write_tiny_model(tmp_path / "a.gguf")), "--name", "../x")
        assert ran.exit_code == 2
        assert "'../x'" in ran.stderr

    def test_a_folder_gives_its_model_the_folders_name(self, cli: Cli, tmp_path: Path) -> None:
        folder = tmp_path / "Some Model"
        folder.mkdir()
        write_tiny_model(folder / "weights.gguf")
        assert cli.run("import", str(folder), "-q").stdout == "some-model\n"

    def test_the_number_of_a_part_is_no_part_of_the_name(self) -> None:
        assert default_name(Path("/x/Big-00001-of-00003.gguf")) == "big"

    def test_a_file_name_without_a_usable_letter_asks_for_a_name(self) -> None:
        with pytest.raises(InvalidName):
            default_name(Path("/x/___.gguf"))


class TestList:
    def test_an_empty_store_says_how_to_begin(self, cli: Cli) -> None:
        ran = cli.run("list")
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert "localq run demo" in ran.stderr

    def test_models_are_rows_with_their_facts(self, cli: Cli) -> None:
        cli.add_model("tiny", license="mit")
        header, row = cli.run("list").stdout.splitlines()
        assert header.split() == ["NAME", "SIZE", "WEIGHTS", "TYPE", "ARCHITECTURE", "LICENCE", "STORED"]
        assert row.split()[:7] == ["tiny", "84.0", "KiB", "19.9K", "F32", "llama", "mit"]

    def test_json_is_one_document_and_quiet_the_names(self, cli: Cli) -> None:
        cli.add_model("b")
        cli.add_model("a", seed=1)
        assert [model["name"] for model in cli.run("--json", "list").json()["models"]] == ["a", "b"]
        assert cli.run("list", "--quiet").stdout == "a\nb\n"

    def test_a_licence_from_a_file_stays_on_its_line_and_harmless(self, cli: Cli) -> None:
        cli.add_model("evil", license=HOSTILE_NAME)
        ran = cli.run("list")
        assert len(ran.stdout.splitlines()) == 2
        assert not set(ran.stdout) & set("\x1b\x07\u202e\U000e0041")
        raw = cli.run("list", "--json")
        assert raw.stdout.isascii() and raw.stdout.rstrip("\n").isprintable()
        assert raw.json()["models"][0]["summary"]["license"] == HOSTILE_NAME

    def test_a_damaged_manifest_is_a_warning_and_hides_no_other_model(self, cli: Cli) -> None:
        cli.add_model("good")
        (cli.home / "manifests" / "bad.json").write_text("{}")
        ran = cli.run("list")
        assert "good" in ran.stdout
        assert "warning:" in ran.stderr and "bad.json" in ran.stderr
        assert len(cli.run("list", "--json").json()["damaged"]) == 1


class TestCopyAndRemove:
    def test_a_copy_shares_the_files(self, cli: Cli) -> None:
        cli.add_model("tiny")
        assert cli.run("cp", "tiny", "twin").exit_code == 0
        usage = cli.run("df", "--json").json()
        assert usage["stored_bytes"] == usage["models"][0]["size_bytes"]
        assert [model["freed_by_removing"] for model in usage["models"]] == [0, 0]

    def test_removing_says_what_was_freed(self, cli: Cli) -> None:
        cli.add_model("a")
        cli.add_model("b", seed=1)
        ran = cli.run("rm", "a", "b", "a")
        assert ran.stdout.count("freed") == 2
        assert cli.store.list() == []

    def test_one_unknown_name_removes_nothing(self, cli: Cli) -> None:
        cli.add_model("alpha")
        ran = cli.run("rm", "alpha", "alfa")
        assert ran.exit_code == 1
        assert "did you mean 'alpha'" in ran.stderr
        assert ran.last_line == "next: localq list"
        assert [model.name for model in cli.store.list()] == ["alpha"]

    def test_a_damaged_model_can_be_removed(self, cli: Cli) -> None:
        cli.add_model("bad")
        (cli.home / "manifests" / "bad.json").write_text("{}")
        assert cli.run("rm", "bad").exit_code == 0

    def test_rm_json_counts_the_bytes_of_each(self, cli: Cli) -> None:
        path = cli.add_model("a")
        (removed,) = cli.run("rm", "a", "--json").json()["removed"]
        assert removed["name"] == "a"
        assert removed["freed_bytes"] >= path.stat().st_size


class TestVerifyAndCollect:
    def test_a_sound_store_is_as_it_was_stored(self, cli: Cli) -> None:
        cli.add_model("a")
        ran = cli.run("verify")
        assert (ran.exit_code, ran.stdout) == (0, "Everything is as it was stored.\n")

    def test_a_flipped_bit_is_found_and_repaired_from_the_origin(self, cli: Cli, tmp_path: Path) -> None:
        cli.add_model("a")
        (blob,) = (cli.home / "blobs").iterdir()
        self.rot(cli)
        ran = cli.run("verify", "a")
        assert ran.exit_code == 1
        assert "hash" in ran.stdout and blob.name[:19] in ran.stdout
        assert blob.name not in ran.stdout
        document = cli.run("verify", "--json").json()
        assert document["ok"] is False
        assert document["problems"][0]["models"] == ["a"]
        assert blob.name in document["problems"][0]["detail"]
        assert ran.last_line == f"next: localq import {tmp_path / 'a.gguf'} --name a"
        cli.follow(ran)
        assert cli.run("verify").exit_code == 0

    def test_a_rotted_model_whose_origin_is_gone_can_only_be_removed(self, cli: Cli) -> None:
        cli.add_model("a").unlink()
        self.rot(cli)
        ran = cli.run("verify")
        assert ran.last_line == "next: localq rm a"
        cli.follow(ran)
        assert cli.run("verify").stdout == "Everything is as it was stored.\n"

    def test_a_rotted_demo_is_fetched_again_for_all_its_names(
        self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_tiny_model(tmp_path / "d.gguf")
        source = Source(kind="demo", origin="somewhere")

        def fetch(store: Store, _progress: object) -> Manifest:
            return store.import_file(path, "demo", source=source)

        monkeypatch.setattr("app.hub.demo.fetch_demo", fetch)
        fetch(cli.store, None)
        cli.run("cp", "demo", "twin")
        self.rot(cli)
        ran = cli.run("verify")
        assert ran.last_line == "next: localq rm demo && localq run demo"
        assert cli.run("rm", "demo").exit_code == 0
        assert cli.run("verify").last_line == "next: localq run demo"
        assert cli.run("run", "demo", "Hello").exit_code == 0
        assert cli.run("verify").exit_code == 0

    def test_a_store_with_an_unreadable_manifest_leaves_no_circle(self, cli: Cli) -> None:
        (cli.home / "manifests").mkdir(parents=True)
        manifest = cli.home / "manifests" / "org+bad.json"
        for words in (("verify",), ("gc",), ("run", "org/bad", "Hi"), ("show", "org/bad")):
            manifest.write_text("{}")
            ran = cli.run(*words)
            assert (ran.exit_code, ran.last_line) == (1, "next: localq rm org/bad")
            cli.follow(ran)
        manifest.write_text("{}")
        assert "localq rm org/bad" in cli.run("list").stderr
        assert "localq rm org/bad" in cli.run("doctor").stdout

    def test_the_copy_of_a_damaged_model_names_the_model_itself(self, cli: Cli) -> None:
        cli.add_model("a")
        for blob in (cli.home / "blobs").iterdir():
            blob.unlink()
        ran = cli.run("cp", "a", "b")
        assert ran.exit_code == 1
        assert "'a'" in ran.stderr and "'b'" not in ran.stderr
        cli.follow(ran)
        assert cli.run("cp", "a", "b").exit_code == 0

    @pytest.mark.parametrize("change", ["touch", "remove"])
    def test_a_linked_file_that_changed_is_linked_again_or_removed(
        self, cli: Cli, tmp_path: Path, change: str
    ) -> None:
        path = write_tiny_model(tmp_path / "my model.gguf")
        cli.run("import", "--link", str(path), "--name", "mine")
        if change == "touch":
            write_tiny_model(path, seed=5)
        else:
            path.unlink()
        ran = cli.run("run", "mine", "Hi")
        assert ran.exit_code == 1
        cli.follow(ran)
        assert [model.name for model in cli.store.list()] == (["mine"] if change == "touch" else [])

    @staticmethod
    def rot(cli: Cli) -> None:
        """Flips a bit of the only blob."""
        (blob,) = (cli.home / "blobs").iterdir()
        raw = bytearray(blob.read_bytes())
        raw[-1] ^= 1
        overwrite(blob, bytes(raw))

    def test_leftovers_are_named_and_collected(self, cli: Cli) -> None:
        cli.add_model("a")
        (cli.home / "blobs" / f"sha256-{'0' * 64}").write_bytes(b"x" * 1000)
        ran = cli.run("verify")
        assert ran.exit_code == 0
        assert ran.last_line == "next: localq gc"
        assert cli.run("gc", "--json").json() == {"freed_bytes": 1000}
        assert cli.run("gc").stdout == "There was nothing to delete.\n"

    def test_df_of_an_empty_store_names_its_folder(self, cli: Cli) -> None:
        ran = cli.run("df")
        assert ran.exit_code == 0
        assert str(cli.home) in ran.stdout
        assert cli.run("df", "-q").stdout == "0\n"
