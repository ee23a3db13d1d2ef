"""Vectors of a graph whose numbers are known, and of the bundled model."""

import asyncio
import struct

import pytest

from raymart_core.wire.embedding import EmbedRequest, RerankRequest, decode_embed_reply, decode_rerank_reply
from raymart_core.wire.replica import encode
from raymart_serve.engines.onnx import open_onnx_engine
from raymart_serve.engines.onnx.embedder import OnnxEmbedder
from raymart_serve.engines.protocol import (
    EngineBusy,
    EngineFailed,
    EngineSpec,
    PromptTooLong,
    RequestRefused,
)
from raymart_serve.models import resolve
from support.replica_client import ReplicaClient
from support.tiny_onnx import external_tensor, floats, graph, lookup, model, node, port, tensor
from support.word_tokens import BLUE, CLS, GREEN, RED, numbers, words_tokenizer

DEMO = ("bundled:demo-embed", "a67eaa349702fe92e8c631b6425dc2f360f5903a678ac5b1e9a860ae019093d5")
MASK = port("attention_mask", "int64", ("batch", "length"))
# [PAD] would spoil every mean that counted it.
TABLE = [[900, 900], [0, 0], [0, 0], [1, 1], [3, 0], [0, 4], [1, 1], [6, 8]]


def table_model() -> bytes:
    return lookup(TABLE, inputs=[MASK])


