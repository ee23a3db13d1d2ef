"""Which of the three engines a revision needs: what an engine can do is a matter of its class."""

from raymart_serve.engines.onnx.embedder import OnnxEmbedder
from raymart_serve.engines.onnx.engine import OnnxEngine
from raymart_serve.engines.onnx.predictor import OnnxPredictor
from raymart_serve.engines.onnx.reranker import OnnxReranker
from raymart_serve.engines.onnx.revision import Task, read_revision
from raymart_serve.engines.protocol import EngineSpec

_ENGINES: dict[Task, type[OnnxEngine]] = {
    Task.EMBEDDING: OnnxEmbedder,
    Task.RERANK: OnnxReranker,
    Task.TENSORS: OnnxPredictor,
}


def open_onnx_engine(spec: EngineSpec) -> OnnxEngine:
    """The engine for the revision at `spec.path`, not loaded yet. Raises: EngineFailed for files that do not fit."""
    revision = read_revision(spec.path, spec.parameters)
    return _ENGINES[revision.task](spec, revision)
