"""From a folder with a safetensors repository to a GGUF.

    converted = convert(Path("SmolLM2-135M"), Path("smollm2-bf16.gguf"))

The tensors pass through in pieces of a few MiB; the file appears under its name in one step, complete and
validated, or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

from quant.convert.architectures import find_architecture
from quant.convert.architectures.architecture import Architecture, Hyperparameters
from quant.convert.architectures.decoder import OTHER_SENSES
from quant.convert.checkpoint import CONFIG, Checkpoint, weight_files
from quant.convert.config import Config, read_config
from quant.convert.metadata import Provenance, general_keys, loadable, title_of
from quant.convert.produce import is_copied, produce
from quant.convert.recipe import TensorPlan, elements, plan_tensors
from quant.convert.rope import read_rope
from quant.convert.shards import Shards, stages, window_bytes, write_by_shard
from quant.convert.tokenizers.read import read_tokenizer
from quant.errors import OutputExists
from quant.files.layout import FileLayout, lay_out
from quant.files.work import open_work, work_key
from quant.files.writer import PartFile, existing, require_room
from quant.progress import OnEvent, PhaseEvent, PlannedEvent, WarningEvent, ignore

ALIGNMENT: Final = 32
RESERVE_BYTES: Final = 1 << 20
OutType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0"]
Publish: TypeAlias = Callable[[PartFile], None]
"""Gives a finished, validated file a place. It may move the file away; what is left is removed."""


@dataclass(frozen=True)
class Converted:
    """What was published."""

    path: Path
    nbytes: int
    """Of the file."""
    architecture: str
    """llama.cpp's name of it."""
    tensors: int
    left_out: tuple[str, ...]
    """Tensors of the repository that are no part of the language model."""
    warnings: tuple[str, ...]


def convert(
    folder: Path,
    out: Path,
    *,
    outtype: OutType | None = None,
    provenance: Provenance | None = None,
    name: str | None = None,
    work: Path | None = None,
    copies: int = 1,
    replace: bool = False,
    on_event: OnEvent = ignore,
    publish: Publish | None = None,
    shards: Shards | None = None,
) -> Converted:
    """Makes a GGUF at ``out`` of the model in ``folder``, or has ``publish`` place it.

    ``outtype`` is that of the matrices; None keeps what the repository has, and takes BF16 for what is stored
    in 8 bits. ``name`` is what the file calls the model. ``work`` is a folder for the file under way, on the
    disk of ``out``, and ``copies`` how often it will lie there for a while. ``on_event`` gets the progress in
    bytes; what it raises, Ctrl-C included, ends the conversion, and nothing is published. With ``shards`` the
    weight files in ``folder`` are but headers: each is brought when its turn comes, and dropped; what is
    finished outlives a failure, and the same call goes on with it.

    Raises :class:`CheckpointDamaged`, :class:`CannotConvert`, :class:`UnknownArchitecture`, :class:`NoRoom`,
    :class:`OutputExists`, :class:`WorkInUse`.
    """
    if out.exists() and not replace:
        raise OutputExists(out)
    config, architecture = read_model(folder)
    with Checkpoint(folder) as checkpoint:
        plan = plan_tensors(config, architecture, checkpoint, outtype.upper() if outtype else None)
        layout, warnings = _lay_out(config, architecture, plan, provenance, name)
        for warning in warnings:
            on_event(WarningEvent(warning))
        parent = work or out.parent
        require_room(existing(parent), layout.size * copies + RESERVE_BYTES)
        on_event(_planned(plan, layout.size))
        with open_work(parent, work_key([str(folder.resolve()), out.name, outtype]), out.name) as under_way:
            try:
                with PartFile(under_way.part, layout) as part:
                    if shards is None:
                        _write(checkpoint, plan, part, on_event)
                    else:
                        write_by_shard(checkpoint, plan.recipes, part, under_way, shards, on_event)
                    part.zero_padding()
                    checkpoint.require_unchanged()
                    part.check()
                    part.sync()
                    (publish or partial(PartFile.publish, target=out, replace=replace))(part)
            except BaseException:
                if shards is None:
                    under_way.remove()
                raise
            under_way.remove()
    return Converted(out, layout.size, architecture.name, len(plan.recipes), plan.left_out, warnings)


