"""A revision's files as an ONNX engine reads them: the layout that sentence-transformers and Optimum write.

    model.onnx or onnx/model.onnx       the graph; large weights may lie beside it
    tokenizer.json                      without it the model takes tensors, not text
    config.json                         pad token, longest input, kind of model
    1_Pooling/config.json               how token vectors become one
    config_sentence_transformers.json   text that goes before each input, if any

The manifest's parameters `task`, `pooling` and `file` override what the files say. Nothing here executes what it reads.
Source: https://www.sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from raymart_serve.engines.protocol import EngineFailed

CONFIG_BYTES_MAX = 1 << 20
TOKENIZER_BYTES_MAX = 64 << 20
TOKENS_MAX_DEFAULT = 512
"""Of models that do not say how long an input may be."""
PARAMETERS = ("file", "pooling", "task")

Config = TypeVar("Config")
Chosen = TypeVar("Chosen", bound=StrEnum)


class Task(StrEnum):
    """What a model is for."""

    EMBEDDING = "embedding"
    RERANK = "rerank"
    """A cross-encoder: reads query and document together."""
    TENSORS = "tensors"
    """Named tensors in and out."""


class Pooling(StrEnum):
    """How the vectors of an input's tokens become one."""

    MEAN = "mean"
    CLS = "cls"
    """The first token's."""
    LAST = "lasttoken"
    MAX = "max"
    WEIGHTED_MEAN = "weightedmean"
    """Later tokens weigh more, by their place."""


class _ModelConfig(msgspec.Struct):
    """What matters here of config.json."""

    architectures: list[str] | None = None
    pad_token_id: int | None = None
    max_position_embeddings: int | None = None


class _PoolingConfig(msgspec.Struct):
    """The older form has a switch per mode, the newer one a name."""

    pooling_mode: str | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    pooling_mode_weightedmean_tokens: bool = False


class _SentenceConfig(msgspec.Struct):
    """Prompts by name, and the one that goes before every input."""

    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None


class _LengthConfig(msgspec.Struct):
    """sentence_bert_config.json."""

    max_seq_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRevision:
    """What the files say."""

    model: Path
    task: Task
    tokenizer: Path | None
    """None exactly for tensors."""
    pooling: Pooling
    tokens_max: int
    """Longest input that the model was made for."""
    pad_id: int
    prompt: str
    """Text before every input."""


def read_revision(path: Path, parameters: Mapping[str, str]) -> OnnxRevision:
    """Read the folder, or the single file, at `path`. Raises: EngineFailed."""
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise EngineFailed(f"unknown parameters {', '.join(unknown)}; known are {', '.join(PARAMETERS)}")
    folder = path if path.is_dir() else path.parent
    tokenizer = folder / "tokenizer.json" if path.is_dir() else None
    if tokenizer is not None and not tokenizer.is_file():
        tokenizer = None
    config = _read(folder / "config.json", _ModelConfig) if tokenizer is not None else _ModelConfig()
    task = _task(parameters.get("task"), config, tokenizer)
    sentences = _read(folder / "config_sentence_transformers.json", _SentenceConfig)
    return OnnxRevision(
        model=_model_file(path, parameters.get("file")),
        task=task,
        tokenizer=tokenizer if task is not Task.TENSORS else None,
        pooling=_pooling(parameters.get("pooling"), _read(folder / "1_Pooling/config.json", _PoolingConfig)),
        tokens_max=_tokens_max(config, _read(folder / "sentence_bert_config.json", _LengthConfig)),
        pad_id=config.pad_token_id or 0,
        prompt=sentences.prompts.get(sentences.default_prompt_name or "", ""),
    )


def read_bounded(path: Path, *, bytes_max: int) -> bytes:
    """The file's content. Raises: EngineFailed when it is larger than `bytes_max`, before any of it is read."""
    size = path.stat().st_size
    if size > bytes_max:
        raise EngineFailed(f"{path.name} has {size} bytes, at most {bytes_max} are read")
    return path.read_bytes()


def _model_file(path: Path, name: str | None) -> Path:
    if path.is_file():
        return _checked(path)
    if name is not None:
        chosen = path / name
        # The manifest's author is not the machine's owner.
        if not chosen.resolve().is_relative_to(path.resolve()) or not chosen.is_file():
            raise EngineFailed(f"the parameter file={name!r} names no file of the revision")
        return _checked(chosen)
    for usual in (path / "model.onnx", path / "onnx" / "model.onnx"):
        if usual.is_file():
            return usual
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        raise EngineFailed(
            f"the revision has {len(found)} .onnx files and no model.onnx; name one with the parameter 'file'"
        )
    return found[0]


def _checked(path: Path) -> Path:
    if path.suffix != ".onnx":
        raise EngineFailed(f"{path.name!r} is no .onnx file; this engine loads no other format")
    return path


def _task(name: str | None, config: _ModelConfig, tokenizer: Path | None) -> Task:
    if name is not None:
        task = _chosen(Task, name, "task")
        if task is not Task.TENSORS and tokenizer is None:
            raise EngineFailed(f"task={name} needs a tokenizer.json beside the model")
        return task
    if tokenizer is None:
        return Task.TENSORS
    classifies = any("ForSequenceClassification" in name for name in config.architectures or ())
    return Task.RERANK if classifies else Task.EMBEDDING


def _pooling(name: str | None, config: _PoolingConfig) -> Pooling:
    name = name or config.pooling_mode
    if name is not None:
        return _chosen(Pooling, name, "pooling")
    switches = {
        Pooling.CLS: config.pooling_mode_cls_token,
        Pooling.MEAN: config.pooling_mode_mean_tokens,
        Pooling.MAX: config.pooling_mode_max_tokens,
        Pooling.LAST: config.pooling_mode_lasttoken,
        Pooling.WEIGHTED_MEAN: config.pooling_mode_weightedmean_tokens,
    }
    chosen = [pooling for pooling, on in switches.items() if on]
    if len(chosen) > 1:
        raise EngineFailed(f"the pooling modes {', '.join(chosen)} together are not served; choose one")
    return chosen[0] if chosen else Pooling.MEAN


def _tokens_max(config: _ModelConfig, length: _LengthConfig) -> int:
    given = [limit for limit in (config.max_position_embeddings, length.max_seq_length) if limit is not None]
    limit = min(given, default=TOKENS_MAX_DEFAULT)
    if limit < 1:
        raise EngineFailed(f"the model's longest input has {limit} tokens; at least 1 is needed")
    return limit


def _chosen(kind: type[Chosen], name: str, parameter: str) -> Chosen:
    try:
        return kind(name)
    except ValueError:
        raise EngineFailed(f"{parameter}={name[:40]!r} is not served; there are {', '.join(kind)}") from None


def _read(path: Path, kind: type[Config]) -> Config:
    """The file as `kind`, or `kind`'s defaults where there is none."""
    if not path.is_file():
        return kind()
    try:
        return msgspec.json.decode(read_bounded(path, bytes_max=CONFIG_BYTES_MAX), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"{path.name} cannot be read: {error}") from error
