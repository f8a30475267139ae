"""Which tensor gets which format, within how many bytes."""
