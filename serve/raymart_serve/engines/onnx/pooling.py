"""From the vectors of tokens to one vector per input: pure functions of numpy arrays."""

import numpy as np

from raymart_serve.engines.onnx.revision import Pooling
from raymart_serve.engines.protocol import EngineFailed


def pool(states: np.ndarray, mask: np.ndarray, pooling: Pooling) -> np.ndarray:
    """states: [B, T, D], mask: [B, T] of 0 and 1, padded on the right -> [B, D] float32.

    Source: sentence_transformers/models/Pooling.py.
    """
    states = states.astype(np.float32, copy=False)
    made: np.ndarray
    if pooling is Pooling.CLS:
        made = states[:, 0]
    elif pooling is Pooling.LAST:
        made = states[np.arange(len(states)), mask.sum(axis=1) - 1]
    elif pooling is Pooling.MAX:
        made = np.where(mask[:, :, None] > 0, states, -np.inf).max(axis=1)
    else:
        made = np.einsum("btd,bt->bd", states, _weights(mask, pooling))
    return made


def _weights(mask: np.ndarray, pooling: Pooling) -> np.ndarray:
    """What each token counts: [B, T], each row adding up to 1."""
    weights: np.ndarray = mask.astype(np.float32)
    if pooling is Pooling.WEIGHTED_MEAN:
        weights = weights * np.arange(1, mask.shape[1] + 1, dtype=np.float32)
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares


def unit(vectors: np.ndarray, *, dimensions: int | None = None) -> np.ndarray:
    """Cut [B, D] to its first `dimensions` numbers and scale each vector to length 1, float32 little-endian.

    Raises: EngineFailed where that is impossible: NaN, infinity, or all zeros.
    """
    cut: np.ndarray = vectors[:, :dimensions].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt((cut * cut).sum(axis=1, keepdims=True))
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise EngineFailed("the model made a vector that is not finite or is zero")
    scaled: np.ndarray = (cut / lengths).astype("<f4")
    return scaled
