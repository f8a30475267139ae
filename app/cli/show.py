"""``localq show``: all that is known of one model."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.store import ChatDefaults, Manifest
    from runtime.budget import MemoryPlan
    from runtime.gguf import ModelSummary


@click.command("show")
@click.argument("model")
@click.option("--template", is_flag=True, help="Print the chat template that comes with the model.")
@options.context_option
@options.kv_option
@options.ram_option
@options.output_options
@options.pass_front
def command(
    front: Front, model: str, template: bool, context: int | None, kv: str | None, ram: int | None
) -> None:
    """Show MODEL's origin, licence and shape, and the memory that it would take.

    MODEL is a stored name or a path to a GGUF file; nothing is fetched.
    """
    from app.cli.loading import plan_model
    from app.cli.output import Fields
    from app.models import resolve
    from runtime.gguf import open_model
    from runtime.hardware import this_machine

    settings = front.settings(context=context, kv=kv, ram=ram)
    front.model = model
    found = resolve(model, front.store(settings), _fetch_nothing)
    opened = open_model(found.paths)
    if template:
        _print_template(front, found.name, opened.header.get("tokenizer.chat_template", str, ""))
        return
    plan = plan_model(opened, settings, this_machine(ram=settings.ram))
    summary = found.manifest.summary if found.manifest else _summarize(found)
    front.out.result(
        _document(found, summary, plan), Fields(_fields(found, summary, plan)), quiet=[found.name]
    )


def _fetch_nothing(_store: object) -> Manifest:
    from app.errors import ModelNotFound

    raise ModelNotFound("demo", next_command="localq run demo")


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


def _document(found: ResolvedModel, summary: ModelSummary, plan: MemoryPlan) -> dict[str, Any]:
    import msgspec

    from app.cli.import_ import document

    about = document(found.manifest) if found.manifest else {"name": found.name, "summary": summary}
    return {
        **about,
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


def _fields(found: ResolvedModel, summary: ModelSummary, plan: MemoryPlan) -> list[tuple[str, str]]:
    from app.cli.output import Styled
    from app.cli.text import format_bytes, format_parameters

    types = ", ".join(f"{count} {name}" for name, count in sorted(summary.tensor_types.items()))
    trained = f"{summary.context_tokens:,} tokens" if summary.context_tokens else "not stated"
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in plan.breakdown())
    verdict = Styled("fits", "green") if plan.fits else Styled("does not fit", "red")
    return [
        ("name", _one_line(found.name)),
        ("title", _one_line(summary.name)),
        *((name, _one_line(text)) for name, text in _origin(found, summary)),
        ("size", format_bytes(summary.size_bytes)),
        ("architecture", _one_line(summary.architecture)),
        ("weights", f"{format_parameters(summary.parameters)} at {summary.bits_per_weight:.2f} bits"),
        ("type", f"{summary.file_type} ({types})"),
        ("trained context", trained),
        ("vocabulary", f"{summary.vocabulary_size:,} tokens"),
        ("layers", f"{summary.block_count or 'not stated'}, {summary.embedding_length or '?'} wide"),
        ("template", f"sha256 {summary.chat_template_sha256}" if summary.chat_template_sha256 else "none"),
        ("files", "\n".join(_one_line(str(path)) for path in found.paths)),
        (
            "memory",
            f"{format_bytes(plan.total)} for {plan.config.context_tokens:,} tokens of context ({parts})\n"
            f"{format_bytes(plan.available)} available, limited by {plan.memory.binding.name}",
        ),
        ("verdict", verdict),
    ]


def _origin(found: ResolvedModel, summary: ModelSummary) -> list[tuple[str, str]]:
    if found.manifest is None:
        return [("licence", summary.license or "not stated"), ("origin", "a file that is not in the store")]
    source = found.manifest.source
    stated = source.license or summary.license or "not stated"
    return [
        ("licence", stated),
        ("origin", source.origin),
        *([("url", source.url)] if source.url else []),
        ("stored", f"{found.manifest.created:%Y-%m-%d %H:%M} UTC"),
        *_defaults(found.manifest.defaults),
    ]


def _defaults(defaults: ChatDefaults) -> list[tuple[str, str]]:
    rows = []
    if defaults.system is not None:
        rows.append(("system prompt", _one_line(defaults.system) or "none, instead of the template's own"))
    if defaults.temperature is not None:
        rows.append(("temperature", f"{defaults.temperature:g}"))
    return rows


def _one_line(text: str) -> str:
    """What a file says of itself must not draw a line of its own below its name."""
    from app.terminal import sanitize

    return sanitize(text, newlines=False)
