"""What transformers and llama.cpp's converter make of the small checkpoints: the reference for ours.

    python -m tests.quant.convert_reference LLAMA_CPP [NAME...]

writes ``checkpoints/NAME.json`` again; LLAMA_CPP is the folder with convert_hf_to_gguf.py. It needs torch and
transformers (the extra ``reference``), which the fast tests do not.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.gguf import open_gguf
from tests.quant.checkpoint_files import (
    FOLDER,
    GREEDY_PROMPT,
    GREEDY_TOKENS,
    PROMPT,
    Described,
    write_checkpoint,
)

VOCABULARY = 320
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _llama(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**GROUPED | more))


def _mistral(**more: Any) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**GROUPED | {"sliding_window": None} | more))


def _mixtral(**more: Any) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    return MixtralForCausalLM(MixtralConfig(**sizes | more))


def _qwen2(**more: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**GROUPED | more))


def _qwen3(**more: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**GROUPED | {"head_dim": 32} | more))


def _qwen3_moe(**more: Any) -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = GROUPED | {
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    }
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes | more))


def _gemma2(**more: Any) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = GROUPED | {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
    return Gemma2ForCausalLM(Gemma2Config(**sizes | {"attn_implementation": "eager"} | more))


def _gemma3(**more: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = GROUPED | {
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 16,
        "num_hidden_layers": 7,
    }
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes | more))


def _phi3(**more: Any) -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(Phi3Config(**GROUPED | {"original_max_position_embeddings": 256} | more))


def _granite(**more: Any) -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    sizes = GROUPED | {
        "attention_multiplier": 0.1,
        "embedding_multiplier": 6.0,
        "residual_multiplier": 0.3,
        "logits_scaling": 4.0,
    }
    return GraniteForCausalLM(GraniteConfig(**sizes | more))


def _olmo2(**more: Any) -> Any:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    return Olmo2ForCausalLM(Olmo2Config(**GROUPED | more))


def _bert(**more: Any) -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SIZES | {"type_vocab_size": 2} | more))


def _xlm_roberta(**more: Any) -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    return XLMRobertaModel(XLMRobertaConfig(**SIZES | {"pad_token_id": 1, "type_vocab_size": 1} | more))


def _roberta(**more: Any) -> Any:
    from transformers import RobertaConfig, RobertaModel

    return RobertaModel(RobertaConfig(**SIZES | {"pad_token_id": 1, "type_vocab_size": 1} | more))


_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 128,
    "long_factor": [1.0 + 0.25 * index for index in range(8)],
    "short_factor": [1.0 + 0.1 * index for index in range(8)],
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}

DECODERS: dict[str, Callable[[], Any]] = {
    "llama2": _llama,
    "llama3": lambda: _llama(rope_parameters=LLAMA3),
    "smollm": lambda: _llama(
        tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=3, hidden_size=96
    ),
    "llama-biases": lambda: _llama(attention_bias=True, mlp_bias=True),
    "llama-linear": lambda: _llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}),
    "mistral": lambda: _mistral(head_dim=32),
    "mixtral": _mixtral,
    "qwen2": lambda: _qwen2(tie_word_embeddings=True),
    "qwen2-yarn": lambda: _qwen2(rope_parameters=_YARN),
    "qwen3": _qwen3,
    "qwen3-moe": _qwen3_moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma3-linear": lambda: _gemma3(rope_parameters=_GEMMA_ROPE),
    "phi3": _phi3,
    "phi3-long": lambda: _phi3(rope_parameters=_LONG),
    "phi4-mini": lambda: _phi3(
        partial_rotary_factor=0.75,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "granite": _granite,
    "olmo2": _olmo2,
}
EMBEDDERS: dict[str, Callable[[], Any]] = {"bert": _bert, "roberta": _roberta, "xlm-roberta": _xlm_roberta}


def describe(name: str) -> Described:
    """The checkpoint's configuration and shapes, as transformers saves them."""
    import torch

    torch.manual_seed(0)
    model = (DECODERS | EMBEDDERS)[name]()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        from safetensors.numpy import load_file

        tensors = load_file(Path(folder) / "model.safetensors")
    config.pop("transformers_version", None)
    return Described(name, config, {tensor: values.shape for tensor, values in tensors.items()})


def computed(folder: Path, *, embedder: bool) -> tuple[NDArray[np.float32], list[int]]:
    """All logits behind PROMPT and the greedy answer to GREEDY_PROMPT; of an embedder all vectors and
    nothing."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    kind: Any = AutoModel if embedder else AutoModelForCausalLM
    # Gemma 2 caps the logits of attention, which only its plain form does.
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def forward(tokens: Sequence[int]) -> Any:
        with torch.no_grad():
            found = model(torch.tensor([list(tokens)]))
        return found.last_hidden_state[0] if embedder else found.logits[0]

    answer: list[int] = []
    for _ in range(0 if embedder else GREEDY_TOKENS):
        answer.append(int(forward([*GREEDY_PROMPT, *answer])[-1].argmax()))
    return forward(PROMPT).numpy(), answer


def converted_by_llama_cpp(llama_cpp: Path, folder: Path, out: Path, outtype: str) -> Path:
    """What convert_hf_to_gguf.py makes of ``folder``, without the tokenizer: it knows those of releases
    only."""
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("llama_cpp_convert.py")),
            str(llama_cpp),
            str(folder),
            *("--outfile", str(out), "--outtype", outtype),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"convert_hf_to_gguf.py: {done.stderr[-3000:]}")
    return out


def tensors_digest(path: Path) -> str:
    """Of all names, types, shapes and bytes, whatever their order in the file."""
    header = open_gguf(path)
    raw = path.read_bytes()
    state = hashlib.sha256()
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.name):
        start = header.data_offset + tensor.offset
        state.update(f"{tensor.name} {tensor.type.name} {list(tensor.shape)}".encode())
        state.update(raw[start : start + tensor.nbytes])
    return state.hexdigest()


def reference(llama_cpp: Path, described: Described) -> dict[str, Any]:
    """The contents of the checkpoint's JSON file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_checkpoint(Path(temporary) / described.name, described)
        rows, greedy = computed(folder, embedder=described.name in EMBEDDERS)
        digests = {}
        for outtype in ("f32", "bf16", "f16"):
            out = Path(temporary) / f"{outtype}.gguf"
            digests[outtype] = tensors_digest(converted_by_llama_cpp(llama_cpp, folder, out, outtype))
    return {
        "config": described.config,
        "tensors": {name: list(shape) for name, shape in described.tensors.items()},
        "last": [round(float(value), 6) for value in rows[-1]],
        "span": round(float(rows.max() - rows.min()), 4),
        "greedy": greedy,
        "converted": digests,
    }


def main(llama_cpp: str, *names: str) -> None:
    """Writes the files of ``names``, or all."""
    for name in names or (*DECODERS, *EMBEDDERS):
        text = json.dumps(reference(Path(llama_cpp), describe(name)), separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n")
        print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
