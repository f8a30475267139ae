"""Certificates as a person reads them: the closing table of ``quantize``, and ``show --quality``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.cli.output import Block
    from app.cli.quantizing import Made
    from app.cli.speed import Speed
    from app.models import ResolvedModel
    from app.store import Store
    from quant.certificate.document import Certificate, TensorFacts


def closing(
    found: ResolvedModel, made: Made, speeds: tuple[Speed | None, Speed | None] | None
) -> tuple[dict[str, Any], tuple[Block, ...]]:
    """What ``quantize`` prints at its end: the document, and original beside quantized."""
    import msgspec

    from app.cli.output import Fields, Table
    from runtime.gguf import open_model, summarize

    original = open_model(found.paths)
    before = _measures(original.size_bytes, summarize(original).bits_per_weight, speeds and speeds[0])
    after = _measures(made.nbytes, made.certificate.bits_per_weight, speeds and speeds[1])
    figures = made.certificate.figures
    if figures is not None:
        before |= {
            "perplexity": figures.original_perplexity,
            "perplexity_stderr": figures.original_perplexity_stderr,
        }
        for name in ("perplexity", "perplexity_stderr", "kl_mean", "kl_stderr", "kl_p99", "top1_agreement"):
            after[name] = getattr(figures, name)
    document = {
        "name": made.name if made.stored else None,
        "path": str(made.paths[0]),
        "target": made.certificate.target,
        "resumed_tensors": made.resumed_tensors,
        "imatrix": str(made.imatrix) if made.imatrix else None,
        "original": before,
        "quantized": after,
        "certificate": msgspec.to_builtins(made.certificate),
    }
    rows = [(title, *cells) for title, cells in _rows(before, after, made.certificate) if any(cells)]
    blocks: list[Block] = [Table(("", "ORIGINAL", "QUANTIZED"), rows, right=frozenset({1, 2})), ""]
    facts = [
        ("model", made.name),
        *_runs_in(made.name, made.certificate),
        *activations(made.certificate.static_inputs),
        *_notes(made.certificate),
    ]
    if made.imatrix is not None:
        facts.append(("imatrix", str(made.imatrix)))
    blocks.append(Fields(facts))
    return document, tuple(blocks)


def _measures(nbytes: int, bits: float, speed: Speed | None) -> dict[str, Any]:
    return {
        "size_bytes": nbytes,
        "bits_per_weight": bits,
        "decode_tokens_per_second": speed.decode_tokens_per_second if speed else None,
        "joules_per_token": speed.joules_per_token if speed else None,
    }


def _rows(
    before: dict[str, Any], after: dict[str, Any], certificate: Certificate
) -> Iterable[tuple[str, tuple[str, str]]]:
    from app.cli.figures import divergence_cells, with_error
    from app.cli.text import format_bytes

    figures = certificate.figures
    yield "size", (format_bytes(before["size_bytes"]), format_bytes(after["size_bytes"]))
    yield "bits per weight", (f"{before['bits_per_weight']:.2f}", f"{after['bits_per_weight']:.2f}")
    for title, key, digits in (
        ("decode tok/s", "decode_tokens_per_second", 1),
        ("J per token", "joules_per_token", 2),
    ):
        yield title, (_number(before[key], digits), _number(after[key], digits))
    if figures is None:
        return
    yield (
        "perplexity",
        (
            with_error(figures.original_perplexity, figures.original_perplexity_stderr),
            with_error(figures.perplexity, figures.perplexity_stderr),
        ),
    )
    for title, cell in zip(
        ("KL divergence", "KL 99 %", "same top token"), divergence_cells(figures), strict=True
    ):
        yield title, ("", cell)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _notes(certificate: Certificate) -> list[tuple[str, str]]:
    """What deserves a look, as names and texts."""
    from app.cli.eval import LOWER_BOUND
    from app.cli.output import Styled

    source = certificate.source
    notes = []
    if source.already_quantized:
        text = f"{source.types} (already quantized: the figures compare with it, not with its original)"
        notes.append(("source", Styled(text, "yellow")))
    if certificate.kl_kind == "top-256":
        notes.append(("note", Styled(LOWER_BOUND, "yellow")))
    if certificate.figures is None:
        notes.append(("quality", Styled("not evaluated", "yellow")))
    return [(name, text) for name, text in notes]


def certificate_of(store: Store, found: ResolvedModel) -> Certificate | None:
    """The certificate in a model's file; with what only the document beside it knows, if that is its own.

    Raises GgufError for a damaged certificate.
    """
    import msgspec

    from quant.certificate.document import from_json
    from quant.certificate.keys import read_certificate
    from quant.publication import certificate_path
    from runtime.gguf import open_model

    certificate = read_certificate(open_model(found.paths).header)
    if certificate is None:
        return None
    raw = store.certificate(found.manifest) if found.manifest else None
    try:
        if raw is None:
            raw = certificate_path(found.paths[0]).read_bytes()
        beside = from_json(raw)
    except (OSError, msgspec.DecodeError):
        return certificate
    if beside.data_sha256 != certificate.data_sha256:
        return certificate
    return msgspec.structs.replace(certificate, making=beside.making, proof=beside.proof)


def quality_blocks(name: str, certificate: Certificate) -> tuple[Block, ...]:
    """A certificate: what it was made of and how, the figures by text, the error by layer and by role."""
    from app.cli.chart import chart
    from app.cli.output import Fields

    blocks: list[Block] = [Fields(_about(name, certificate)), ""]
    if certificate.figures is not None:
        blocks += [_figures_table(certificate), ""]
    of = "outputs" if certificate.training is None else "outputs, of their weights where they were trained"
    blocks += [_role_table(certificate), "", f"Squared error of the matrices' {of}, by layer:"]
    blocks += chart(by_layer(certificate.tensors))
    return tuple(blocks)


def _about(name: str, certificate: Certificate) -> list[tuple[str, str]]:
    from app.cli.text import format_bytes, format_duration, shorten_digests

    source, making = certificate.source, certificate.making
    facts = [
        ("model", name),
        ("source", f"{source.name}, {source.types}, sha256 {', '.join(map(shorten_digests, source.sha256))}"),
        ("target", ", ".join([certificate.target, *certificate.overrides])),
        *_runs_in(name, certificate),
        *_running(certificate),
        ("weights", f"{format_bytes(certificate.nbytes)}, {certificate.bits_per_weight:.2f} bits per weight"),
        ("data", f"sha256 {shorten_digests(certificate.data_sha256)}"),
        *activations(certificate.static_inputs),
        ("calibration", _calibration(certificate)),
        *_training(certificate),
        ("evaluation", _texts(certificate.evaluation)),
        ("made by", f"localq {certificate.tool}, seed {certificate.seed}"),
    ]
    if making is not None:
        energy = f", {making.joules:.0f} J" if making.joules is not None else ""
        facts.append(
            ("made in", f"{format_duration(making.seconds)}{energy} ({making.isa}), {making.created}")
        )
    return [*facts, *(note for note in _notes(certificate) if note[0] == "note")]


def _runs_in(name: str, certificate: Certificate) -> list[tuple[str, str]]:
    from quant.formats.lt import LT_FORMATS

    types = dict.fromkeys(tensor.type.lower() for tensor in certificate.tensors)
    return runs_in(name, sorted(types.keys() & LT_FORMATS.keys()))


def runs_in(name: str, formats: Sequence[str]) -> list[tuple[str, str]]:
    """Where a model with matrices in these ``formats`` of localq's own runs; nothing where there are none."""
    import shlex

    if not formats:
        return []
    own = " and ".join(each.upper() for each in formats)
    text = f"localq only, for its {own}; for other programs: localq export {shlex.quote(name)} --to gguf:q4_k"
    return [("runs in", text)]


