"""Reading `POST /v1/embed`, `/v1/rerank` and `/v1/predict`. The gateway checked some of it; a replica trusts nobody's checks."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from raymart_core.wire.embedding import (
    EMBED_INPUTS_MAX,
    RERANK_DOCUMENTS_MAX,
    EmbedRequest,
    PredictRequest,
    RerankRequest,
    Tensor,
    decode_embed_request,
    decode_predict_request,
    decode_rerank_request,
)
from raymart_serve.engines.protocol import RequestRefused
from raymart_serve.replica.generate_request import UNREADABLE, refused_body

TENSORS_MAX = 64
TENSOR_AXES_MAX = 8
TOKEN_ID_MAX = 2**31 - 1
BYTES_OF = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1, "bool": 1}

Request = TypeVar("Request")


def read_embed_request(body: bytes) -> EmbedRequest:
    """The request in `body`: texts or ids, none empty. Raises: RequestRefused with the field's name."""
    request = _decoded(decode_embed_request, body)
    if bool(request.texts) == bool(request.ids):
        raise RequestRefused("exactly one of texts and ids must be given", param="input")
    inputs: Sequence[str | tuple[int, ...]] = request.texts or request.ids
    _check_count(inputs, limit=EMBED_INPUTS_MAX, param="input")
    for position, given in enumerate(inputs):
        if not given:
            raise RequestRefused(f"input {position} is empty", param="input")
    for ids in request.ids:
        if min(ids) < 0 or max(ids) > TOKEN_ID_MAX:
            raise RequestRefused(f"token ids lie in 0..{TOKEN_ID_MAX}", param="input")
    if request.dimensions is not None and request.dimensions < 1:
        raise RequestRefused(f"dimensions is {request.dimensions}; at least 1", param="dimensions")
    return request


def read_rerank_request(body: bytes) -> RerankRequest:
    """The request in `body`: a query and at least one document. Raises: RequestRefused with the field's name."""
    request = _decoded(decode_rerank_request, body)
    if not request.query:
        raise RequestRefused("query must not be empty", param="query")
    if not request.documents:
        raise RequestRefused("documents must not be empty", param="documents")
    _check_count(request.documents, limit=RERANK_DOCUMENTS_MAX, param="documents")
    return request


def read_predict_request(body: bytes) -> PredictRequest:
    """The request in `body`: named tensors whose data fill their shapes. Raises: RequestRefused with the field's name."""
    request = _decoded(decode_predict_request, body)
    _check_count(request.inputs, limit=TENSORS_MAX, param="inputs")
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names):
        raise RequestRefused("two inputs have one name", param="inputs")
    for tensor in request.inputs:
        _check_tensor(tensor)
    return request


def _decoded(decode: Callable[[bytes], Request], body: bytes) -> Request:
    try:
        return decode(body)
    except UNREADABLE as error:
        raise refused_body(error) from error


def _check_count(items: Sequence[object], *, limit: int, param: str) -> None:
    if len(items) > limit:
        raise RequestRefused(f"{param} has {len(items)} items, at most {limit} are taken", param=param)


def _check_tensor(tensor: Tensor) -> None:
    name = tensor.name[:80]
    if len(tensor.shape) > TENSOR_AXES_MAX or min(tensor.shape, default=0) < 0:
        raise RequestRefused(
            f"the shape of {name!r} has 0 to {TENSOR_AXES_MAX} axes of at least 0", param="inputs"
        )
    needed = math.prod(tensor.shape) * BYTES_OF[tensor.dtype]
    if len(tensor.data) != needed:
        raise RequestRefused(
            f"{name!r} brings {len(tensor.data)} bytes; {tensor.dtype} of this shape has {needed}",
            param="inputs",
        )
