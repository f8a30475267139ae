"""Quantization-aware training: what the codes lose, the codes win back, on this machine."""
