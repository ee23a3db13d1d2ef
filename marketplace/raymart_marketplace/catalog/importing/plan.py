"""What to make of a model's files: its manifest, read from them where they say, from the operator where they do not."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix, show
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.catalog.weights.gguf import read_gguf_header
from raymart_marketplace.catalog.weights.safetensors import read_safetensors_header

_DTYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32", "BF16": "bf16", "F16": "f16", "F32": "f32"}
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_TEXT_MAX = 16 << 20
Said = TypeVar("Said", str, int)
CAPTION_TOKENS = 77
"""Of CLIP's text encoder, which the classic diffusion models have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What the operator says of the model; what is left open is read from its files."""

    slug: str
    name: str | None = None
    description: str = ""
    organization_id: UUID | None = None
    """Whose private model it is, sealed at rest; None for a public one."""
    engine: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    licence: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What files say of the model, taken together; what none says is empty."""

    engine: str = ""
    quantization: str = ""
    context_length: int = 0
    capabilities: tuple[str, ...] = ()
    template_sha256: str = ""
    licence: str = ""


def facts_of(path: Path, *, name: str) -> Facts:
    """What one checked file says of the model. Raises: InvalidRequest for JSON that cannot be read."""
    reader = _READERS.get(name) or _READERS.get(PurePosixPath(name).suffix)
    return Facts() if reader is None else reader(path)


def make_manifest(
    plan: ImportPlan, files: Mapping[str, tuple[int, str]], facts: Mapping[str, Facts]
) -> Manifest:
    """The manifest of `files` (bytes and SHA-256 by path). What the operator says counts before what files say.

    Raises: InvalidRequest for what neither says.
    """
    order = ("model_index.json", "config.json", "chat_template.jinja", "tokenizer_config.json")
    told = [facts[path] for path in (*order, *sorted(set(facts) - set(order))) if path in facts]
    engine = plan.engine or _first([each.engine for each in told], "")
    quantization = plan.quantization or _first([each.quantization for each in told], "")
    context = plan.context_length or _first([each.context_length for each in told], 0)
    capabilities = plan.capabilities or tuple(name for each in told for name in each.capabilities)
    for value, option in (
        (engine, "--engine"),
        (quantization, "--quantization"),
        (context, "--context-length"),
        (capabilities, "--capability"),
    ):
        if not value:
            raise InvalidRequest(
                f"the files do not say it; give {option}", param=option.strip("-").replace("-", "_")
            )
    return Manifest(
        engine=engine,
        files=tuple(
            ManifestFile(path=path, bytes=size, sha256=sha256)
            for path, (size, sha256) in sorted(files.items())
        ),
        quantization=quantization,
        context_length=context,
        capabilities=tuple(sorted(set(capabilities))),
        tokenizer_sha256=next(
            (files[path][1] for path in ("tokenizer.json", "tokenizer/tokenizer.json") if path in files), ""
        ),
        template_sha256=_first([each.template_sha256 for each in told], ""),
        licence=plan.licence or _first([each.licence for each in told], ""),
        parameters=dict(sorted(plan.parameters.items())),
        owner="" if plan.organization_id is None else show(Prefix.ORGANIZATION, plan.organization_id),
    )


def _gguf(path: Path) -> Facts:
    header = read_gguf_header(path)
    able = ("logprobs", "seed", "stop")
    return Facts(
        engine="llama_cpp",
        quantization=header.quantization,
        context_length=header.context_length,
        capabilities=("chat", *able) if header.template_sha256 else able,
        template_sha256=header.template_sha256,
        licence=header.licence,
    )


def _safetensors(path: Path) -> Facts:
    dtypes = Counter(tensor.dtype for tensor in read_safetensors_header(path).values())
    return Facts(quantization=_DTYPES.get(dtypes.most_common(1)[0][0], "") if dtypes else "")


def _template(path: Path) -> Facts:
    return Facts(template_sha256=hashlib.sha256(path.read_bytes()).hexdigest(), capabilities=("chat",))


def _tokenizer_config(path: Path) -> Facts:
    template = _document(path).get("chat_template")
    if not isinstance(template, str):
        return Facts()
    return Facts(template_sha256=hashlib.sha256(template.encode()).hexdigest(), capabilities=("chat",))


def _config(path: Path) -> Facts:
    """Of a transformers model. Architectures are names such as "LlamaForCausalLM"."""
    config = _document(path)
    quantized = config.get("quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
    dtype = config.get("dtype") or config.get("torch_dtype")
    context = next((config[key] for key in _CONTEXTS if isinstance(config.get(key), int)), 0)
    architectures = config.get("architectures")
    writes = isinstance(architectures, list) and any("CausalLM" in str(each) for each in architectures)
    return Facts(
        engine="vllm" if writes else "",
        quantization=str(method or _DTYPES.get(str(dtype), "")),
        context_length=max(0, context),
        capabilities=("logprobs", "seed", "stop") if writes else (),
    )


_READERS: Mapping[str, Callable[[Path], Facts]] = {
    ".gguf": _gguf,
    ".safetensors": _safetensors,
    ".onnx": lambda _: Facts(engine="onnx"),
    "model_index.json": lambda _: Facts(
        engine="diffusers", context_length=CAPTION_TOKENS, capabilities=("image",)
    ),
    "config.json": _config,
    "chat_template.jinja": _template,
    "tokenizer_config.json": _tokenizer_config,
}
"""By a file's path, or the end of its name."""


def _document(path: Path) -> Mapping[str, Any]:
    """A JSON object. Raises: InvalidRequest."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_TEXT_MAX))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path.name!r} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path.name!r} holds no JSON object")
    return found


def _first(values: Sequence[Said], nothing: Said) -> Said:
    """The first that says something."""
    return next((each for each in values if each), nothing)
