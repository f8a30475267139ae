"""Weight files that come one after the other, and go again when no tensor needs them any more.

The disk then holds the GGUF under way and few of its shards, not both of them whole. Tensors are written when
the last shard that they need is there; a journal says which are finished, so that a killed conversion goes on
without the shards that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quant.convert.checkpoint import Checkpoint
from quant.convert.produce import produce
from quant.convert.recipe import Recipe
from quant.files.work import FinishedTensor, Work, digest_of
from quant.files.writer import PartFile
from quant.progress import OnEvent, PhaseEvent


class Shards(Protocol):
    """Gives and takes the bytes of weight files of which the folder has the headers."""

    def bring(self, path: Path) -> Path:
        """Where the whole file ``path`` lies, fetched first where it has to be."""

    def drop(self, path: Path) -> None:
        """Nothing needs ``path`` any more; it may never have been brought."""


@dataclass(frozen=True)
class Stage:
    """What can be written once ``needed`` are there, with those of the stages before."""

    recipes: tuple[Recipe, ...]
    needed: tuple[Path, ...]
    last: tuple[Path, ...]
    """Files that no later stage needs."""


def stages(recipes: Sequence[Recipe], paths: Sequence[Path]) -> list[Stage]:
    """The tensors by the last of ``paths`` that each needs, in that order."""
    order = {path: number for number, path in enumerate(paths)}
    needs = {recipe.entry.name: sorted(map(order.__getitem__, files_of(recipe))) for recipe in recipes}
    groups = [
        [recipe for recipe in recipes if (needs[recipe.entry.name] or [0])[-1] == number]
        for number in range(len(paths))
    ]
    uses = [sorted({number for recipe in group for number in needs[recipe.entry.name]}) for group in groups]
    last_use = list(range(len(paths)))
    for stage, used in enumerate(uses):
        for number in used:
            last_use[number] = max(last_use[number], stage)
    return [
        Stage(
            tuple(group),
            tuple(paths[number] for number in used),
            tuple(path for number, path in enumerate(paths) if last_use[number] == stage),
        )
        for stage, (group, used) in enumerate(zip(groups, uses, strict=True))
    ]


def files_of(recipe: Recipe) -> set[Path]:
    """The weight files that a tensor is made of."""
    files = {piece.path for piece in recipe.pieces}
    if recipe.scaling is not None:
        scales = recipe.scaling.scales
        files |= {scales[piece.name].path for piece in recipe.pieces if piece.name in scales}
    return files


def window_bytes(plan: Sequence[Stage]) -> int:
    """The most bytes of weight files that are there at once."""
    here: set[Path] = set()
    most = 0
    for stage in plan:
        here.update(stage.needed)
        most = max(most, sum(path.stat().st_size for path in here))
        here.difference_update(stage.last)
    return most


def write_by_shard(
    checkpoint: Checkpoint,
    recipes: Sequence[Recipe],
    part: PartFile,
    work: Work,
    shards: Shards,
    on_event: OnEvent,
) -> None:
    """Fills ``part`` with the tensors that the journal of ``work`` does not have yet.

    Raises :class:`CheckpointDamaged` where a shard is not the one whose header was read, and whatever
    ``shards`` raises; what is finished is kept.
    """
    placed = {tensor.entry.name: tensor for tensor in part.layout.tensors}
    total = sum(recipe.entry.nbytes for recipe in recipes)
    finished = work.finished(part, lambda _count: None)
    done = sum(placed[name].entry.nbytes for name in finished)
    for stage in stages(recipes, checkpoint.paths):
        missing = [recipe for recipe in stage.recipes if recipe.entry.name not in finished]
        for path in sorted(set().union(*map(files_of, missing))):
            checkpoint.read_from(path, shards.bring(path))
        for recipe in missing:
            for written in produce(checkpoint, recipe, part, placed[recipe.entry.name].position):
                done += written
                on_event(PhaseEvent("convert", done, total))
        if missing:
            part.sync()
        for recipe in missing:
            tensor = placed[recipe.entry.name]
            digest = digest_of(part, tensor, lambda _count: None)
            work.append(
                FinishedTensor(
                    name=recipe.entry.name,
                    position=tensor.position,
                    sha256=digest,
                    encoder="copied",
                    error=None,
                )
            )
        for path in stage.last:
            checkpoint.release(path)
            shards.drop(path)
