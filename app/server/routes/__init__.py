"""One route a file; each holds its ``ENDPOINTS``."""
