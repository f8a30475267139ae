"""llama.cpp's own convert_hf_to_gguf.py for the tensors alone: it knows the tokenizers of released models
only.

usage: llama_cpp_convert.py LLAMA_CPP ARGUMENTS...   (LLAMA_CPP is the folder with convert_hf_to_gguf.py)
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    """Runs the script with ``ARGUMENTS``."""
    folder, *arguments = sys.argv[1:]
    sys.path.insert(0, folder)
    script: Any = importlib.import_module("convert_hf_to_gguf")
    find = script.get_model_class

    def without_vocabulary(*given: Any, **named: Any) -> Any:
        model = find(*given, **named)
        model.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("none")
        return model

    script.get_model_class = without_vocabulary
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    script.main()


if __name__ == "__main__":
    main()
