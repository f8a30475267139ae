"""What a quantized file says of itself."""
