"""The tokenizing job: texts to token numbers, with a model's vocabulary.

Run as ``python -m runtime.engine.tokenize FD`` by :func:`runtime.engine.job.run_job`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.engine.child import Report, serve_job
from runtime.engine.llama.vocabulary import load_vocabulary
from runtime.engine.tokens import Tokenized, TokenizeProgress, TokenizeRequest


def tokenize(request: TokenizeRequest, report: Report) -> Tokenized:
    """Load the vocabulary, read, write. Raises ModelLoadFailed."""
    vocabulary = load_vocabulary(request.model_path)
    first = vocabulary.first_token
    streams: dict[str, list[NDArray[np.int32]]] = {}
    for number, passage in enumerate(request.passages):
        report(TokenizeProgress(number, len(request.passages)))
        found = vocabulary.tokens(passage.prompt)
        if found and found[0] == first:
            del found[0]
        streams.setdefault(passage.domain, []).append(np.array(found, dtype="<i4"))
    whole = {domain: np.concatenate(parts) for domain, parts in streams.items()}
    with Path(request.file).open("wb") as file:
        for stream in whole.values():
            file.write(stream.tobytes())
    return Tokenized(domains={domain: len(stream) for domain, stream in whole.items()}, first_token=first)


if __name__ == "__main__":
    serve_job(int(sys.argv[1]), TokenizeRequest, tokenize)