def write_outline(folder: Path, out: Path, outtype: OutType | None = None) -> int:
    """Writes what :func:`convert` would make to ``out``, with a hole in the place of all weights.

    For whoever reads headers alone: no weight is read, and the file takes the room of its header. Returns the
    most bytes of weight files that ``shards`` have at once. Raises what :func:`convert` raises.
    """
    config, architecture = read_model(folder)
    with Checkpoint(folder) as checkpoint:
        plan = plan_tensors(config, architecture, checkpoint, outtype.upper() if outtype else None)
        layout, _ = _lay_out(config, architecture, plan, None, None)
        window = window_bytes(stages(plan.recipes, checkpoint.paths))
    with out.open("xb") as file:
        file.write(layout.header)
        file.truncate(layout.size)
    return window


def read_model(folder: Path) -> tuple[Config, Architecture]:
    """The configuration of the model in ``folder``, with what transformers would add to it, and its
    architecture.

    Raises :class:`CannotConvert`, :class:`UnknownArchitecture`, :class:`CheckpointDamaged`.
    """
    weight_files(folder)  # whoever has no weights in the right form wants to know that first
    config = read_config(folder / CONFIG)
    architecture = find_architecture(config)
    return dataclasses.replace(config, defaults=architecture.defaults), architecture


def _lay_out(
    config: Config,
    architecture: Architecture,
    plan: TensorPlan,
    provenance: Provenance | None,
    name: str | None,
) -> tuple[FileLayout, tuple[str, ...]]:
    """The file to write, and what a person should know of it."""
    provenance = provenance or Provenance()
    hyperparameters = Hyperparameters(architecture.name)
    architecture.hyperparameters(config, hyperparameters)
    tokenizer = read_tokenizer(config)
    title = loadable(name or title_of(config.folder, provenance), tokenizer.texts)
    keys = [
        *general_keys(config.folder, architecture.name, plan.recipes, provenance, title),
        *hyperparameters.keys,
        *tokenizer.keys,
    ]
    entries = [recipe.entry for recipe in plan.recipes]
    return lay_out((), keys, entries, ALIGNMENT), (*tokenizer.warnings, *_warnings(config, plan))


def _warnings(config: Config, plan: TensorPlan) -> list[str]:
    """What llama.cpp computes otherwise than transformers, or not at all."""
    warnings = []
    senses = sorted({name.split(".")[0] for name in plan.left_out if OTHER_SENSES.fullmatch(name)})
    if senses:
        warnings.append(
            f"the model also sees or hears ({', '.join(senses)}): only its language model is converted"
        )
    if config.get("num_attention_heads") is not None and read_rope(config).kind == "dynamic":
        warnings.append("llama.cpp does not stretch positions as texts grow: keep to the model's own context")
    return warnings


def _planned(plan: TensorPlan, nbytes: int) -> PlannedEvent:
    copied = sum(
        all(is_copied(recipe, piece) for piece in recipe.pieces) and bool(recipe.pieces)
        for recipe in plan.recipes
    )
    weights = sum(count for _, count in elements(plan.recipes))
    data = sum(recipe.entry.nbytes for recipe in plan.recipes)
    return PlannedEvent(
        encoded=len(plan.recipes) - copied, copied=copied, nbytes=nbytes, bits_per_weight=8 * data / weights
    )


def _write(checkpoint: Checkpoint, plan: TensorPlan, part: PartFile, on_event: OnEvent) -> None:
    """Fills the file with its tensors."""
    placed = {tensor.entry.name: tensor for tensor in part.layout.tensors}
    total = sum(recipe.entry.nbytes for recipe in plan.recipes)
    done = 0
    for recipe in plan.recipes:
        position = placed[recipe.entry.name].position
        for written in produce(checkpoint, recipe, part, position):
            position += written
            done += written
            on_event(PhaseEvent("convert", done, total))
