"""Greedy generation by a plain loop over llama.cpp, on the same kernels: what the engine is held to.

usage: plain_loop.py MODEL THREADS TOKENS   (stdin: JSON list of prompts; stdout: JSON list of token lists)
"""

from __future__ import annotations

import ctypes
import json
import sys

import numpy as np
from llama_cpp import llama_cpp as native

from runtime import ggml


def generate(model: int, prompt: str, threads: int, count: int) -> list[int]:
    """The likeliest tokens after ``prompt``, until the end of the answer or ``count`` of them."""
    vocabulary = native.llama_model_get_vocab(model)
    size = native.llama_vocab_n_tokens(vocabulary)
    params = native.llama_context_default_params()
    params.n_ctx = 2048
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    context = native.llama_init_from_model(model, params)
    text = prompt.encode()
    buffer = (native.llama_token * 1024)()
    length = native.llama_tokenize(vocabulary, text, len(text), buffer, len(buffer), False, True)
    pending = list(buffer[:length])
    answer: list[int] = []
    while len(answer) < count:
        tokens = (native.llama_token * len(pending))(*pending)
        if native.llama_decode(context, native.llama_batch_get_one(tokens, len(pending))) != 0:
            raise RuntimeError("llama_decode failed")
        logits = native.llama_get_logits_ith(context, -1)
        values = np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (size,))
        token = int(values.argmax())
        if native.llama_vocab_is_eog(vocabulary, token):
            break
        answer.append(token)
        pending = [token]
    native.llama_free(context)
    return answer


def main() -> None:
    """Answer every prompt of standard input."""
    path, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if ggml.attach(threads).isa:
        ggml.load_with(embeddings=True, mapped=False)
    model = native.llama_model_load_from_file(path.encode(), native.llama_model_default_params())
    json.dump([generate(model, prompt, threads, count) for prompt in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
