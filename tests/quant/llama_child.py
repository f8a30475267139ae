"""llama.cpp on models, in a process of its own: token ids, logits, greedy answers, vectors.

The process reads a list of jobs as JSON and prints a list of results, so that one start serves many models.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

F32 = 0
CONTEXT = 128
"""Within the context that each model was made for: llama.cpp takes longrope's long factors for any longer
one."""
Job = dict[str, Any]


def tokenizing(path: Path, texts: Sequence[str], *, special: bool = False, markers: bool = False) -> Job:
    """A job for the ids of ``texts``.

    ``special`` adds what belongs before and behind, ``markers`` finds special tokens within.
    """
    return {
        "kind": "tokenize",
        "model": str(path),
        "texts": list(texts),
        "special": special,
        "markers": markers,
    }


def computing(path: Path, tokens: Sequence[int], *, context: int = CONTEXT) -> Job:
    """A job for the logits behind each of ``tokens``: float32 [tokens, vocabulary]."""
    return {"kind": "logits", "model": str(path), "tokens": list(tokens), "context": context}


def answering(path: Path, tokens: Sequence[int], count: int) -> Job:
    """A job for the ``count`` likeliest tokens behind ``tokens``."""
    return {"kind": "greedy", "model": str(path), "tokens": list(tokens), "count": count}


def embedding(path: Path, tokens: Sequence[int]) -> Job:
    """A job for the last hidden state of each of ``tokens``: float32 [tokens, width]."""
    return {"kind": "vectors", "model": str(path), "tokens": list(tokens)}


def results(jobs: Sequence[Job]) -> list[Any]:
    """What llama.cpp says to ``jobs``, in their order."""
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(jobs), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"llama.cpp: {done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    return [
        np.asarray(result, np.float32) if job["kind"] in ("logits", "vectors") else result
        for job, result in zip(jobs, found, strict=True)
    ]


def _child() -> None:
    from llama_cpp import llama_cpp as native

    json.dump([_result(native, job) for job in json.load(sys.stdin)], sys.stdout)


def _result(native: Any, job: Job) -> Any:
    params = native.llama_model_default_params()
    params.vocab_only = job["kind"] == "tokenize"
    model = native.llama_model_load_from_file(job["model"].encode(), params)
    if not model:
        raise SystemExit(f"{job['model']} was not loaded")
    try:
        if job["kind"] == "tokenize":
            return [_ids(native, model, job, text) for text in job["texts"]]
        return _decoded(native, model, job)
    finally:
        native.llama_model_free(model)


def _ids(native: Any, model: Any, job: Job, text: str) -> list[int]:
    vocabulary = native.llama_model_get_vocab(model)
    data = text.encode()
    buffer = (native.llama_token * (len(data) + 16))()
    count = native.llama_tokenize(
        vocabulary, data, len(data), buffer, len(buffer), job["special"], job["markers"]
    )
    return list(buffer[:count])


def _decoded(native: Any, model: Any, job: Job) -> Any:
    vectors = job["kind"] == "vectors"
    params = native.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = job.get("context", CONTEXT)
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = F32
    params.flash_attn_type = 0
    params.embeddings = vectors
    params.pooling_type = 0 if vectors else -1
    context = native.llama_init_from_model(model, params)
    width = (
        native.llama_model_n_embd(model)
        if vectors
        else native.llama_vocab_n_tokens(native.llama_model_get_vocab(model))
    )
    read = native.llama_get_embeddings_ith if vectors else native.llama_get_logits_ith
    pending, answer = list(job["tokens"]), []
    rows: list[list[float]] = []
    position = 0
    batch = native.llama_batch_init(len(pending), 0, 1)
    for _ in range(job.get("count", 1)):
        batch.n_tokens = len(pending)
        for index, token in enumerate(pending):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position + index, True
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        if native.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")
        position += len(pending)
        rows = [_floats(read(context, index), width) for index in range(len(pending))]
        pending = [int(np.argmax(rows[-1]))]
        answer += pending
    native.llama_batch_free(batch)
    native.llama_free(context)
    return answer if job["kind"] == "greedy" else rows


def _floats(pointer: Any, count: int) -> list[float]:
    values = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (count,))
    return [float(value) for value in values]


if __name__ == "__main__":
    _child()
