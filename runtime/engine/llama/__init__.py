"""The only room that imports llama_cpp: its low-level functions, never ``Llama``. Worker side only."""
