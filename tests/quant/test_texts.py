"""The built-in texts are whole, licensed and disjoint; a person's own files are read or refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from quant.calibration import texts as module
from quant.calibration.text import CalibrationText
from quant.calibration.texts import FOLDER, Split, builtin, read_texts, sources
from quant.errors import InvalidText

RUN = 13
SPLITS: tuple[Split, ...] = ("calibration", "probing", "evaluation")
CONVERSATIONS: tuple[tuple[Split, int], ...] = (("calibration", 50), ("evaluation", 15))
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
"""One character of Chinese, Japanese and Korean; a word elsewhere."""


def parts(text: CalibrationText) -> list[str]:
    return [message["content"] for message in text.messages] or [text.text]


def runs(content: str) -> Iterator[tuple[str, ...]]:
    words = WORD.findall(content.casefold())
    return (tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))


def shared(calibration: list[str], evaluation: list[str]) -> set[tuple[str, ...]]:
    known = {run for content in calibration for run in runs(content)}
    return {run for content in evaluation for run in runs(content)} & known


def contents(split: Split) -> list[str]:
    return [part for text in builtin(split) for part in parts(text)]


def domains(split: Split) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in builtin(split):
        size = sum(len(part.encode()) for part in parts(text))
        sizes[text.domain] = sizes.get(text.domain, 0) + size
    return sizes


def test_every_built_in_text_is_the_one_of_the_index() -> None:
    for split in SPLITS:
        assert builtin(split)
    on_disk = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*")}
    assert on_disk == {source.file for source in sources()}


def test_names_are_unique_within_and_across_the_splits() -> None:
    for split in SPLITS:
        names = [text.name for text in builtin(split)]
        assert len(names) == len(set(names))
    works = [(source.title, source.origin) for source in sources() if "written" not in source.origin]
    assert len(works) == len(set(works))


@pytest.mark.parametrize(("one", "other"), [*combinations(SPLITS, 2)])
def test_no_two_splits_share_a_run_of_thirteen_words(one: Split, other: Split) -> None:
    assert shared(contents(one), contents(other)) == set()


def test_a_shared_run_of_words_would_be_found() -> None:
    calibration, evaluation = contents("calibration"), contents("evaluation")
    stolen = calibration[0].split()[100:130]
    assert shared(calibration, [*evaluation, " ".join(stolen)])
    chinese = next(text.text for text in builtin("calibration") if text.name == "language-zh-story")
    assert shared(calibration, [chinese[20:60]])


def test_the_sizes_allow_an_even_draw_from_each_domain() -> None:
    calibration, evaluation = domains("calibration"), domains("evaluation")
    assert set(calibration) == {"prose", "code", "languages", "dialogue"}
    assert set(evaluation) == {"prose", "code", "dialogue", "unseen"}
    assert min(calibration.values()) > 30_000
    assert min(evaluation[domain] for domain in ("prose", "code", "unseen")) > 40_000
    assert set(domains("probing")) == {"prose", "code", "dialogue"}
    assert min(domains("probing").values()) > 5_000  # two chunks of 512 tokens
    assert 300_000 < sum(calibration.values()) < 500_000
    assert 150_000 < sum(evaluation.values()) < 250_000


def test_the_unseen_domain_has_languages_that_calibration_has_none_of() -> None:
    seen = {source.language for source in sources() if source.split == "calibration"}
    unseen = {source.language for source in sources() if source.domain == "unseen"}
    assert {"pl", "ko", "sv"} <= unseen - seen
    assert {"de", "fr", "es", "it", "pt", "ru", "zh", "ja", "ar", "hi"} <= seen
    assert {"python", "c", "javascript", "rust", "shell", "sql", "html", "json"} <= seen


def test_conversations_take_turns_and_some_have_a_system_prompt() -> None:
    for split, least in CONVERSATIONS:
        conversations = [text.messages for text in builtin(split) if text.messages]
        assert len(conversations) >= least
        for messages in conversations:
            roles = [message["role"] for message in messages]
            turns = roles[1:] if roles[0] == "system" else roles
            assert turns == ["user", "assistant"] * (len(turns) // 2) != []
        assert any(messages[0]["role"] == "system" for messages in conversations)
        assert any(len(messages) > 3 for messages in conversations)


def test_every_text_has_a_source_a_licence_and_its_words() -> None:
    listed, notices = (FOLDER / "SOURCES.md").read_text(), (FOLDER / "NOTICES.md").read_text()
    for source in sources():
        assert source.sha256 in listed
        assert f"`{Path(source.file).name}`" in listed
        assert source.title and source.author and source.url and source.cut
        if source.licence not in ("public domain", "Apache-2.0"):
            assert f"## {source.licence}\n" in notices
            assert source.copyright and source.copyright in notices
            assert f"`{source.file}`" in notices


def test_the_wheel_takes_every_built_in_text_along() -> None:
    settings = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text())
    wheel = settings["tool"]["scikit-build"]["wheel"]
    assert FOLDER.parent.name in wheel["packages"]
    names = ["index.json", "SOURCES.md", "NOTICES.md", *(source.file for source in sources())]
    for pattern in wheel["exclude"]:
        assert [name for name in names if Path("quant/texts", name).match(pattern)] == []
    assert any(Path("quant/texts/README.md").match(pattern) for pattern in wheel["exclude"])


def test_a_changed_built_in_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    shutil.copytree(FOLDER, folder)
    assert builtin("evaluation", folder) == builtin("evaluation")
    builtin.cache_clear()
    path = folder / "evaluation" / "prose-lift.txt"
    path.write_bytes(path.read_bytes().replace(b"aunt", b"ant ", 1))
    with pytest.raises(InvalidText, match=r"prose-lift\.txt.*sha256.*reinstall"):
        builtin("evaluation", folder)
    path.unlink()
    with pytest.raises(InvalidText, match=r"prose-lift\.txt.*No such file"):
        builtin("evaluation", folder)


@pytest.mark.parametrize("index", ["{}", '{"texts": 3}', "\udcff", '{"texts": [{"name": "x"}]}'])
def test_a_damaged_index_is_named(tmp_path: Path, index: str) -> None:
    (tmp_path / "index.json").write_bytes(index.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidText, match=r"index\.json.*reinstall"):
        sources(tmp_path)


def test_an_unknown_split_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="calibration, probing and evaluation"):
        builtin("validation")


@pytest.mark.parametrize("name", ["mine.txt", "mine.md", "MINE.TXT"])
def test_a_plain_file_is_one_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + "Grüße,\r\nein Text".encode())
    (text,) = read_texts(path)
    assert (text.name, text.domain, text.text) == (name, "given", "Grüße,\r\nein Text")


def test_a_jsonl_file_holds_conversations_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    messages = [{"role": "user", "content": "Hi\u2028there"}, {"role": "assistant", "content": "Hello."}]
    lines = [{"messages": messages, "id": 7}, {"name": "note", "text": "A note."}]
    path.write_text("\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    first, second = read_texts(path, domain="dialogue")
    assert (first.name, first.domain, list(first.messages)) == ("chats.jsonl/1", "dialogue", messages)
    assert (second.name, second.text) == ("chats.jsonl/note", "A note.")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: "),
        ('{"messages": 3}', r"line 2: Expected `array`"),
        ('{"messages": [{"role": "user"}]}', "line 2: .*content"),
        ('{"messages": [{"role": "wizard", "content": "x"}]}', "line 2: Invalid enum value 'wizard'"),
        ('{"messages": [{"role": "user", "content": " "}]}', "line 2: a message has no content"),
        ('{"messages": []}', "line 2: needs either messages or a text"),
        ('{"messages": [{"role": "user", "content": "x"}], "text": "y"}', "line 2: needs either"),
        ("[" * 100_000, "line 2: "),
        ('{"text": "\\ud800"}', "line 2: "),
    ],
)
def test_a_line_of_another_shape_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(InvalidText, match=rf"chats\.jsonl: {reason}") as caught:
        read_texts(path)
    assert "no content" in str(caught.value) or str(caught.value).endswith('or {"text": "..."}')
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"abc\xffdef", r"no UTF-8 at byte 3 \(0xff\)"),
        ("a.txt", b"\xef\xbb\xbfab\xc3", r"no UTF-8 at byte 5 \(0xc3\)"),
        ("a.txt", "Text".encode("utf-16"), r"no UTF-8 at byte 0 \(0xff\)"),
        ("a.txt", b"ELF\0\0", "a zero byte at byte 3"),
        ("a.txt", b" \n", "holds no text"),
        ("a.jsonl", b"\n\n", "holds no conversations"),
        ("a.jsonl", b'{"text": "x"}\n\xc3\x28', r"no UTF-8 at byte 14 \(0xc3\)"),
        ("a.pdf", b"%PDF", r"from \.txt, \.md, \.jsonl files, not from '\.pdf'"),
        ("plain", b"text", r"this one has no ending"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidText, match=reason):
        read_texts(tmp_path / name)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "folder.txt"):
        with pytest.raises(InvalidText, match="not a regular file"):
            read_texts(tmp_path / name)
    with pytest.raises(InvalidText, match="No such file"):
        read_texts(tmp_path / "missing.txt")


def test_too_large_a_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(InvalidText, match=r"large\.txt: 6\d.* at most 6"):
        read_texts(path)
    monkeypatch.setattr(module, "MOST_CONVERSATIONS", 2)
    many = tmp_path / "many.jsonl"
    many.write_text('{"text": "x"}\n' * 3)
    with pytest.raises(InvalidText, match="more than 2 lines"):
        read_texts(many)
