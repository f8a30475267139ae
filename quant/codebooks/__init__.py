"""Learned values: tables of the LT formats' trellis, and product quantization."""
