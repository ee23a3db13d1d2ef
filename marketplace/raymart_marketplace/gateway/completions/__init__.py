"""Prompts that are continued as they stand: OpenAI's `/v1/completions` and llama.cpp's `/completion`."""
