"""Revisions of a few words, written for the test, and engines of them."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from raymart_serve.engines.onnx import open_onnx_engine
from raymart_serve.engines.protocol import EngineSpec


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a revision's folder: the model's bytes, a tokenizer unless None, other files as JSON."""

    def written(
        model: bytes,
        *,
        tokenizer: Tokenizer | None = None,
        name: str = "model.onnx",
        **files: Mapping[str, object],
    ) -> Path:
        folder = tmp_path / "revision"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(model)
        if tokenizer is not None:
            tokenizer.save(str(folder / "tokenizer.json"))
        places = {"config": "config.json", "pooling": "1_Pooling/config.json",
                  "sentences": "config_sentence_transformers.json", "lengths": "sentence_bert_config.json"}  # fmt: skip
        for key, content in files.items():
            path = folder / places[key]
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        return folder

    return written


@pytest.fixture
async def start() -> AsyncIterator[Callable]:
    """Loads engines and closes them; keywords of EngineSpec."""
    engines = []

    async def started(
        path: Path, *, load: bool = True, parameters: Mapping[str, str] | None = None, **changes
    ):
        values = {"context_length": 64, "slots": 2, "waiting_max": 1, "threads": 1, **changes}
        engine = open_onnx_engine(EngineSpec(path=path, parameters=parameters or {}, **values))
        engines.append(engine)
        if load:
            await engine.load(lambda _: None)
            await engine.warm_up()
        return engine

    yield started
    for engine in engines:
        await engine.close()
