"""How a model that is being made reads: steps with bars, files, and bits and error of its layers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from app.cli.chart import bar
from app.cli.quality import layer_place, mean_error
from app.cli.text import columns_of, shorten
from app.terminal import sanitize
from app.tui.making import File, Making, Step
from app.tui.palette import PLAIN, Palette
from quant.certificate.document import TensorFacts
from runtime.units import format_bytes

NAME_COLUMNS: Final = 12
END_COLUMNS: Final = 14
"""Of the figure behind a plot."""
MOST_BAR: Final = 32
MOST_FILES: Final = 4
RISING: Final = " ▁▂▃▄▅▆▇█"
PLOT_ROWS: Final = 3


def making_text(making: Making, width: int, palette: Palette = PLAIN) -> Text:
    """All of it, at most ``width`` columns wide."""
    with making.lock:
        steps, files = list(making.steps.values()), list(making.files.values())
        layers = {name: list(facts) for name, facts in making.layers.items()}
        notes, tensor = list(making.notes), making.tensor
    text = Text(no_wrap=True, overflow="ellipsis")
    for step in steps:
        _step(text, step, width, palette)
        if step.name == "fetch" and step.state == "now" and len(files) > 1:
            _files(text, files, width, palette)
    if layers:
        text.append("\n")
        text.append_text(plot(layers, width, palette))
        text.append(f"{shorten(sanitize(tensor, newlines=False), width)}\n", palette.muted)
    if notes:
        text.append("\n")
        for note in notes:
            for line in _wrapped(sanitize(note), width):
                text.append(f"{line}\n", palette.muted)
    return text


def _step(text: Text, step: Step, width: int, palette: Palette) -> None:
    done = step.state == "done"
    text.append("✓ " if done else "● ", palette.primary)
    text.append(f"{step.name:<{NAME_COLUMNS}}", "" if done else "bold")
    if step.share is not None:
        room = bar_columns(width)
        drawn = bar(step.share, room)
        text.append(drawn, palette.primary).append("░" * (room - columns_of(drawn)), palette.muted)
        text.append(f" {step.share:>4.0%}  ")
    taken = text.plain.rpartition("\n")[2]
    words = shorten(sanitize(step.words, newlines=False), max(0, width - columns_of(taken)))
    text.append(f"{words}\n", palette.muted)


def bar_columns(width: int) -> int:
    """Of a bar beside a step's name, and words of forty columns."""
    return max(10, min(MOST_BAR, width - NAME_COLUMNS - 48))


def _files(text: Text, files: Sequence[File], width: int, palette: Palette) -> None:
    """Those under way first, then what waits; what is done is counted."""
    rest = [file for file in files if file.done < file.total or file.words not in ("", "here already")]
    shown = sorted(rest, key=lambda file: file.done == 0)[:MOST_FILES]
    room = bar_columns(width)
    name_room = max(12, width - NAME_COLUMNS - room - 26)
    for file in shown:
        drawn = bar(file.done / file.total if file.total else 1.0, room)
        text.append(" " * (NAME_COLUMNS + 2))
        text.append(drawn, palette.primary).append("░" * (room - columns_of(drawn)), palette.muted)
        size = format_bytes(file.total)
        name = shorten(sanitize(file.name, newlines=False), name_room)
        words = f"  {sanitize(file.words, newlines=False)}" if file.words else ""
        line = f" {name}  {size}{words}"
        text.append(f"{shorten(line, max(0, width - NAME_COLUMNS - 2 - room))}\n", palette.muted)
    if len(rest) > len(shown):
        text.append(f"{' ' * (NAME_COLUMNS + 2)}and {len(rest) - len(shown)} more files\n", palette.muted)


def plot(layers: Mapping[str, Sequence[TensorFacts]], width: int, palette: Palette) -> Text:
    """Columns: of each layer so far the bits of a weight, and below them the mean squared error."""
    names = sorted(layers, key=layer_place)
    bits = [_bits(layers[name]) for name in names]
    encoded = [[facts for facts in layers[name] if facts.error is not None] for name in names]
    errors = [mean_error(facts) if facts else 0.0 for facts in encoded]
    room = max(1, width - NAME_COLUMNS - END_COLUMNS)
    columns = max(1, min(3, room // len(names)))
    step = -(-len(names) * columns // room) if len(names) * columns > room else 1
    text = Text(no_wrap=True, overflow="ellipsis")
    for title, values, unit, style in (
        ("bits", bits, ".2f", palette.primary),
        ("error", errors, ".1e", palette.accent),
    ):
        values = values[::step]
        most = max(values)
        last = format(values[-1], unit)
        for row in reversed(range(PLOT_ROWS)):
            label = title if row == PLOT_ROWS - 1 else ""
            text.append(f"{label:<{NAME_COLUMNS}}", "bold")
            for value in values:
                text.append(_cell(value / most if most else 0.0, row) * columns, style)
            ends = {PLOT_ROWS - 1: f"  {format(most, unit)} most", 0: f"  {last} last"}
            text.append(f"{ends.get(row, '')}\n", palette.muted)
    span = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
    span = shorten(sanitize(span, newlines=False), max(0, width - NAME_COLUMNS))
    return text.append(f"{'by layer':<{NAME_COLUMNS}}", "bold").append(f"{span}\n", palette.muted)


def _bits(facts: Sequence[TensorFacts]) -> float:
    matrices = [each for each in facts if each.error is not None] or list(facts)
    return 8 * sum(each.nbytes for each in matrices) / max(1, sum(each.elements for each in matrices))


def _cell(share: float, row: int) -> str:
    """What a column of ``share`` shows in a row, the lowest being 0."""
    eighths = round(share * PLOT_ROWS * 8) - 8 * row
    return RISING[min(max(eighths, 0), 8)]


def _wrapped(text: str, width: int) -> list[str]:
    from app.cli.text import wrap

    return [line for part in text.splitlines() for line in wrap(part, width)]
