"""``localq show``: all that is known of one model."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.front import Front
from app.errors import ModelNotFound, StoreDamaged, StoreError
from runtime.errors import GgufError

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.store import ChatDefaults, Manifest, Store
    from runtime.budget import MemoryPlan
    from runtime.gguf import GgufHeader, ModelSummary


@click.command("show")
@click.argument("model")
@click.option("--template", is_flag=True, help="Print the chat template that comes with the model.")
@click.option("--quality", is_flag=True, help="Show the certificate of a model that localq quantized.")
@options.context_option
@options.kv_option
@options.ram_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str,
    template: bool,
    quality: bool,
    context: int | None,
    kv: str | None,
    ram: int | None,
) -> None:
    """Show MODEL's origin, licence and shape, and the memory that it would take.

    MODEL is a stored name or a path to a GGUF file; nothing is fetched. Where the file cannot be opened, what
    the store knows of it is shown all the same, with exit code 1.
    """
    from app.cli.import_ import document
    from app.cli.loading import plan_model
    from app.cli.output import Fields
    from app.cli.quality import activations, runs_in
    from app.models import resolve
    from runtime.gguf import open_model
    from runtime.hardware import this_machine

    if template and quality:
        raise click.UsageError("--template and --quality show different things; give one")
    settings = front.settings(context=context, kv=kv, ram=ram)
    front.model = model
    store = front.store(settings)
    try:
        found = resolve(model, store, _fetch_nothing)
        opened = open_model(found.paths)
    except _NotFetched:
        if template or quality:
            raise
        _show_pinned(front)
        return
    except (StoreDamaged, GgufError):
        if not (template or quality):
            _show_manifest(front, store, model)
        raise
    if template:
        _print_template(front, found.name, opened.header.get("tokenizer.chat_template", str, ""))
        return
    if quality:
        _show_quality(front, store, found)
        return
    plan = plan_model(opened, settings, this_machine(ram=settings.ram))
    summary = found.manifest.summary if found.manifest else _summarize(found)
    about = document(found.manifest) if found.manifest else {"name": found.name, "summary": summary}
    quality_row, figures = _quality(opened.header)
    formats = opened.packed.formats if opened.packed else ()
    front.out.result(
        {
            **about,
            "figures": figures,
            "static_inputs": len(opened.header.activations),
            **_document(found, plan),
        },
        Fields(
            [
                *_about(found.name, found.manifest, summary),
                *runs_in(found.name, formats),
                *activations(len(opened.header.activations)),
                *quality_row,
                *_plan(found, plan),
            ]
        ),
        quiet=[found.name],
    )


class _NotFetched(ModelNotFound):
    """The demo model is not stored."""


def _fetch_nothing(_store: object) -> Manifest:
    raise _NotFetched("demo", next_command="localq run demo")


def _show_pinned(front: Front) -> None:
    """What is known of the demo model before it is fetched."""
    from app.cli.output import Fields
    from app.cli.text import format_bytes
    from app.hub.demo import DEMO, DEMO_NAME

    source = DEMO.source
    rows = [
        ("name", DEMO_NAME),
        ("licence", DEMO.license),
        ("origin", source.origin),
        ("url", source.url or ""),
        ("size", format_bytes(DEMO.gguf_bytes)),
        ("sha256", DEMO.sha256),
        *_defaults(DEMO.defaults),
    ]
    facts = {
        "name": DEMO_NAME,
        "fetched": False,
        "license": DEMO.license,
        "origin": source.origin,
        "url": source.url,
        "size_bytes": DEMO.gguf_bytes,
        "sha256": DEMO.sha256,
    }
    front.out.result(facts, Fields(rows), quiet=[DEMO_NAME])
    front.out.note("not fetched yet", f"next: localq run {DEMO_NAME}")


def _show_manifest(front: Front, store: Store, name: str) -> None:
    """What the store knows of a model whose file cannot be opened; nothing of what is not stored."""
    from app.cli.import_ import document
    from app.cli.output import Fields

    try:
        manifest = store.get(name)
    except StoreError:
        return
    about = _about(manifest.name, manifest, manifest.summary)
    front.out.result(document(manifest), Fields(about), quiet=[manifest.name])


def _summarize(found: ResolvedModel) -> ModelSummary:
    from app.store.sources import find_sources, merged

    return merged(find_sources(found.paths))


def _print_template(front: Front, name: str, template: str) -> None:
    from app.errors import AppError

    if not template:
        raise AppError(
            f"{name} has no chat template; it completes raw text",
            next_command=f"localq run {shlex.quote(name)} --raw",
        )
    if front.out.json:
        front.out.event({"name": name, "chat_template": template})
    else:
        front.out.text(template)


def _show_quality(front: Front, store: Store, found: ResolvedModel) -> None:
    import msgspec

    from app.cli.quality import certificate_of, quality_blocks
    from app.cli.rebuild import no_certificate

    certificate = certificate_of(store, found)
    if certificate is None:
        raise no_certificate(front.model or found.name)
    figures = certificate.figures
    front.out.result(
        {"name": found.name, "certificate": msgspec.to_builtins(certificate)},
        *quality_blocks(found.name, certificate),
        quiet=[f"{figures.kl_mean:.6g}" if figures else found.name],
    )


def _document(found: ResolvedModel, plan: MemoryPlan) -> dict[str, Any]:
    import msgspec

    return {
        "paths": [str(path) for path in found.paths],
        "memory": {
            "context_tokens": plan.config.context_tokens,
            "kv_type": plan.config.kv_type,
            "parts": dict(plan.breakdown()),
            "predicted_peak_bytes": plan.total,
            "available_bytes": plan.available,
            "limited_by": msgspec.to_builtins(plan.memory.binding),
            "fits": plan.fits,
        },
    }


def _about(name: str, manifest: Manifest | None, summary: ModelSummary) -> list[tuple[str, str]]:
    """What the store, or the file's header, says of a model."""
    from app.cli.text import format_bytes, format_parameters

    types = ", ".join(f"{count} {name}" for name, count in sorted(summary.tensor_types.items()))
    trained = f"{summary.context_tokens:,} tokens" if summary.context_tokens else "not stated"
    return [
        ("name", _one_line(name)),
        ("title", _one_line(summary.name)),
        *((name, _one_line(text)) for name, text in _origin(manifest, summary)),
        ("size", format_bytes(summary.size_bytes)),
        ("architecture", _one_line(summary.architecture)),
        ("weights", f"{format_parameters(summary.parameters)} at {summary.bits_per_weight:.2f} bits"),
        ("type", f"{summary.file_type} ({types})"),
        ("trained context", trained),
        ("vocabulary", f"{summary.vocabulary_size:,} tokens"),
        ("layers", f"{summary.block_count or 'not stated'}, {summary.embedding_length or '?'} wide"),
        ("template", _digest(summary.chat_template_sha256)),
    ]


