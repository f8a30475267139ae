"""Loading a model: its weights, its vocabulary, and a context with a KV cache for every slot."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from llama_cpp import llama_cpp as native

from runtime import ggml
from runtime.engine.config import EngineConfig, KvType
from runtime.engine.llama.activations import static_activations
from runtime.engine.llama.embedder import ENCODERS, embedding_tokens, pooling_of
from runtime.engine.llama.own_formats import declared
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.engine.messages import ModelInfo
from runtime.errors import GgufError, ModelLoadFailed
from runtime.gguf import GgufModel, open_model
from runtime.gguf.activations import SCALES_RULES
from runtime.gguf.packed import PACKED_RULES
from runtime.kernels import abort_callback_address

KV_TYPES: dict[KvType, int] = {
    "f16": native.GGML_TYPE_F16,
    "q8_0": native.GGML_TYPE_Q8_0,
    "q4_0": native.GGML_TYPE_Q4_0,
}
PROGRESS_STEP = 0.02
MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True)
class LoadedModel:
    """Handles of a loaded model. ``abort_flag`` stops the pass under way when it is not 0."""

    model: int
    context: int
    """0 for an encoder, which has none to answer with."""
    vocabulary: Vocabulary
    abort_flag: ctypes.c_int32
    info: ModelInfo


def load_model(config: EngineConfig, on_progress: Callable[[float], None]) -> LoadedModel:
    """Load the files of ``config`` and make a context; raises ModelLoadFailed."""
    started = time.perf_counter()
    native.llama_log_set(native.llama_log_callback(0), None)  # llama.cpp's own: plain writes to stderr
    native.llama_backend_init()
    model = open_weights(config, on_progress)
    abort_flag = ctypes.c_int32(0)
    vocabulary = Vocabulary(model)
    if metadata(model, "general.architecture") in ENCODERS:
        return LoadedModel(model, 0, vocabulary, abort_flag, describe(config, model, vocabulary, started))
    params = context_params(config)
    params.abort_callback = native.ggml_abort_callback(abort_callback_address())
    params.abort_callback_data = ctypes.addressof(abort_flag)
    context = native.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadFailed(
            f"llama.cpp could not make a context of {config.context_tokens} tokens x {config.slots} slots "
            f"with {config.kv_type} keys and values"
        )
    warm_up(context, vocabulary)
    return LoadedModel(model, context, vocabulary, abort_flag, describe(config, model, vocabulary, started))


def open_weights(config: EngineConfig, on_progress: Callable[[float], None], *, repack: bool = True) -> int:
    """Load the weights, without ``repack`` as the file has them; answers llama.cpp's model handle.

    With it localq's kernels multiply, where they can, and round inputs as the file says; without it
    llama.cpp's plain ones do. Matrices in formats of localq's own are multiplied by its kernels alone, and
    with them all others.
    """
    opened = opened_model(config.model_paths)
    packed = opened is not None and opened.packed is not None
    mapped = (
        config.mmap and not packed
    )  # or llama.cpp would map what declares packed matrices, and touch it all
    own = (repack or packed) and use_own_kernels(config, opened, mapped=mapped)
    params = native.llama_model_default_params()
    params.use_extra_bufts = repack
    params.n_gpu_layers = config.gpu_layers
    params.load_mode = native.LLAMA_LOAD_MODE_MMAP if mapped else native.LLAMA_LOAD_MODE_NONE
    reported = 0.0

    def report(fraction: float, _: object) -> bool:
        nonlocal reported
        if fraction >= reported + PROGRESS_STEP or fraction >= 1:
            reported = fraction
            on_progress(fraction)
        return True

    params.progress_callback = native.llama_progress_callback(report)
    with ExitStack() as stack:
        paths = config.model_paths
        if opened is not None and own and opened.header.activations:
            stack.enter_context(static_activations(opened.header, config))
        if opened is not None and packed:
            paths = (*paths, str(stack.enter_context(declared(opened.header, config, params))))
        return load_parts(paths, params)


def load_parts(paths: Sequence[str], params: native.llama_model_params) -> int:
    """llama.cpp's handle of the model in ``paths``; raises ModelLoadFailed."""
    names = [path.encode() for path in paths]
    if len(names) == 1:
        model = native.llama_model_load_from_file(names[0], params)
    else:
        model = native.llama_model_load_from_splits(
            (ctypes.c_char_p * len(names))(*names), len(names), params
        )
    if not model:
        raise ModelLoadFailed(f"llama.cpp could not load {paths[0]}")
    return int(model)


