"""Pictures in a chat: drawn as they are, beside an answer, in terminals with colours and without."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app.tui.entry import Entry
from app.tui.markdown import Document, Picture
from app.tui.markdown.lines import Line, Margin, Span
from app.tui.markdown.picture import MOST_PICTURES, draw_picture, runs
from app.tui.pictures import album
from app.tui.themes import COLOURLESS
from tests.app.tui_kit import LARGE, Stage, answered, chat_of, say, text_of, until
from tests.hostile.pictures import small_png
from tests.hostile.terminal import foreign

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FOUR = Picture(2, 2, bytes([*RED, *GREEN, *BLUE, *WHITE]))


# -- drawing ------------------------------------------------------------------------------------------------


def test_four_pixels_are_two_cells_of_exactly_these_colours() -> None:
    (line,) = draw_picture(FOUR, 80, Margin())
    assert line.plain == "▀▀" and line.colours is not None
    assert runs(line.colours) == [(1, RED, BLUE), (1, GREEN, WHITE)]


def test_equal_cells_are_one_run_and_an_odd_row_has_no_lower_half() -> None:
    first, last = draw_picture(Picture(3, 3, bytes([*RED] * 9)), 80, Margin())
    assert first.colours is not None and runs(first.colours) == [(3, RED, RED)]
    assert last.colours is not None and runs(last.colours) == [(3, RED, None)]


def test_a_picture_that_is_too_wide_is_made_smaller_by_the_mean_and_keeps_its_shape() -> None:
    stripes = Picture(40, 20, bytes([0, 0, 0, 200, 100, 50] * 400))
    lines = draw_picture(stripes, 20, Margin())
    assert [line.width for line in lines] == [20] * 5
    assert all(runs(line.colours or (b"", b"")) == [(20, (100, 50, 25), (100, 50, 25))] for line in lines)


def test_a_picture_stands_within_its_quotation() -> None:
    document = Document("> ![four](four.png)\n\nEnd.")
    document.look = lambda name: FOUR
    assert [line.plain for line in document.lines(40)] == [
        "▎ [image: four] (four.png)",
        "▎ ▀▀",
        "",
        "End.",
    ]


def test_without_pictures_the_text_is_what_it_was() -> None:
    text = "A ![four](four.png) here."
    document = Document(text)
    assert [line.plain for line in document.lines(60)] == ["A [image: four] (four.png) here."]
    document.look = lambda name: "no such file"
    document.forget_picture(None)
    assert [line.plain for line in document.lines(60)] == ["A [image: four] (four.png: no such file) here."]


TEXT = (
    "One ![a](a.png) and ![b](b.png).\n\n- ![a](a.png)\n- two\n\n# ![a](a.png)\n\n" + "![c](c.png)\n\n" * 20
)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_how_a_text_with_pictures_is_cut_makes_no_difference(step: int) -> None:
    def look(name: str) -> Picture | str:
        return "no such file" if name == "b.png" else FOUR

    whole, cut = Document(TEXT), Document()
    whole.look = cut.look = look
    for start in range(0, len(TEXT), step):
        cut.append(TEXT[start : start + step])
        cut.lines(60)
    assert cut.lines(60) == whole.lines(60)


def test_a_message_shows_some_pictures_and_names_all() -> None:
    document = Document("![c](c.png)\n\n" * 100)
    document.look = lambda name: FOUR
    lines = document.lines(60)
    assert sum(line.colours is not None for line in lines) == MOST_PICTURES
    assert sum("[image: c]" in line.plain for line in lines) == 100
    assert lines[-1].plain == "[image: c] (c.png: a message shows its first 16)"


def test_only_the_picture_that_came_is_looked_for_again() -> None:
    asked: list[str] = []
    document = Document("![a](a.png)\n\n![b](b.png)\n\nmore\n\n![a](a.png)")

    def look(name: str) -> Picture | str:
        asked.append(name)
        return ""

    document.look = look
    document.lines(60)
    assert asked == ["a.png", "b.png", "a.png"]
    document.look = lambda name: FOUR
    assert document.forget_picture("b.png") and not document.forget_picture("c.png")
    assert [line.plain for line in document.lines(60)].count("▀▀") == 1


def test_thoughts_show_no_pictures() -> None:
    entry = Entry(1, "assistant", open_thoughts=True)
    entry.content.look = lambda name: FOUR
    entry.think("![a](a.png)")
    entry.say("![b](b.png)")
    entry.end()
    assert sum(line.colours is not None for line in entry.lines(60)) == 1


# -- the app ------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "four.png").write_bytes(small_png([[RED, GREEN], [BLUE, WHITE]]))
    stage = Stage(tmp_path)
    stage.add_model()
    return stage


def cells(app: object) -> list[tuple[str, tuple[object, ...]]]:
    """The picture on the screen: text and colours of each segment."""
    found: list[tuple[str, tuple[object, ...]]] = []
    for strip in app.screen._compositor.render_strips():  # type: ignore[attr-defined]
        for text, style, _ in strip:
            if "▀" in text:
                found.append((text, (tuple(style.color.triplet), tuple(style.bgcolor.triplet))))
    return found


async def test_a_picture_that_an_answer_names_is_on_the_screen_in_its_colours(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo Look: ![four](four.png) there")
        await answered(pilot)
        await until(pilot, lambda: len(cells(app)) == 4)
        assert cells(app)[2:] == [("▀", (RED, BLUE)), ("▀", (GREEN, WHITE))]
        assert "Look: [image: four] (four.png) there" in text_of(app)


async def test_while_a_picture_is_decoded_the_answer_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(album, "decode", lambda descriptor: go.wait(20) and FOUR)
    async with stage.open() as (app, pilot):
        await say(pilot, "echo ![four](four.png)\n\nThe end of it.")
        await answered(pilot)
        assert text_of(app).count("The end of it.") == 2 and cells(app) == []
        go.set()
        await until(pilot, lambda: len(cells(app)) == 4)


async def test_a_pipe_that_a_model_names_stops_nothing(stage: Stage) -> None:
    os.mkfifo(stage.folder / "pipe.png")
    async with stage.open(LARGE) as (app, pilot):
        await say(pilot, "echo ![p](pipe.png) ![d](/dev/zero) ![s](../secret.png)")
        await answered(pilot)
        await until(pilot, lambda: text_of(app).count("pipe.png: not a regular file") == 2)
        assert text_of(app).count("outside of the working") == 4


async def test_with_no_color_and_ansi_themes_there_is_text(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo ![four](four.png)")
        await answered(pilot)
        await until(pilot, lambda: cells(app))
        app.choose_theme("ansi-dark")
        await until(pilot, lambda: not cells(app))
        app.choose_theme("localq-light")
        await until(pilot, lambda: cells(app))
    monkeypatch.setenv("NO_COLOR", "1")
    async with stage.open() as (app, pilot):
        await until(pilot, lambda: "[image: four] (four.png)" in text_of(app))
        await pilot.pause(0.3)
        assert "▀▀" not in text_of(app) and not app.shows_pictures
        assert app.theme == COLOURLESS  # not the one that was chosen when there were colours
        await say(pilot, "echo " + "![c](c.png) " * (MOST_PICTURES + 1) + "end")
        await answered(pilot, 2)
        said = " ".join(text_of(app).split())
        assert "(c.png) end" in said and "(c.png:" not in said  # none is shown: no line says that some are


@pytest.mark.parametrize(("term", "colours"), [("xterm", False), ("dumb", False), ("xterm-256color", True)])
async def test_a_terminal_with_few_colours_has_text(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, term: str, colours: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("COLORTERM")
    async with stage.open() as (app, _pilot):
        assert app.shows_pictures == colours


async def test_a_selection_has_the_text_and_not_the_blocks(stage: Stage) -> None:
    async with stage.open() as (app, pilot):
        await say(pilot, "echo One ![four](four.png)\n\ntwo")
        await answered(pilot)
        await until(pilot, lambda: len(cells(app)) == 4)
        app.screen.text_select_all()
        selected = app.screen.get_selected_text() or ""
        assert "One [image: four] (four.png)\n\ntwo" in selected and "▀" not in selected


async def test_a_reader_who_scrolled_up_stays_where_he_is_when_a_picture_comes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    tall = Picture(2, 40, bytes([*RED] * 80))
    monkeypatch.setattr(album, "decode", lambda descriptor: go.wait(20) and tall)
    async with stage.open() as (app, pilot):
        await say(pilot, "echo ![four](four.png)")
        await answered(pilot)
        for number in range(4):
            await say(pilot, f"echo text {number}\n\n" + "line\n\n" * 15)
            await answered(pilot, 2 + number)
        transcript = chat_of(app).transcript
        transcript.scroll_to(y=60, animate=False)
        await pilot.pause()
        before, top = transcript.place, text_of(app)
        assert before is not None
        go.set()
        await until(pilot, lambda: transcript.virtual_size.height > 150)
        await pilot.pause()
        assert transcript.place == before and text_of(app).splitlines()[2] == top.splitlines()[2]


def test_a_row_of_a_picture_says_nothing_foreign() -> None:
    for line in draw_picture(FOUR, 20, Margin((Span("> "),), (Span("> "),))):
        assert isinstance(line, Line) and foreign(line.plain) == set()