def activations(count: int) -> list[tuple[str, str]]:
    """What is to say of the inputs of a model, of which ``count`` matrices have static scales."""
    if not count:
        return []
    matrices = "1 matrix" if count == 1 else f"{count:,} matrices"
    return [("activations", f"static scales for the inputs of {matrices}; other programs do not read them")]


def _training(certificate: Certificate) -> list[tuple[str, str]]:
    from app.cli.text import plural

    training = certificate.training
    if training is None:
        return []
    if training.steps:
        read = [text for text in training.texts if text.tokens]
        text = f"{plural(training.steps, 'update')} on {_texts(read)}"
    else:
        text = "no update made it better on held-out text: as quantized"
    if training.kl_before is not None:
        text += f"; KL divergence before {training.kl_before:.4g} ± {training.kl_before_stderr or 0.0:.1g}"
    return [("trained", text)]


def _running(certificate: Certificate) -> list[tuple[str, str]]:
    from app.cli.fitting import in_memory, nats
    from app.cli.text import format_bytes

    running = certificate.running
    if running is None:
        return []
    facts = [("to run with", f"{in_memory(running)}; {nats(running.kl)} from the source were foreseen")]
    if (proof := certificate.proof) is not None:
        text = (
            f"{format_bytes(proof.peak_bytes)} ({proof.peak_bytes / running.peak_bytes - 1:+.1%}), "
            f"{proof.tokens_per_second:.0f} tokens a second "
            f"({proof.foreseen_tokens_per_second:.0f} were foreseen)"
        )
        facts.append(("took", text))
    return facts