def use_own_kernels(config: EngineConfig, opened: GgufModel | None, *, mapped: bool) -> bool:
    """Attach localq's kernels, before llama.cpp loads its first model. Whether they can be."""
    if not ggml.attach(config.threads).isa:
        return False
    ggml.load_with(embeddings=opened is not None and ties_embeddings(opened), mapped=mapped)
    return True


def opened_model(paths: Sequence[str]) -> GgufModel | None:
    """The headers of a model's files; None for what llama.cpp will refuse."""
    try:
        return open_model(paths)
    except GgufError as error:
        if error.rule in PACKED_RULES | SCALES_RULES:
            raise
        return None


def ties_embeddings(opened: GgufModel) -> bool:
    """Whether one matrix is both looked up in and the output's."""
    return all(tensor.name != "output.weight" for tensor in opened.all_tensors)


def context_params(config: EngineConfig) -> native.llama_context_params:
    """A KV cache stream for every slot; logits only where a token is sampled, to keep the buffers small.

    With one unified pool of cells an answer would depend on who else is answered: attention over the pool
    sums in another order, and quantized activations amplify that (to logit gaps of up to 0.14).
    """
    params = native.llama_context_default_params()
    params.n_ctx = config.context_tokens * config.slots
    params.n_batch = params.n_ubatch = config.ubatch_tokens
    params.n_seq_max = config.slots
    params.n_outputs_max = config.slots
    params.n_threads = params.n_threads_batch = config.threads
    params.type_k = params.type_v = KV_TYPES[config.kv_type]
    params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_AUTO
    params.kv_unified = False
    params.swa_full = False
    params.no_perf = True
    return params


def warm_up(context: int, vocabulary: Vocabulary) -> None:
    """One pass that touches every weight, so that the first answer does not wait for the disk."""
    token = max(0, native.llama_vocab_bos(vocabulary.handle))
    tokens = (native.llama_token * 1)(token)
    native.llama_set_warmup(context, True)
    code = native.llama_decode(context, native.llama_batch_get_one(tokens, 1))
    native.llama_set_warmup(context, False)
    if code != 0:
        raise ModelLoadFailed(f"llama.cpp could not run the model (code {code})")
    native.llama_memory_clear(native.llama_get_memory(context), True)


def describe(config: EngineConfig, model: int, vocabulary: Vocabulary, started: float) -> ModelInfo:
    """What the front needs to know of a model whose loading began at ``started``."""
    buffer = ctypes.create_string_buffer(256)
    native.llama_model_desc(model, buffer, len(buffer))
    template = native.llama_model_chat_template(model, None)
    attached = ggml.attach(config.threads)
    bos, eos = native.llama_vocab_bos(vocabulary.handle), native.llama_vocab_eos(vocabulary.handle)
    architecture = metadata(model, "general.architecture")
    pooling = pooling_of(metadata(model, f"{architecture}.pooling_type"))
    generates = architecture not in ENCODERS
    trained = native.llama_model_n_ctx_train(model)
    return ModelInfo(
        description=buffer.value.decode("utf-8", "replace"),
        architecture=architecture,
        parameters=native.llama_model_n_params(model),
        size_bytes=model_bytes(config, model),
        trained_context_tokens=trained,
        context_tokens=config.context_tokens,
        slots=config.slots,
        threads=config.threads,
        vocabulary_size=vocabulary.size,
        chat_template=template.decode("utf-8", "replace") if template else None,
        bos_text=vocabulary.text(bos),
        eos_text=vocabulary.text(eos),
        control_texts=tuple(vocabulary.control_tokens),
        load_seconds=time.perf_counter() - started,
        generates=generates,
        embedding_size=native.llama_model_n_embd_out(model),
        embedding_tokens=embedding_tokens(config, trained, whole=not generates or pooling == "rank"),
        pooling=pooling,
        separator_text=vocabulary.text(native.llama_vocab_sep(vocabulary.handle)),
        kernels=attached.isa,
        kernels_reason=attached.reason,
    )


def model_bytes(config: EngineConfig, model: int) -> int:
    """Of all tensors; llama.cpp knows of a nominal type for those in formats of localq's own."""
    opened = opened_model(config.model_paths)
    if opened is None or opened.packed is None:
        return int(native.llama_model_size(model))
    return sum(tensor.nbytes for tensor in opened.all_tensors)


def metadata(model: int, key: str) -> str:
    """A metadata value as text; empty when the key is absent."""
    buffer = ctypes.create_string_buffer(MAX_TEXT_BYTES)
    length = native.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.raw[: max(0, length)].decode("utf-8", "replace")
