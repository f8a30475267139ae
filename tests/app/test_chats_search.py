from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chats import Attachment, Chats, Hit
from app.chats.words import Query
from tests.app.chats_kit import talk


@pytest.fixture
def chats(tmp_path: Path) -> Chats:
    return Chats(tmp_path)


def shown(hit: Hit) -> list[str]:
    return [hit.excerpt[start:end] for start, end in hit.spans]


class TestFinding:
    @pytest.mark.parametrize(
        ("text", "typed", "found"),
        [
            ("The naïve café owner", "NAIVE cafe", ["naïve", "café"]),
            ("The naive cafe owner", "naïve", ["naive"]),
            ("Straße und Größe", "größ", ["Größ"]),
            ("def sort_list(items): return sorted(items)", "sort_list", ["sort_list"]),
            ("error: E_CONN_RESET at 10.0.0.1", "10.0.0", ["10.0.0"]),
            ("今日は東京タワーに行きました", "京タワ", ["京タワ"]),
            ("我昨天去了北京大学", "北京", ["北京"]),
            ("오늘 서울에서 만나요", "서울", ["서울"]),
            ("ผมกินข้าวแล้ว", "กินข้าว", ["กินข้าว"]),
            ("Привет, как дела?", "дела", ["дела"]),
            ("a b\nthe   quick\n brown fox", '"quick brown"', ["quick brown"]),
            ("unfinished wording", "unfin", ["unfin"]),
        ],
    )
    def test_words_are_found_in_many_languages(
        self, chats: Chats, text: str, typed: str, found: list[str]
    ) -> None:
        chat = chats.create(title="a title")
        (message,) = talk(chats, text, chat_id=chat.id)
        talk(chats, "something else")
        (hit,) = chats.search(typed)
        assert hit.message_id == message.id
        assert shown(hit) == found

    def test_all_words_must_be_there_and_none_of_those_after_a_minus(self, chats: Chats) -> None:
        chat = chats.create(title="-")
        first, second = talk(chats, "red apple", "red pear", chat_id=chat.id)
        assert [hit.message_id for hit in chats.search("red pear")] == [second.id]
        assert [hit.message_id for hit in chats.search("red -pear")] == [first.id]
        assert [hit.message_id for hit in chats.search('red -"red apple"')] == [second.id]
        assert chats.search("red apple pear") == []
        assert chats.search("-red") == []

    def test_only_the_last_word_may_be_unfinished(self, chats: Chats) -> None:
        talk(chats, "sorting lists")
        assert chats.search("sort lists") == []
        assert chats.search("sorting li")
        assert chats.search("sorting li ") == []
        assert chats.search('"sorting li"') == []

    def test_titles_come_first_and_attachments_are_searched_too(self, chats: Chats) -> None:
        chat = chats.create(title="Pelican facts")
        (message,) = talk(chats, "Tell me", chat_id=chat.id)
        other = chats.create(title="Log")
        attached = chats.add(
            other.id,
            "user",
            "What is wrong?",
            parent_id=None,
            attachments=[Attachment("app.log", "line\n" * 50 + "fatal: pelican crashed")],
        )
        title, text = chats.search("pelican")
        assert (title.chat_id, title.message_id, shown(title)) == (chat.id, None, ["Pelican"])
        assert (text.message_id, shown(text)) == (attached.id, ["pelican"])
        assert chats.search("app.log")[0].message_id == attached.id
        assert chats.search("tell")[0].message_id == message.id

    def test_an_excerpt_is_one_short_line_around_the_first_place(self, chats: Chats) -> None:
        chat = chats.create(title="-")
        talk(chats, "before " * 100 + "\n\nneedle\n" + "after " * 100, chat_id=chat.id)
        (hit,) = chats.search("needle")
        assert "\n" not in hit.excerpt
        assert len(hit.excerpt) <= 210
        assert hit.excerpt.startswith("…")
        assert hit.excerpt.endswith("…")
        assert shown(hit) == ["needle"]

    @pytest.mark.parametrize(
        "typed", ["", "   ", "!!!", '"', '""', "-", "--", '-"', "'", "*", "()", "\0", "^"]
    )
    def test_a_search_for_no_words_finds_nothing(self, chats: Chats, typed: str) -> None:
        talk(chats, "!!! * ( ) text")
        assert chats.search(typed) == []

    def test_operators_of_the_index_are_words_like_others(self, chats: Chats) -> None:
        chat = chats.create(title="-")
        (message,) = talk(chats, "this AND that OR NEAR(x) words: col", chat_id=chat.id)
        for typed in ("AND that", "OR NEAR(x)", "words: col", "NEAR(x", "that OR"):
            assert [hit.message_id for hit in chats.search(typed)] == [message.id]

    @given(st.text(max_size=60))
    def test_any_text_may_be_typed(self, typed: str) -> None:
        with Chats(None) as chats:
            talk(chats, typed, "some words")
            for hit in chats.search(typed):
                assert all(0 <= start < end <= len(hit.excerpt) for start, end in hit.spans)

    @given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=20))
    def test_spans_never_overlap_and_lie_in_the_excerpt(self, text: str, typed: str) -> None:
        line, spans = Query(typed).excerpt(text)
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
        assert all(edge <= len(line) for edge in edges)


@pytest.mark.slow
def test_among_100_000_messages_any_search_takes_50_ms_at_most(tmp_path: Path) -> None:
    """Also for words that are in all of them, and while one types them letter by letter.

    Of processor time, which the search is: that a machine is busy makes none slow.
    """
    texts = Path(__file__).resolve().parents[2] / "quant" / "texts" / "evaluation"
    words = (texts / "prose-sawyer.txt").read_text().split()
    rng = random.Random(1)
    with Chats(tmp_path) as chats, chats._database.write():  # one transaction: quicker to fill
        for _ in range(1000):
            said = []
            for _ in range(100):
                start = rng.randrange(len(words) - 300)
                said.append(" ".join(words[start : start + rng.randrange(3, 300)]))
            talk(chats, *said)
    with Chats(tmp_path) as chats:
        chats.search("warm")
        seconds = {}
        for typed in (
            "t",
            "th",
            "the",
            "the ",
            "the f",
            "the fence ",
            "and -tom",
            '"of the"',
            "whitewash",
            "zzz",
        ):
            started = time.thread_time()
            chats.search(typed)
            seconds[typed] = time.thread_time() - started
        assert max(seconds.values()) <= 0.050, seconds
