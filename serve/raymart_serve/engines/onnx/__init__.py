"""ONNX Runtime in the replica's own process: embeddings, reranking, and exported Keras or TensorFlow models."""

from raymart_serve.engines.onnx.opening import open_onnx_engine

__all__ = ["open_onnx_engine"]
