"""How the vectors of an embedder's tokens become one, as sentence-transformers writes it down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gguf import PoolingType

from quant.convert.json_file import CONFIG_BYTES, parse, read_bytes, read_object
from quant.errors import CannotConvert, CheckpointDamaged

MODULES: Final = "modules.json"
_FOLDER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BY_KEY: Final[Mapping[str, PoolingType]] = {
    "pooling_mode_mean_tokens": PoolingType.MEAN,
    "pooling_mode_cls_token": PoolingType.CLS,
    "pooling_mode_lasttoken": PoolingType.LAST,
}
_BY_MODE: Final[Mapping[str, PoolingType]] = {
    "mean": PoolingType.MEAN,
    "cls": PoolingType.CLS,
    "lasttoken": PoolingType.LAST,
}


def pooling_type(folder: Path) -> int | None:
    """llama.cpp's number for it; None where the repository does not say.

    Raises :class:`CheckpointDamaged`, and :class:`CannotConvert` for a pooling that llama.cpp has not.
    """
    path = folder / MODULES
    if not path.exists():
        return None
    modules = parse(path, read_bytes(path, CONFIG_BYTES))
    for module in modules if isinstance(modules, list) else ():
        kind, place = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if isinstance(kind, str) and kind.endswith("Pooling"):
            if not isinstance(place, str) or not _FOLDER.fullmatch(place):
                raise CheckpointDamaged(path, "bad-name", f"names the folder {str(place)[:80]!r}")
            return _of_config(folder, folder / place / "config.json")
    return None


def _of_config(folder: Path, path: Path) -> int:
    config = read_object(path)
    found = [pooling for key, pooling in _BY_KEY.items() if config.get(key) is True]
    mode = config.get("pooling_mode")
    if not found and isinstance(mode, str) and mode in _BY_MODE:
        found = [_BY_MODE[mode]]
    if len(found) != 1:
        raise CannotConvert(
            folder, "its vectors are pooled in a way that llama.cpp has not: it has mean, cls and lasttoken"
        )
    return int(found[0])
