"""Exported Keras, TensorFlow or other models: named tensors in, named tensors out."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, cast

import numpy as np

from raymart_core.wire.embedding import Tensor
from raymart_serve.engines.onnx.engine import OnnxEngine
from raymart_serve.engines.onnx.session import Graph, Port, Stop
from raymart_serve.engines.protocol import EngineFailed, RequestRefused

Dtype = Literal["float32", "float64", "int32", "int64", "uint8", "bool"]
OUTPUT_BYTES_MAX = 32 << 20
_CODES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "uint8": "|u1", "bool": "|b1"}


class OnnxPredictor(OnnxEngine):
    """Implements `Predicts`."""

    async def predict(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """See the protocol."""
        return await self._work(partial(self._predict, tuple(inputs)))

    def _prepare(self, graph: Graph) -> None:
        for port in graph.inputs.values():
            if port.dtype not in _CODES:
                raise EngineFailed(f"the model's input {port.name!r} is {port.dtype}; export it as float32")

    async def _warm_up(self) -> None:
        """With ones, where the graph says how large its inputs are but for their first axis; else not at all."""
        assert self._graph is not None
        tensors = []
        for port in self._graph.inputs.values():
            shape = tuple(
                1 if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(port.shape)
            )
            sizes = [size for size in shape if isinstance(size, int)]
            if len(sizes) != len(shape):
                return
            tensors.append(_tensor(port.name, np.ones(sizes, _CODES[port.dtype])))
        await self.predict(tensors)

    def _predict(self, given: Sequence[Tensor], graph: Graph, stop: Stop) -> list[Tensor]:
        """In a worker thread."""
        feeds = read_inputs(given, graph.inputs)
        self._alive(stop)
        made = graph.run(list(graph.outputs), feeds, stop)
        size = sum(array.nbytes for array in made)
        if size > OUTPUT_BYTES_MAX:
            raise RequestRefused(
                f"the outputs have {size} bytes, at most {OUTPUT_BYTES_MAX} are sent; ask for less at once",
                param="inputs",
            )
        return [_tensor(name, array) for name, array in zip(graph.outputs, made, strict=True)]


def read_inputs(given: Sequence[Tensor], ports: Mapping[str, Port]) -> dict[str, np.ndarray]:
    """The graph's inputs, each checked against its port. Raises: RequestRefused naming the input that is wrong."""
    by_name = {tensor.name: tensor for tensor in given}
    for name in by_name:
        if name not in ports:
            raise RequestRefused(
                f"the model has no input {name[:80]!r}; it has {', '.join(ports)}", param="inputs"
            )
    sizes: dict[str, int] = {}
    feeds = {}
    for name, port in ports.items():
        if name not in by_name:
            raise RequestRefused(f"the input {name!r} is missing", param="inputs")
        _check_port(by_name[name], port, sizes)
        feeds[name] = _array(by_name[name])
    return feeds


def _check_port(tensor: Tensor, port: Port, sizes: dict[str, int]) -> None:
    if tensor.dtype != port.dtype:
        raise RequestRefused(f"the input {port.name!r} is {port.dtype}, not {tensor.dtype}", param="inputs")
    fits = len(tensor.shape) == len(port.shape) and all(
        size
        == (sizes.setdefault(wanted, size) if isinstance(wanted, str) else size if wanted is None else wanted)
        for size, wanted in zip(tensor.shape, port.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in port.shape)
        raise RequestRefused(
            f"the input {port.name!r} has the shape [{wanted}], not {list(tensor.shape)}; one name is one size",
            param="inputs",
        )


def _array(tensor: Tensor) -> np.ndarray:
    array = np.frombuffer(tensor.data, _CODES[tensor.dtype]).reshape(tensor.shape)
    # A byte that is neither 0 nor 1 is no bool, and what a kernel does with one is undefined.
    made: np.ndarray = array.view(np.uint8).astype(np.bool_) if tensor.dtype == "bool" else array
    return made


def _tensor(name: str, array: np.ndarray) -> Tensor:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    dtype = array.dtype.name
    if dtype not in _CODES:
        raise EngineFailed(f"the model's output {name!r} is {dtype}, which is not served")
    data = np.ascontiguousarray(array).astype(_CODES[dtype], copy=False).tobytes()
    return Tensor(name=name, dtype=cast("Dtype", dtype), shape=tuple(array.shape), data=data)
