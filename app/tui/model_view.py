"""How a model reads: a row of the list, and all that is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.style import Style
from rich.text import Text

from app.cli.chart import bar
from app.cli.figures import divergence_cells, with_error
from app.cli.text import format_parameters, shorten, shorten_digests, wrap
from app.terminal import sanitize
from app.tui.catalogue import Details, Layer, Row, formats
from app.tui.palette import PLAIN, Palette
from runtime.units import format_bytes

_COLUMNS: Final = (
    ("SIZE", 9),
    ("BITS", 5),
    ("TYPE", 8),
    ("KL DIVERGENCE", 16),
    ("TOP-1", 6),
    ("TOK/S", 6),
)
_OTHERS: Final = 2 + sum(width + 1 for _, width in _COLUMNS)
LEAST_NAME, MOST_NAME = 16, 44
LABEL: Final = 12


def name_columns(width: int) -> int:
    """What a row of ``width`` columns leaves for the name."""
    return min(MOST_NAME, max(LEAST_NAME, width - _OTHERS))


def header_text(width: int) -> Text:
    """What stands above the rows."""
    titles = " ".join(f"{title:>{room}}" for title, room in _COLUMNS)
    return Text(f"  {'NAME':<{name_columns(width)}} {titles}", "bold dim", no_wrap=True)


def row_text(row: Row, loaded: bool, width: int) -> Text:
    """A line of the list."""
    summary, figures = row.manifest.summary, row.certificate.figures if row.certificate else None
    cells = (
        format_bytes(row.manifest.size_bytes),
        f"{summary.bits_per_weight:.2f}",
        sanitize(summary.file_type, newlines=False),
        divergence_cells(figures)[0] if figures is not None else "",
        f"{100 * figures.top1_agreement:.1f}%" if figures is not None else "",
        f"{row.speed:.1f}" if row.speed is not None else "",
    )
    text = Text("● " if loaded else "  ", no_wrap=True, overflow="ellipsis")
    columns = name_columns(width)
    name = shorten(sanitize(row.manifest.name, newlines=False), columns)
    text.append(f"{name:<{columns}}", "bold")
    for cell, (_, room) in zip(cells, _COLUMNS, strict=True):
        text.append(f" {shorten(cell, room):>{room}}")
    return text


def details_text(
    details: Details, width: int, measured: float | None = None, palette: Palette = PLAIN
) -> Text:
    """Origin, certificate, memory, and the chart of the layers."""
    text = Text()
    facts = [*_about(details.row), *_quality(details.row), *_speed(details.row, measured), *_memory(details)]
    for name, value, style in facts:
        text.append(f"{name:<{LABEL}}", palette.muted)
        for number, line in enumerate(wrap(value.replace("\n", " "), max(20, width - LABEL))):
            text.append(f"{' ' * LABEL if number else ''}{line}\n", _styled(style, palette))
    if details.layers:
        text.append("\n")
        text.append_text(chart(details.layers, width, palette))
    return text


def _styled(name: str, palette: Palette) -> Style | str:
    """``dim``, ``yellow`` and ``red`` of the theme."""
    return {"dim": palette.muted, "yellow": palette.warning, "red": palette.error}.get(name, name)


def _about(row: Row) -> Iterator[tuple[str, str, str]]:
    model, summary = row.manifest, row.manifest.summary
    yield "name", sanitize(f"{model.name}  ({summary.name})", newlines=False), ""
    weights = format_parameters(summary.parameters)
    mix = formats(summary.tensor_types)
    yield (
        "weights",
        f"{weights} at {summary.bits_per_weight:.2f} bits, {format_bytes(model.size_bytes)}",
        "",
    )
    yield "formats", sanitize(f"{summary.file_type}: {mix}", newlines=False), ""
    trained = f"{summary.context_tokens:,} tokens" if summary.context_tokens else "not stated"
    architecture = sanitize(summary.architecture, newlines=False)
    yield "shape", f"{architecture}, {summary.block_count or '?'} layers, context {trained}", ""
    licence = sanitize(model.source.license or summary.license or "not stated", newlines=False)
    yield "licence", licence, ""
    yield "origin", sanitize(model.source.origin, newlines=False), ""


def _quality(row: Row) -> Iterator[tuple[str, str, str]]:
    certificate = row.certificate
    if certificate is None:
        yield "quality", "not known: localq did not quantize it", "dim"
        return
    figures = certificate.figures
    source = certificate.source
    yield "made of", sanitize(f"{shorten_digests(source.name)}, {source.types}", newlines=False), ""
    if figures is None:
        yield "quality", "not evaluated", "yellow"
        return
    kl, p99, same = divergence_cells(figures)
    bound = " at least" if certificate.kl_kind == "top-256" else ""
    yield "quality", f"KL divergence{bound} {kl} (99 %: {p99}), same top token {same}", ""
    before = with_error(figures.original_perplexity, figures.original_perplexity_stderr)
    after = with_error(figures.perplexity, figures.perplexity_stderr)
    yield "perplexity", f"{before} -> {after}, over {figures.tokens:,} tokens", ""
    if source.already_quantized:
        yield "note", "its source was quantized already: the figures compare with that", "yellow"


def _speed(row: Row, measured: float | None) -> Iterator[tuple[str, str, str]]:
    said = []
    if measured is not None:
        said.append(f"{measured:.1f} tok/s measured now")
    if row.speed is not None:
        said.append(f"{row.speed:.1f} tok/s in your chats")
    yield "speed", "; ".join(said) or "not known yet: s measures it", "" if said else "dim"


def _memory(details: Details) -> Iterator[tuple[str, str, str]]:
    plan = details.plan
    if plan is None:
        yield "problem", sanitize(details.problem), "red"
        return
    verdict = "fits" if plan.fits else "does not fit"
    said = f"{format_bytes(plan.total)} of {format_bytes(plan.available)}"
    yield (
        "memory",
        f"{said} with {plan.config.context_tokens:,} tokens of context: {verdict}",
        "" if plan.fits else "red",
    )


def chart(layers: Sequence[Layer], width: int, palette: Palette = PLAIN) -> Text:
    """A line for each layer: bits of a weight, and the squared error of its outputs where that is known."""
    errors = [layer.error for layer in layers if layer.error is not None]
    label = min(14, max(len(layer.name) for layer in layers))
    room = max(10, (width - label - (2 + 5 + 2 + 9 if errors else 2 + 5) - 2) // (2 if errors else 1))
    room = min(room, 30)
    most_bits = max(layer.bits for layer in layers)
    most_error = max(errors, default=0.0)
    text = Text()
    head = f"{'by layer':<{label}}  {'bits':>5} {'':<{room}}" + (f"  {'error':>8}" if errors else "")
    text.append(head.rstrip() + "\n", palette.muted)
    for layer in layers:
        name = sanitize(layer.name, newlines=False)[:label]
        text.append(f"{name:<{label}}  {layer.bits:>5.2f} ")
        text.append(f"{bar(layer.bits / most_bits, room):<{room}}", palette.primary)
        if errors:
            if layer.error is None:
                text.append("    exact", palette.muted)
            else:
                text.append(f"  {layer.error:>8.1e} ")
                text.append(bar(layer.error / most_error if most_error else 0.0, room), palette.accent)
        text.append("\n")
    return text
