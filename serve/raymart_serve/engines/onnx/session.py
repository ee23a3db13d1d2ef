"""The one module that touches ONNX Runtime: a loaded graph, its ports, and runs that can be stopped.

Only the graph's own file formats are read: no custom operator libraries. External weights outside the model's folder are
refused by ONNX Runtime itself (a test keeps watch over that).
"""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from raymart_serve.engines.protocol import EngineFailed, RequestRefused

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""In this order, as far as the installed build has them; never one that calls a service on the network."""
_SEVERITY_FATAL = 4
_TENSOR = re.compile(r"tensor\((\w+)\)")
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the graph."""

    name: str
    dtype: str
    """As numpy names it."""
    shape: tuple[int | str | None, ...]
    """A name or None where any size fits; the same name is the same size."""


class Stopped(Exception):
    """The run was stopped from outside."""


class Stop:
    """Ends a request's runs from another thread, between two of the graph's nodes at the latest."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.options.log_severity_level = _SEVERITY_FATAL
        self._event = threading.Event()

    def set(self) -> None:
        """Stop now, and for good."""
        self._event.set()
        self.options.terminate = True

    def pause(self, seconds: float) -> None:
        """Sleep, unless stopped meanwhile. Raises: Stopped."""
        if self._event.wait(seconds) if seconds else self._event.is_set():
            raise Stopped


class Graph:
    """A loaded model. `run` may be called from several threads."""

    def __init__(self, path: Path, *, threads: int) -> None:
        """Load and optimise. Blocking. Raises: EngineFailed."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SEVERITY_FATAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait make a machine with every processor taken many times slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        chosen = [provider for provider in PROVIDERS if provider in available]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        except Exception as error:  # the library's errors have no base of their own
            raise EngineFailed(f"ONNX Runtime cannot load {path.name!r}: {_first_line(error)}") from error
        self.inputs = {port.name: port for port in map(_port, self._session.get_inputs())}
        self.outputs = {port.name: port for port in map(_port, self._session.get_outputs())}

    def run(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray], stop: Stop) -> list[np.ndarray]:
        """The named outputs. Raises: Stopped, RequestRefused for numbers that the graph cannot take, EngineFailed."""
        try:
            made: list[np.ndarray] = self._session.run(list(outputs), dict(feeds), stop.options)
        except MemoryError as error:
            raise EngineFailed("the model ran out of memory") from error
        except Exception as error:
            if stop.options.terminate:
                raise Stopped from None
            raise _classed(error) from error
        return made


def library() -> str:
    """Name and version, "onnx 1.31.1"."""
    return f"onnx {onnxruntime.__version__}"


def _port(argument: object) -> Port:
    name, kind, shape = str(argument.name), str(argument.type), argument.shape  # type: ignore[attr-defined] # NodeArg
    found = _TENSOR.fullmatch(kind)
    dtype = _DTYPES.get(found[1]) if found else None
    if dtype is None:
        raise EngineFailed(f"{name!r} of the model is a {kind}; served are tensors of {', '.join(_DTYPES)}")
    return Port(name=name, dtype=dtype, shape=tuple(shape))


def _classed(error: Exception) -> EngineFailed | RequestRefused:
    """Whose failure a run's error is. What the graph finds wrong with its inputs is told by the error's class."""
    said = _first_line(error)
    if type(error).__name__ == "InvalidArgument":
        return RequestRefused(f"the model cannot take these inputs: {said}", param="inputs")
    if "Failed to allocate memory" in said or "out of memory" in said.lower():
        return EngineFailed("the model ran out of memory; send less at once")
    return EngineFailed(f"ONNX Runtime: {said}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
