"""Sending: approved batches onto the chain, each payee exactly once."""
