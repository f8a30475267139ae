from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from app.chats import Chats
from app.cli.chats import SECTIONS
from app.cli.chats.list_ import SHOWN
from tests.app.chats_kit import files_hold, talk
from tests.app.cli_runner import Cli

COMMANDS = [entry.name for entry in SECTIONS["Chats"]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def two(cli: Cli) -> Cli:
    """Two kept chats, 1 and 2."""
    with Chats(cli.home) as chats:
        talk(chats, "How do I sort?", "With sorted().\x1b[2J")
        talk(chats, "Tell me of pelicans.", "They are birds.")
    return cli


class TestGroup:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_json_and_quiet(self, cli: Cli, name: str) -> None:
        ran = cli.run("chats", name, "--help")
        assert ran.exit_code == 0
        for option in ("--json", "--quiet", "--help"):
            assert option in ran.stdout

    def test_an_unknown_command_names_the_nearest(self, cli: Cli) -> None:
        ran = cli.run("chats", "serch", "x")
        assert ran.exit_code == 2
        assert "did you mean 'search'" in ran.stderr

    @pytest.mark.parametrize("words", [(), ("list",), ("search", "x")])
    def test_where_none_are_kept_no_file_is_made(self, cli: Cli, words: tuple[str, ...]) -> None:
        assert cli.run("chats", *words).exit_code == 0
        assert not (cli.home / "chats").exists()


class TestList:
    def test_the_last_changed_comes_first(self, two: Cli) -> None:
        ran = two.run("chats")
        assert ran.stdout == two.run("chats", "list").stdout
        _, first, second = ran.stdout.splitlines()
        assert first.split()[:5] == ["2", "Tell", "me", "of", "pelicans."]
        assert second.startswith("1 ")
        assert two.run("chats", "-q").stdout == "2\n1\n"
        assert [chat["id"] for chat in two.run("chats", "list", "--json").json()["chats"]] == [2, 1]

    def test_more_than_a_screen_is_asked_for(self, cli: Cli) -> None:
        with Chats(cli.home) as chats:
            for number in range(SHOWN + 5):
                chats.create(title=f"chat {number}")
        ran = cli.run("chats")
        assert len(ran.stdout.splitlines()) == SHOWN + 1
        assert "and 5 more chats: --all" in ran.stderr
        assert len(cli.run("chats", "list", "--all").stdout.splitlines()) == SHOWN + 6


class TestShow:
    def test_a_chat_is_markdown_that_no_terminal_obeys(self, two: Cli) -> None:
        ran = two.run("chats", "show", "1")
        assert "## You\n\nHow do I sort?\n\n## Assistant\n\nWith sorted().␛[2J\n" in ran.stdout
        assert "\x1b" not in ran.stdout
        document = two.run("chats", "show", "1", "--json").json()
        assert document["messages"][1]["content"] == "With sorted().\x1b[2J"

    def test_a_number_that_is_not_there_points_to_the_list(self, two: Cli) -> None:
        ran = two.run("chats", "show", "9")
        assert ran.exit_code == 1
        assert "there is no chat 9" in ran.stderr
        assert ran.last_line == "next: localq chats"
        two.follow(ran)


class TestSearch:
    def test_words_are_found_with_what_stands_around_them(self, two: Cli) -> None:
        ran = two.run("chats", "search", "bird")
        assert "They are birds." in ran.stdout
        assert two.run("chats", "search", "pelican", "-q").stdout == "2\n"
        assert two.run("chats", "search", "tell me", "--json").json()["hits"][1]["message_id"] == 3
        assert "Nothing found." in two.run("chats", "search", "zebra").stderr


class TestEdit:
    def test_title_folder_and_pin_are_changed(self, two: Cli) -> None:
        ran = two.run("chats", "edit", "1", "--title", "Sorting", "--folder", "code", "--pin")
        assert ran.stdout == "Chat 1: Sorting in code, pinned.\n"
        assert two.run("chats", "list", "--folder", "code", "-q").stdout == "1\n"
        assert two.run("chats", "-q").stdout == "1\n2\n"

    def test_nothing_to_change_is_wrong_use(self, two: Cli) -> None:
        ran = two.run("chats", "edit", "1")
        assert ran.exit_code == 2
        two.follow(ran)


class TestExport:
    def test_one_goes_to_stdout_and_json_comes_back(self, two: Cli, tmp_path: Path) -> None:
        assert two.run("chats", "export", "2").stdout.startswith("# Tell me of pelicans.\n")
        document = two.run("chats", "export", "--all", "--format", "json").stdout
        assert document.isascii()
        (tmp_path / "chats.json").write_text(document)
        other = Cli(tmp_path / "other")
        other.folder.mkdir()
        assert other.run("chats", "import", str(tmp_path / "chats.json"), "-q").stdout == "2\n"
        assert json.loads(other.run("chats", "export", "1", "--json").stdout)["chats"][0]["title"]

    def test_several_become_files_of_their_owner_in_a_folder(self, two: Cli, tmp_path: Path) -> None:
        out = tmp_path / "out"
        ran = two.run("chats", "export", "--all", "--out", str(out), "-q")
        assert sorted(path.name for path in out.iterdir()) == [
            "1-how-do-i-sort.md",
            "2-tell-me-of-pelicans.md",
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
        assert len(ran.stdout.splitlines()) == 2
        again = two.run("chats", "export", "1", "--out", str(out))
        assert again.exit_code == 2
        assert "exists already" in again.stderr

    def test_what_to_export_must_be_said(self, two: Cli) -> None:
        for words in ((), ("1", "--all")):
            ran = two.run("chats", "export", *words)
            assert ran.exit_code == 2
            two.follow(ran)


class TestImport:
    def test_what_came_is_counted_and_what_did_not_is_said(self, two: Cli, tmp_path: Path) -> None:
        path = tmp_path / "conversations.json"
        messages = {
            "a": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}}, "parent": None}
        }
        path.write_text(
            json.dumps([{"conversation_id": "x", "title": "T", "mapping": messages}, {"mapping": 1}])
        )
        ran = two.run("chats", "import", str(path))
        assert ran.stdout == "1 chat imported, 0 added to, 0 there already: 1 message.\n"
        assert f"not read: {path}: chat 2" in ran.stderr
        again = two.run("chats", "import", str(path), "--json").json()
        assert (again["new"], again["unchanged"], len(again["unread"])) == (0, 1, 1)

    def test_a_file_of_nothing_is_an_error(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text("{}")
        ran = cli.run("chats", "import", str(tmp_path / "x.json"))
        assert ran.exit_code == 1
        assert ran.last_line == "next: localq chats import --help"
        assert cli.run("chats", "import", str(tmp_path / "nowhere")).last_line.startswith("next: ls -l ")


class TestRm:
    def test_deleted_is_gone_from_the_files_too(self, two: Cli) -> None:
        assert files_hold(two.home, b"pelicans")
        ran = two.run("chats", "rm", "2")
        assert ran.stdout == "Deleted 1 chat (2 messages).\n"
        assert not files_hold(two.home, b"pelicans")
        assert two.run("chats", "-q").stdout == "1\n"

    def test_a_wrong_number_deletes_nothing(self, two: Cli) -> None:
        assert two.run("chats", "rm", "1", "9").exit_code == 1
        assert two.run("chats", "-q").stdout == "2\n1\n"

    def test_all_must_be_meant(self, two: Cli) -> None:
        ran = two.run("chats", "rm", "--all")
        assert ran.exit_code == 2
        assert "this deletes 2 chats for good" in ran.stderr
        assert two.run("chats", "rm", "--all", "--yes", "-q").stdout == "2\n1\n"
        assert two.run("chats", "-q").stdout == ""
