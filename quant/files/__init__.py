"""What a quantization reads, and the GGUF that it writes."""