class TestVectors:
    async def test_mean_leaves_padding_out_and_has_length_one(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        short, long = await engine.embed(["red", "red green green red red"])
        assert numbers(short.vector) == [1, 0]
        assert numbers(long.vector) == [pytest.approx(9 / (9**2 + 8**2) ** 0.5, abs=1e-5), pytest.approx(8 / (9**2 + 8**2) ** 0.5, abs=1e-5)]  # fmt: skip
        assert (short.tokens, long.tokens) == (3, 7)

    async def test_order_of_inputs_is_kept_whatever_their_lengths(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        texts = ["red", "green green green", "red red", "green"] * 20
        made = await engine.embed(texts)
        assert [numbers(one.vector) for one in made] == [
            [1, 0] if "red" in text else [0, 1] for text in texts
        ]

    async def test_token_ids_are_taken_as_they_are(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        [made] = await engine.embed([(RED, GREEN)])
        assert (numbers(made.vector), made.tokens) == ([0.6, 0.8], 2)

    async def test_fewer_dimensions_are_cut_and_scaled_again(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        [made] = await engine.embed([(BLUE, BLUE)], dimensions=1)
        assert numbers(made.vector) == [1]

    async def test_prompt_of_the_revision_goes_before_each_text(self, write, start) -> None:
        sentences = {"prompts": {"query": "green "}, "default_prompt_name": "query"}
        engine = await start(write(table_model(), tokenizer=words_tokenizer(), sentences=sentences))
        [made] = await engine.embed(["red"])
        assert (numbers(made.vector), made.tokens) == ([0.6, 0.8], 4)

    async def test_output_that_is_pooled_already_is_taken_whole(self, write, start) -> None:
        pooled = model(
            [node("Gather", ["table", "input_ids"], ["states"]), node("ReduceSum", ["states", "axis"], ["sentence_embedding"], keepdims=0)],
            inputs=[port("input_ids", "int64", ("b", "t"))],
            outputs=[port("sentence_embedding", "float32", ("b", 2))],
            tensors=[tensor("table", "float32", (8, 2), floats([n for row in TABLE for n in row])), tensor("axis", "int64", (1,), struct.pack("<q", 1))],
        )  # fmt: skip
        engine = await start(write(pooled, tokenizer=words_tokenizer()))
        [made] = await engine.embed(["red green"])
        assert numbers(made.vector) == [0.6, 0.8]

    async def test_zero_vector_is_the_engines_failure(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()), load=False)
        await engine.load(lambda _: None)
        with pytest.raises(EngineFailed, match="not finite or is zero"):
            await engine.embed([(CLS,)])

    async def test_scores_are_cosines_and_the_query_is_counted_once(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        scores = await engine.rerank("red", ["green", "red red", "pale"])
        assert [round(score.score, 5) for score in scores] == [0, 1, 0.6]
        assert [score.tokens for score in scores] == [3 + 3, 4, 3]


class TestBounds:
    async def test_too_long_input_is_refused_with_both_numbers(self, write, start) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()), context_length=4)
        await engine.embed(["red red"])
        with pytest.raises(PromptTooLong, match="5 tokens and the model reads 4 at most") as caught:
            await engine.embed(["red", "red red red"])
        assert caught.value.param == "input"

    async def test_the_models_own_limit_binds_too(self, write, start) -> None:
        folder = write(table_model(), tokenizer=words_tokenizer(), config={"max_position_embeddings": 6}, lengths={"max_seq_length": 3})  # fmt: skip
        engine = await start(folder, context_length=64)
        assert engine.context_length == 3

    @pytest.mark.parametrize("dimensions", [0, 3], ids=["none", "more"])
    async def test_dimensions_out_of_range_are_refused(self, write, start, dimensions) -> None:
        engine = await start(write(table_model(), tokenizer=words_tokenizer()))
        with pytest.raises(RequestRefused, match="1 to 2") as caught:
            await engine.embed(["red"], dimensions=dimensions)
        assert caught.value.param == "dimensions"

    async def test_full_queue_is_busy_and_recovers(self, write, start) -> None:
        engine = await start(
            write(table_model(), tokenizer=words_tokenizer()), slots=1, waiting_max=0, step_delay_s=30.0, load=False
        )  # fmt: skip
        await engine.load(lambda _: None)
        running = asyncio.create_task(engine.embed(["red"]))
        while not engine.stats().running:
            await asyncio.sleep(0)
        with pytest.raises(EngineBusy):
            await engine.embed(["red"])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with asyncio.timeout(30):
            await engine._gate.idle()
        assert (engine.stats().running, engine.stats().requests_aborted_total) == (0, 1)

    async def test_leaving_stops_the_graph_in_mid_run(self, write, start) -> None:
        """A loop of a hundred million rounds inside one run: only a run that is stopped ends in time."""
        folder = write(endless_model(), tokenizer=words_tokenizer())
        engine = await start(folder, load=False, slots=1)
        await engine.load(lambda _: None)
        running = asyncio.create_task(engine.embed(["red"]))
        while not engine.stats().running:
            await asyncio.sleep(0)
        await asyncio.sleep(
            0.1
        )  # into the graph; were it not there yet, the test would pass by the other way
        running.cancel()
        async with asyncio.timeout(30):
            await engine._gate.idle()

    async def test_closing_breaks_off_what_runs(self, write, start) -> None:
        engine = await start(write(endless_model(), tokenizer=words_tokenizer()), load=False)
        await engine.load(lambda _: None)
        running = asyncio.create_task(engine.embed(["red"]))
        while not engine.stats().running:
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await engine.close()
            with pytest.raises(EngineFailed, match="closed"):
                await running
        with pytest.raises(EngineFailed, match="not loaded"):
            await engine.embed(["red"])

    async def test_run_that_hangs_makes_the_engine_unhealthy(self, write, start) -> None:
        engine = await start(write(endless_model(), tokenizer=words_tokenizer()), load=False, stall_s=0.01)
        assert (await engine.health()).state == "loading"
        await engine.load(lambda _: None)
        assert (await engine.health()).state == "ready"
        running = asyncio.create_task(engine.embed(["red"]))
        async with asyncio.timeout(30):
            while (await engine.health()).state != "failing":
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def endless_model() -> bytes:
    """Embeds after a loop of 100 million rounds."""
    body = graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["sum", "sum"], ["next"])],
        inputs=[port("round", "int64", ()), port("go", "bool", ()), port("sum", "float32", (1,))],
        outputs=[port("go_on", "bool", ()), port("next", "float32", (1,))],
    )
    return model(
        [
            node("Loop", ["rounds", "true", "zero"], ["waited"], body=body),
            node("Gather", ["table", "input_ids"], ["states"]),
            node("Add", ["states", "waited"], ["last_hidden_state"]),
        ],
        inputs=[port("input_ids", "int64", ("batch", "length"))],
        outputs=[port("last_hidden_state", "float32", ("batch", "length", 2))],
        tensors=[
            tensor("table", "float32", (8, 2), floats([n for row in TABLE for n in row])),
            tensor("rounds", "int64", (), struct.pack("<q", 100_000_000)),
            tensor("true", "bool", (), b"\x01"),
            tensor("zero", "float32", (1,), floats([0])),
        ],
    )


