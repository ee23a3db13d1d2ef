"""Vectors of the llama.cpp engine: from the bundled model, and from a file that was made for embedding only."""

import asyncio
import struct
from pathlib import Path

import pytest

from raymart_core.wire.replica import Sampling
from raymart_serve.conformance.embedding import cosine, numbers
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.llama_cpp.embedder import TOGETHER_MAX
from raymart_serve.engines.llama_cpp.vocabulary import read_header
from raymart_serve.engines.protocol import EngineSpec, GenerationStep, RequestRefused
from raymart_serve.models import resolve

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"


def with_pooling(source: Path, target: Path) -> Path:
    """A copy of a GGUF file that also says `llama.pooling_type` = last token (3)."""
    data = source.read_bytes()
    version, tensors, pairs = struct.unpack("<IQQ", data[4:24])
    name = b"llama.pooling_type"
    pair = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, 3)
    # Tensor data begins at the next multiple of 32, and offsets count from there: the new pair has to be a multiple too.
    filler_name = b"general.note"
    filler_length = -(len(pair) + 8 + len(filler_name) + 4 + 8) % 32
    filler = struct.pack("<Q", len(filler_name)) + filler_name
    filler += struct.pack("<IQ", 8, filler_length) + b"x" * filler_length
    architecture_end = 24 + 8 + len("general.architecture") + 4 + 8 + len("llama")
    assert data[24 + 8 :].startswith(b"general.architecture")
    head = data[:4] + struct.pack("<IQQ", version, tensors, pairs + 2) + data[24:architecture_end]
    target.write_bytes(head + pair + filler + data[architecture_end:])
    return target


@pytest.fixture
def embedding_file(tmp_path: Path) -> Path:
    return with_pooling(resolve("bundled:demo-llm.gguf", SHA256), tmp_path / "embedding.gguf")


class TestBesideGeneration:
    async def test_a_large_batch_of_unequal_inputs_is_as_each_alone(self, make_engine) -> None:
        """llama.cpp with a cache for each slot mixes inputs of unequal length; more than one call of the library."""
        engine = await make_engine(slots=4)
        texts = [("latency " * (1 + at * 7 % 23)).strip() + str(at) for at in range(4 * TOGETHER_MAX + 9)]
        together = await engine.embed(texts)
        for text, vector in list(zip(texts, together, strict=True))[::9]:
            assert cosine((await engine.embed([text]))[0], vector) > 0.9999

    async def test_generation_beside_it_is_untouched(self, engine: LlamaCppEngine) -> None:
        ids = await engine.encode_prompt(
            "<|im_start|>user\nWhat is 7 + 5?<|im_end|>\n<|im_start|>assistant\n"
        )

        async def answered() -> str:
            sampling = Sampling(max_tokens=50, temperature=0.0)
            async with engine.generate(ids, sampling=sampling) as events:
                return "".join([event.text async for event in events if isinstance(event, GenerationStep)])

        texts, *answers = await asyncio.gather(engine.embed(["ping"] * 20), *[answered() for _ in range(6)])
        assert answers == ["7 + 5 = 12."] * 6
        assert len({embedding.vector for embedding in texts}) == 1

    async def test_it_is_loaded_at_the_first_request_only(self, engine: LlamaCppEngine) -> None:
        assert engine._embedder is None
        await asyncio.gather(*[engine.embed(["ping"]) for _ in range(4)])
        first = engine._embedder
        await engine.embed(["ping"])
        assert engine._embedder is first

    async def test_leaving_stops_after_the_running_part_and_frees_the_slot(self, make_engine) -> None:
        engine = await make_engine(slots=1)
        await engine.embed(["ping"])
        task = asyncio.create_task(engine.embed([tuple(range(26, 86))] * 2000))
        while not engine.stats().running:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60):
            while engine.stats().running:
                await asyncio.sleep(0.002)

    async def test_its_listener_wants_a_key_too(self, engine: LlamaCppEngine) -> None:
        await engine.embed(["ping"])
        listener = engine._embedder.listener
        listener._headers["Authorization"] = "Bearer guess"
        assert listener._call("POST", "/tokenize", b'{"content": "x"}')[0] == 401

    @pytest.mark.parametrize("dimensions", [0, -3, 193, 10**9])
    async def test_wrong_dimensions_are_refused(self, engine: LlamaCppEngine, dimensions: int) -> None:
        with pytest.raises(RequestRefused, match="1 to 192") as refused:
            await engine.embed(["ping"], dimensions=dimensions)
        assert refused.value.param == "dimensions"


class TestEmbeddingOnly:
    def test_the_header_tells(self, embedding_file: Path) -> None:
        assert read_header(embedding_file).own_pooling
        assert not read_header(resolve("bundled:demo-llm.gguf", SHA256)).own_pooling

    async def test_it_pools_as_its_file_says_and_generates_nothing(
        self, embedding_file: Path, engine: LlamaCppEngine
    ) -> None:
        only = LlamaCppEngine(EngineSpec(path=embedding_file, context_length=256, slots=2))
        try:
            await only.load(lambda _: None)
            await only.warm_up()
            assert (await only.health()).state == "ready"
            last, mean = (
                (await only.embed(["latency is time"]))[0],
                (await engine.embed(["latency is time"]))[0],
            )
            assert len(numbers(last)) == len(numbers(mean)) == 192
            assert cosine(last, mean) < 0.99
            with pytest.raises(RequestRefused, match="generates no text") as refused:
                async with only.generate([26], sampling=Sampling(max_tokens=1)):
                    pass
            assert refused.value.param == "model"
        finally:
            await only.close()
