"""Embeddings and reranking: answered at once, paid for by the tokens that were read."""