class TestLoading:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\x80\x04\x95pickle", "cannot load 'model.onnx'"),
            (lookup(TABLE, output="logits"), "outputs logits"),
            (lookup(TABLE, inputs=[port("past", "int64", ("b", "t"))]), "inputs input_ids, past"),
            (lookup(TABLE, inputs=[port("attention_mask", "float32", ("b", "t"))]), "whole numbers"),
            (lookup(TABLE, inputs=[port("attention_mask", "int64", (1, "t"))]), "any count and length"),
            (lookup(TABLE, inputs=[port("attention_mask", "string", ("b", "t"))]), "tensor\\(string\\)"),
        ],
        ids=["pickle", "output", "input", "dtype", "fixed", "string"],
    )
    async def test_model_that_does_not_fit_fails_the_load(self, write, start, content, says) -> None:
        engine = await start(write(content, tokenizer=words_tokenizer()), load=False)
        with pytest.raises(EngineFailed, match=says):
            await engine.load(lambda _: None)

    @pytest.mark.parametrize("location", ["../secret.bin", "link.bin"], ids=["parent", "link"])
    async def test_weights_outside_the_folder_are_not_read(self, write, start, tmp_path, location) -> None:
        """What ONNX Runtime promises; a version that no longer does must not be installed."""
        (tmp_path / "secret.bin").write_bytes(floats([1.0] * 16))
        content = model(
            [node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
            inputs=[port("input_ids", "int64", ("b", "t"))],
            outputs=[port("last_hidden_state", "float32", ("b", "t", 2))],
            tensors=[external_tensor("table", (8, 2), location)],
        )
        folder = write(content, tokenizer=words_tokenizer())
        if location == "link.bin":
            (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
        engine = await start(folder, load=False)
        with pytest.raises(EngineFailed, match="External data path"):
            await engine.load(lambda _: None)

    async def test_weights_beside_the_model_are_read(self, write, start) -> None:
        content = model(
            [node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
            inputs=[port("input_ids", "int64", ("b", "t"))],
            outputs=[port("last_hidden_state", "float32", ("b", "t", 2))],
            tensors=[external_tensor("table", (8, 2), "model.onnx_data")],
        )
        folder = write(content, tokenizer=words_tokenizer())
        (folder / "model.onnx_data").write_bytes(floats([n for row in TABLE for n in row]))
        engine = await start(folder)
        assert numbers((await engine.embed([(RED,)]))[0].vector) == [1, 0]

    async def test_broken_tokenizer_fails_the_load(self, write, start) -> None:
        folder = write(table_model(), tokenizer=words_tokenizer())
        (folder / "tokenizer.json").write_text('{"model": {"type": "Nonsense"}}')
        engine = await start(folder, load=False)
        with pytest.raises(EngineFailed, match=r"tokenizer\.json"):
            await engine.load(lambda _: None)


class TestBundledModel:
    async def test_question_finds_its_answer_in_words_it_never_saw(self, start) -> None:
        engine = await start(resolve(*DEMO), context_length=512)
        answers = [
            "The capital of Norway is Oslo.",
            "The capital of Sweden is Stockholm.",
            "A payout is the money sent to a provider for the work its machines have done.",
            "The opposite of hot is cold.",
        ]
        for question, right in (
            ("Do you know the capital of Norway?", 0),
            ("Please name the capital city of Sweden.", 1),
            ("Could you explain what a payout is?", 2),
            ("Name the antonym of hot.", 3),
        ):
            scores = [score.score for score in await engine.rerank(question, answers)]
            assert scores.index(max(scores)) == right

    async def test_same_text_has_the_same_bytes_again(self, start) -> None:
        engine = await start(resolve(*DEMO), context_length=512)
        first, second = await engine.embed(["What is latency?"]), await engine.embed(["What is latency?"])
        assert first == second
        assert len(first[0].vector) == 128 * 4

    def test_factory_chooses_by_the_files(self) -> None:
        engine = open_onnx_engine(EngineSpec(path=resolve(*DEMO), context_length=512, slots=1))
        assert type(engine) is OnnxEmbedder

    def test_it_serves_behind_the_replicas_port(self, run_replica) -> None:
        replica = run_replica(engine="onnx", source=DEMO[0], sha256=DEMO[1], context_length=512)
        with ReplicaClient(replica.address, replica.secret) as client:
            answer = client.request(
                "POST", "/v1/embed", encode(EmbedRequest(texts=("ping", "pong"), dimensions=32))
            )
            reply = decode_embed_reply(answer.read())
            assert ([len(vector) for vector in reply.vectors], answer.status) == ([128, 128], 200)
            assert reply.engine.startswith("onnx ")
            answer = client.request(
                "POST", "/v1/rerank", encode(RerankRequest(query="ping", documents=("ping", "Oslo")))
            )
            scores = decode_rerank_reply(answer.read()).scores
            assert scores[0] > scores[1]
