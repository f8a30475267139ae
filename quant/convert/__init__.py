"""Safetensors repositories become GGUF: names, shapes, hyperparameters, tokenizer, without torch."""
