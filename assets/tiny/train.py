"""Train the tiny Llama on one core: byte-level BPE first, then the model, then the GGUF.

    python assets/tiny/train.py --data DATA --out assets/tiny/tiny-llama-f16.gguf

Needs ``torch``, ``tokenizers``, ``numpy`` and ``gguf``. ``DATA`` is what ``gather.py`` wrote. The same data,
seed, versions and processor give the same weights (one thread, fixed order).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from export import export
from model import Shape, TinyLlama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

START, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONVERSATION_COPIES = 4


def documents(data: Path) -> list[str]:
    """Every document; conversations in ChatML."""
    found: list[str] = []
    for path in sorted(data.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "text" in entry:
                found.append(entry["text"])
            else:
                turns = (f"{TURN}{m['role']}\n{m['content']}{END}\n" for m in entry["messages"])
                found.extend(["".join(turns)] * CONVERSATION_COPIES)
    return found


def train_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """Byte-level BPE with the pre-tokenizer of GPT-2, which llama.cpp knows as ``gpt-2``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[START, TURN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rows_of(tokenizer: Tokenizer, texts: list[str], context: int, seed: int) -> torch.Tensor:
    """All documents in one stream, cut into rows of [start, context tokens]."""
    order = list(texts)
    random.Random(seed).shuffle(order)
    start = tokenizer.token_to_id(START)
    stream: list[int] = []
    for encoded in tokenizer.encode_batch(order):
        stream.extend(encoded.ids)
        stream.append(start)
    usable = len(stream) // context * context
    rows = np.asarray(stream[:usable], dtype=np.int64).reshape(-1, context)
    return torch.from_numpy(np.insert(rows, 0, start, axis=1))


def loss_of(model: TinyLlama, rows: torch.Tensor) -> torch.Tensor:
    logits = model(rows[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


def held_out_loss(model: TinyLlama, rows: torch.Tensor, batch: int) -> float:
    with torch.no_grad():
        return float(np.mean([loss_of(model, part).item() for part in rows.split(batch)]))


def rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=3072)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 (processors that can)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)

    texts = documents(given.data)
    tokenizer = train_tokenizer(texts, given.vocabulary)
    shape = Shape(vocabulary=tokenizer.get_vocab_size())
    rows = rows_of(tokenizer, texts, shape.context - 1, given.seed)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(given.seed))]
    held_out, rows = rows[:48], rows[48:]
    model = TinyLlama(shape)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{len(texts)} documents, {rows.numel() / 1e6:.2f}M tokens, {count / 1e6:.2f}M weights", flush=True)

    decayed = [weight for weight in model.parameters() if weight.dim() == 2]
    plain = [weight for weight in model.parameters() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=given.rate,
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    began, seen = time.monotonic(), 0.0
    for step in range(given.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, given.steps, given.rate, warmup=60)
        places = [(step * given.batch + i) % len(rows) for i in range(given.batch)]
        with torch.autocast("cpu", torch.bfloat16, enabled=given.bf16):
            loss = loss_of(model, rows[places])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen = loss.item() if step == 0 else 0.9 * seen + 0.1 * loss.item()
        if step % 20 == 0 or step + 1 == given.steps:
            minutes = (time.monotonic() - began) / 60
            print(f"step {step:5} loss {seen:.3f} minutes {minutes:.1f}", flush=True)
        if step % 400 == 399:
            print(f"held out {held_out_loss(model, held_out, given.batch):.4f}", flush=True)
    final = held_out_loss(model, held_out, given.batch)
    minutes = (time.monotonic() - began) / 60
    print(f"held out {final:.4f} (perplexity {math.exp(final):.2f}), {minutes:.1f} minutes")
    tokenizer.save(str(given.out.with_suffix(".tokenizer.json")))
    export(model, tokenizer, given.out)


if __name__ == "__main__":
    main()