def _calibration(certificate: Certificate) -> str:
    from app.cli.text import shorten_digests

    found = certificate.imatrix
    if found is None:
        return _texts(certificate.calibration)
    of = f" of {', '.join(found.datasets)}" if found.datasets else ""
    digest = shorten_digests(found.sha256)
    return f"importance matrix {found.name} ({found.tokens:,} tokens{of}), sha256 {digest}"


def _texts(texts: Sequence[Any]) -> str:
    return ", ".join(f"{text.name} ({text.tokens:,} tokens)" for text in texts) or "none"


def _figures_table(certificate: Certificate) -> Block:
    from app.cli.figures import DIVERGENCE_TITLES, divergence_cells, with_error
    from app.cli.output import Table

    found = [*((each.text, each.figures) for each in certificate.by_text), ("all", certificate.figures)]
    rows = [
        (
            name,
            with_error(figures.original_perplexity, figures.original_perplexity_stderr),
            with_error(figures.perplexity, figures.perplexity_stderr),
            *divergence_cells(figures),
        )
        for name, figures in found
        if figures is not None
    ]
    header = ("", "ORIGINAL PPL", "PERPLEXITY", *DIVERGENCE_TITLES)
    return Table(header, rows, right=frozenset(range(1, len(header))))


def _role_table(certificate: Certificate) -> Block:
    from app.cli.output import Table
    from app.cli.text import format_bytes
    from quant.allocation.recipe import role_of

    roles: dict[str, list[TensorFacts]] = {}
    for tensor in certificate.tensors:
        if tensor.error is not None:
            roles.setdefault(role_of(tensor.name), []).append(tensor)
    rows = []
    for role, tensors in roles.items():
        nbytes, elements = sum(each.nbytes for each in tensors), sum(each.elements for each in tensors)
        rows.append(
            (
                role,
                str(len(tensors)),
                ", ".join(dict.fromkeys(each.type for each in tensors)),
                format_bytes(nbytes),
                f"{8 * nbytes / elements:.2f}",
                f"{mean_error(tensors):.2e}",
                f"{max(each.error or 0.0 for each in tensors):.2e}",
            )
        )
    header = ("TENSOR", "COUNT", "FORMAT", "SIZE", "BITS", "ERROR", "WORST")
    return Table(header, rows, right=frozenset({1, 3, 4, 5, 6}))


def mean_error(tensors: Sequence[TensorFacts]) -> float:
    """The tensors' errors, each by its number of weights."""
    elements = sum(tensor.elements for tensor in tensors)
    return sum((tensor.error or 0.0) * tensor.elements for tensor in tensors) / elements if elements else 0.0


def by_layer(tensors: Sequence[TensorFacts]) -> list[tuple[str, float]]:
    """The mean error of each layer's encoded tensors, and of those outside of the layers."""
    layers: dict[str, list[TensorFacts]] = {}
    for tensor in tensors:
        if tensor.error is not None:
            layers.setdefault(layer_of(tensor.name), []).append(tensor)
    return [(key, mean_error(layers[key])) for key in sorted(layers, key=layer_place)]


def layer_of(tensor: str) -> str:
    """``layer 3``; for a tensor outside of the layers the beginning of its name."""
    parts = tensor.split(".")
    return f"layer {parts[1]}" if parts[0] == "blk" and len(parts) > 2 else parts[0]


def layer_place(layer: str) -> tuple[int, int]:
    """Sorts layers: the embedding before them, the output behind."""
    if not layer.startswith("layer "):
        return (2 if layer.startswith("output") else 0), 0
    number = layer.removeprefix("layer ")
    return 1, int(number) if number.isdecimal() else 0
