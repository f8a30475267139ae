"""Hostile GGUF files: one for each kind that is known to have broken a reader (G01 to G29, G32, G34, G35).

Truncation (G30), split sets (G31), pairs of files (G32) and special files (G33) need more than one file's
bytes: their tests stand in ``tests/runtime/test_gguf_hostile.py`` and ``test_gguf_model.py``.
"""

from __future__ import annotations

from tests.hostile import gguf_activations, gguf_hyperparameters, gguf_packed, gguf_structure, gguf_vocabulary
from tests.hostile.gguf_case import Hostile

CASES: tuple[Hostile, ...] = (
    *gguf_structure.cases(),
    *gguf_vocabulary.cases(),
    *gguf_hyperparameters.cases(),
    *gguf_packed.cases(),
    *gguf_activations.cases(),
)
