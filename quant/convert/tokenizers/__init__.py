"""One module a kind of tokenizer: from the files of a repository to llama.cpp's keys."""
