"""What llama.cpp reserves for models without weights: run as a child, prints one JSON line for each case.

    python -m tests.runtime.budget_allocations FILE:CONTEXT:SLOTS:KV:BATCH ...

``no_alloc`` makes llama.cpp lay out everything without the weights' memory. The numbers are its log's: MiB.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys

from llama_cpp import llama_cpp as native

from runtime.engine.config import EngineConfig
from runtime.engine.llama.model import context_params

PATTERNS = {
    "cache": r"llama_(?:kv_cache|memory_recurrent).*: size = +([\d.]+) MiB",
    "compute": r"CPU compute buffer size = +([\d.]+) MiB",
    "output": r"output buffer size = +([\d.]+) MiB",
}


def main(cases: list[str]) -> None:
    """Print the allocations of each case."""
    log: list[str] = []

    @native.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        log.append(text.decode("utf-8", "replace"))

    native.llama_log_set(listen, None)
    for case in cases:
        path, context_tokens, slots, kv_type, batch = case.split(":")
        log.clear()
        params = native.llama_model_default_params()
        params.no_alloc = True
        params.load_mode = native.LLAMA_LOAD_MODE_NONE
        params.n_gpu_layers = 0
        model = native.llama_model_load_from_file(path.encode(), params)
        if not model:
            sys.exit("".join(log[-20:]))
        config = EngineConfig(
            model_paths=(path,),
            context_tokens=int(context_tokens),
            slots=int(slots),
            kv_type=kv_type,  # type: ignore[arg-type]
            ubatch_tokens=int(batch),
            threads=1,
        )
        context = native.llama_init_from_model(model, context_params(config))
        if not context:
            sys.exit("".join(log[-20:]))
        text = "".join(log)
        found = {name: sum(map(float, re.findall(each, text))) for name, each in PATTERNS.items()}
        print(json.dumps(found), flush=True)
        native.llama_free(context)
        native.llama_model_free(model)


if __name__ == "__main__":
    main(sys.argv[1:])