def _quality(header: GgufHeader) -> tuple[list[tuple[str, str]], dict[str, Any] | None]:
    """What the certificate says in a line, and its figures; nothing for a model that localq did not make."""
    import msgspec

    from app.cli.figures import divergence_cells
    from app.cli.output import Styled
    from quant.certificate.keys import read_certificate

    try:
        certificate = read_certificate(header)
    except GgufError:
        return [("quality", Styled("not known: its certificate is damaged", "yellow"))], None
    if certificate is None:
        return [], None
    if certificate.figures is None:
        return [("quality", Styled("not evaluated", "yellow"))], None
    kl, _, same = divergence_cells(certificate.figures)
    bound = " at least" if certificate.kl_kind == "top-256" else ""
    text = f"KL divergence{bound} {kl}, same top token {same}; --quality says more"
    return [("quality", text)], msgspec.to_builtins(certificate.figures)


def _plan(found: ResolvedModel, plan: MemoryPlan) -> list[tuple[str, str]]:
    """Where the model lies, and what it would take."""
    from app.cli.output import Styled
    from app.cli.text import format_bytes

    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in plan.breakdown())
    verdict = Styled("fits", "green") if plan.fits else Styled("does not fit", "red")
    return [
        ("files", "\n".join(_one_line(str(path)) for path in found.paths)),
        (
            "memory",
            f"{format_bytes(plan.total)} for {plan.config.context_tokens:,} tokens of context ({parts})\n"
            f"{format_bytes(plan.available)} available, limited by {plan.memory.binding.name}",
        ),
        ("verdict", verdict),
    ]


def _origin(manifest: Manifest | None, summary: ModelSummary) -> list[tuple[str, str]]:
    if manifest is None:
        return [("licence", summary.license or "not stated"), ("origin", "a file that is not in the store")]
    source = manifest.source
    stated = source.license or summary.license or "not stated"
    return [
        ("licence", stated),
        ("origin", source.origin),
        *([("url", source.url)] if source.url else []),
        ("stored", f"{manifest.created:%Y-%m-%d %H:%M} UTC"),
        *_defaults(manifest.defaults),
    ]


def _defaults(defaults: ChatDefaults) -> list[tuple[str, str]]:
    rows = []
    if defaults.system is not None:
        rows.append(("system prompt", _one_line(defaults.system) or "none, instead of the template's own"))
    if defaults.temperature is not None:
        rows.append(("temperature", f"{defaults.temperature:g}"))
    return rows


def _digest(sha256: str | None) -> str:
    from app.cli.text import shorten_digests

    return f"sha256 {shorten_digests(sha256)}" if sha256 else "none"


def _one_line(text: str) -> str:
    """What a file says of itself must not draw a line of its own below its name."""
    from app.terminal import sanitize

    return sanitize(text, newlines=False)
