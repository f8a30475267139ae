"""Markdown as lines while it is written: the same however it is cut, harmless, and quick."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from app.chats import Message
from app.chats.records import now
from app.terminal import Sanitizer
from app.tui.entry import Entry
from app.tui.markdown import Document
from tests.hostile.terminal import foreign, streams

SAMPLE = """# Title *with* emphasis

A paragraph with **bold**, `code`, a [link](https://example.org) and
a second line.

1. one
2. two
   - nested `x`
   - more

> quoted
> > twice

| a | b |
|---|--:|
| 1 | 22 |

```python
def f(x):
    \"\"\"Doc
    string.\"\"\"
    return x  # done
```

- [ ] open

~~~
plain
~~~

End of it.
"""


def plain(document: Document, width: int = 60) -> list[str]:
    return [line.plain for line in document.lines(width)]


def drawn(document: Document, width: int = 60) -> list[tuple[object, ...]]:
    return [line.spans for line in document.lines(width)]


def fed(text: str, cuts: list[int], *, draw_between: bool = False) -> Document:
    document = Document()
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for low, high in itertools.pairwise(bounds):
        document.append(text[low:high])
        if draw_between:
            document.lines(60)
    return document


def test_a_text_is_drawn_as_what_it_says() -> None:
    lines = plain(Document(SAMPLE))
    assert lines[0] == "Title with emphasis"
    assert "A paragraph with bold, code, a link (https://example.org)" in lines
    assert "2. two" in lines and "   ◦ nested x" in lines
    assert "▎ quoted" in lines and "▎ ▎ twice" in lines
    assert "1   │  22" in lines
    assert "╭ python copy" in lines and "│ def f(x):" in lines
    assert lines[-1] == "End of it."


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=30), st.booleans())
@settings(max_examples=80, deadline=None)
def test_where_a_text_is_cut_makes_no_difference(cuts: list[int], draw_between: bool) -> None:
    document = fed(SAMPLE, cuts, draw_between=draw_between)
    assert drawn(document) == drawn(Document(SAMPLE))
    assert [code.text for code in document.codes] == [
        'def f(x):\n    """Doc\n    string."""\n    return x  # done',
        "plain",
    ]


def test_a_stored_answer_with_many_brackets_is_drawn_as_it_was_while_it_was_written() -> None:
    code = "x = a[0] + b[1]\n" * 400
    text = f"An **answer**.\n\n```python\n{code}```\n\n" + "- a [link](https://a.org)\n" * 200 + "\nEnd.\n"
    assert drawn(Document(text)) == drawn(fed(text, list(range(len(text)))))
    assert plain(Document(text))[:4] == ["An answer.", "", "╭ python copy", "│ x = a[0] + b[1]"]


def test_character_by_character_it_is_the_same() -> None:
    document = fed(SAMPLE, list(range(len(SAMPLE))), draw_between=True)
    assert drawn(document) == drawn(Document(SAMPLE))


@pytest.mark.parametrize("mark", ["```", "~~~~", "  ```"])
def test_a_code_block_that_ends_with_the_text_is_closed(mark: str) -> None:
    text = f"{mark.strip()}python\nreturn 1\n\n{mark}"
    for document in (Document(text), fed(text, list(range(len(text))), draw_between=True)):
        assert plain(document) == ["╭ python copy", "│ return 1", "│ "]
        assert [code.text for code in document.codes] == ["return 1\n"]
    went_on = Document(text)
    went_on.append(" x")
    assert plain(went_on)[-1] == f"│ {mark} x" and went_on.codes[0].text.endswith(f"{mark} x")


@pytest.mark.parametrize("width", [8, 20, 79, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    text = SAMPLE + "\n\n" + "x" * 500 + "\n\n日本語のテキスト" * 30
    for line in Document(text).lines(width):
        assert cell_len(line.plain) <= max(width, 16), line.plain


def test_the_same_at_another_width_after_it_was_drawn() -> None:
    document = Document(SAMPLE)
    document.lines(40)
    assert drawn(document, 100) == drawn(Document(SAMPLE), 100)


def test_a_code_block_has_colours_also_while_it_is_open() -> None:
    document = Document("```python\nreturn 1\n")
    styles = {span.style for line in document.lines(60) for span in line.spans}
    assert "fence keyword" in styles


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "> " * 2000 + "x",
        "* " * 3000,
        "`" * 5000,
        "|" * 20_000 + "\n" + "|-" * 10_000,
        "(" * 100_000,
    ],
    ids=["brackets", "quotes", "lists", "ticks", "table", "long"],
)
def test_a_text_that_takes_parsers_long_does_not_take_long_here(text: str) -> None:
    began = time.process_time()
    document = Document()
    for start in range(0, len(text), 500):
        document.append(text[start : start + 500])
        document.lines(80)
    assert time.process_time() - began < 3


def test_appending_costs_what_the_last_block_costs() -> None:
    """A hundred times as long a text before it makes a piece no dearer, but for a margin."""

    def cost(paragraphs: int) -> float:
        document = Document("A paragraph of words that go on.\n\n" * paragraphs)
        document.lines(80)
        began = time.process_time()
        for _ in range(100):
            document.append("word ")
            document.lines(80)
        return time.process_time() - began

    few, many = min(cost(10) for _ in range(3)), min(cost(1000) for _ in range(3))
    assert many < few * 5


def test_nothing_hostile_gets_through_an_entry_however_it_is_cut() -> None:
    for pieces in list(streams(7, 400)):
        entry = Entry(1, "assistant", "m", live=True)
        for piece in pieces:
            entry.say(piece)
            entry.think(piece)
            entry.lines(40)
        entry.end()
        entry.open_thoughts = True
        entry.changed()
        for line in entry.lines(40):
            assert foreign(line.plain) == set(), line


def test_a_stored_message_is_harmless_with_its_names() -> None:
    message = Message(
        id=1,
        chat_id=1,
        parent_id=None,
        role="assistant",
        content="\x1b[2Jtext",
        model="m\x1b]0;x\x07",
        created=now(),
    )
    shown = "".join(line.plain for line in Entry.of(message).lines(60))
    assert foreign(shown) == set() and "␛[2Jtext" in shown


def test_the_documents_of_the_sanitizer_are_whole() -> None:
    random_ = random.Random(3)
    for _ in range(50):
        text = "".join(random_.choice(["a", "\u200d", "👩", "\r", "\n", "é", "`"]) for _ in range(40))
        entry, sanitizer = Entry(1, "user"), Sanitizer()
        for char in text:
            entry.say(char)
        entry.end()
        whole = Document(sanitizer.feed(text) + sanitizer.flush())
        assert drawn(entry.content) == drawn(whole)


def test_readme_and_docs_are_drawn_without_error() -> None:
    root = Path(__file__).resolve().parents[2]
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        assert plain(Document(path.read_text()), 80)
