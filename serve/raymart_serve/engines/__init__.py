"""Inference engines behind one protocol. Nothing heavy is imported until an engine loads a model."""
