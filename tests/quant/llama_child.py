"""llama.cpp on a model, in a process of its own: token ids, logits, greedy answers, vectors.

usage: llama_child.py JOB OUT   (JOB is JSON on standard input's line; results go to OUT as .npz)
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = 0


def tokenize(
    path: Path, texts: list[str], *, special: bool = False, markers: bool = False
) -> list[list[int]]:
    """Ids of ``texts``; ``special`` adds what belongs before and behind, ``markers`` finds special tokens."""
    job = {"kind": "tokenize", "model": str(path), "texts": texts, "special": special, "markers": markers}
    return [list(map(int, ids)) for ids in _run(job)["ids"]]


def logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """float32 [len(tokens), vocabulary]."""
    return np.asarray(_run({"kind": "logits", "model": str(path), "tokens": tokens})["logits"], np.float32)


def greedy(path: Path, tokens: list[int], count: int) -> list[int]:
    """The ``count`` likeliest tokens behind ``tokens``."""
    return list(_run({"kind": "greedy", "model": str(path), "tokens": tokens, "count": count})["tokens"])


def vectors(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """The last hidden states: float32 [len(tokens), width]."""
    return np.asarray(_run({"kind": "vectors", "model": str(path), "tokens": tokens})["vectors"], np.float32)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"llama.cpp: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _child() -> None:
    from llama_cpp import llama_cpp as native

    job = json.load(sys.stdin)
    params = native.llama_model_default_params()
    params.vocab_only = job["kind"] == "tokenize"
    model = native.llama_model_load_from_file(job["model"].encode(), params)
    if not model:
        raise SystemExit("the model was not loaded")
    if job["kind"] == "tokenize":
        result: dict[str, Any] = {"ids": [_ids(native, model, job, text) for text in job["texts"]]}
    else:
        result = _decoded(native, model, job)
    json.dump(result, sys.stdout)


def _ids(native: Any, model: Any, job: dict[str, Any], text: str) -> list[int]:
    vocabulary = native.llama_model_get_vocab(model)
    data = text.encode()
    buffer = (native.llama_token * (len(data) + 16))()
    count = native.llama_tokenize(
        vocabulary, data, len(data), buffer, len(buffer), job["special"], job["markers"]
    )
    return list(buffer[:count])


def _decoded(native: Any, model: Any, job: dict[str, Any]) -> dict[str, Any]:
    vectors = job["kind"] == "vectors"
    params = native.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = F32
    params.flash_attn_type = 0
    params.embeddings = vectors
    params.pooling_type = 0 if vectors else -1
    context = native.llama_init_from_model(model, params)
    size = native.llama_vocab_n_tokens(native.llama_model_get_vocab(model))
    pending, answer = list(job["tokens"]), []
    rows: list[list[float]] = []
    position = 0
    for _ in range(job.get("count", 1)):
        batch = native.llama_batch_init(len(pending), 0, 1)
        batch.n_tokens = len(pending)
        for index, token in enumerate(pending):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position + index, True
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        if native.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")
        position += len(pending)
        width = native.llama_model_n_embd(model) if vectors else size
        read = native.llama_get_embeddings_ith if vectors else native.llama_get_logits_ith
        rows = [_floats(read(context, index), width) for index in range(len(pending))]
        pending = [int(np.argmax(rows[-1]))]
        answer += pending
    if job["kind"] == "greedy":
        return {"tokens": answer}
    return {"vectors" if vectors else "logits": rows}


def _floats(pointer: Any, count: int) -> list[float]:
    values = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (count,))
    return [float(value) for value in values]


if __name__ == "__main__":
    _child()
