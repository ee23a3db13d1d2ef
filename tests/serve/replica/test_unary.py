"""Embed, rerank and predict on the replica's port, with an engine of a few lines behind it and real sockets."""

import asyncio
import struct
from collections.abc import Sequence
from types import SimpleNamespace

import msgspec
import pytest

from raymart_core.units import Fault
from raymart_core.wire.embedding import (
    EMBED_PATH,
    PREDICT_PATH,
    RERANK_PATH,
    EmbedReply,
    EmbedRequest,
    PredictReply,
    PredictRequest,
    RerankReply,
    RerankRequest,
    Tensor,
)
from raymart_core.wire.replica import Health, decode_error_body, encode
from raymart_serve.engines.protocol import (
    Embedding,
    EngineBusy,
    EngineFailed,
    EngineHealth,
    EngineStats,
    RequestRefused,
    Score,
)
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer
from raymart_serve.replica.routes import Routes
from raymart_serve.replica.unary_request import (
    read_embed_request,
    read_predict_request,
    read_rerank_request,
)
from support.replica_client import ReplicaClient

REVISION = "sha256:" + "12" * 32


class Silent:
    """An engine that can do nothing."""

    label = "silent 1"
    context_length = 64
    capacity = 1

    async def load(self, progress) -> None: ...

    async def warm_up(self) -> None: ...

    async def health(self) -> EngineHealth:
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        return EngineStats(running=0, waiting=0, tokens_generated_total=0, requests_aborted_total=0)

    async def close(self) -> None: ...


class Lengths(Silent):
    """Embeds a text as its length, `dimensions` times; scores a document by its length; doubles uint8 tensors."""

    label = "lengths 1"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.started = asyncio.Event()
        self.left = asyncio.Event()
        self.hang = False

    async def embed(self, inputs: Sequence, *, dimensions: int | None = None) -> list[Embedding]:
        if self.failure:
            raise self.failure
        if self.hang:
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        numbers = dimensions or 3
        return [
            Embedding(vector=struct.pack(f"<{numbers}f", *[len(given)] * numbers), tokens=len(given))
            for given in inputs
        ]

    async def rerank(self, query: str, documents: Sequence[str]) -> list[Score]:
        return [
            Score(score=float(len(document)), tokens=len(query) + len(document)) for document in documents
        ]

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [
            msgspec.structs.replace(tensor, data=bytes(2 * byte for byte in tensor.data)) for tensor in inputs
        ]


class Served:
    """Routes with an engine, on a real port."""

    def __init__(self, engine: Silent, server: HttpServer, routes: Routes, address: str) -> None:
        self.engine = engine
        self.server = server
        self.routes = routes
        self.address = address

    def ask(self, path: str, request: msgspec.Struct | bytes, **headers: str):
        with ReplicaClient(self.address, "secret") as client:
            body = request if isinstance(request, bytes) else encode(request)
            response = client.request("POST", path, body, **headers)
            return response.status, response.read()


@pytest.fixture
async def serve():
    """Serves engines until the test ends; the client is called in threads."""
    servers = []

    async def start(engine: Silent) -> Served:
        async def health() -> Health:
            return Health(state="ready")

        state = SimpleNamespace(
            engine=engine, revision=REVISION, accepting=True, health=health, stats=None, drain=None
        )
        routes = Routes(state)
        server = HttpServer(routes, secret="secret", limits=HttpLimits())
        address = await server.start("127.0.0.1")
        servers.append(server)
        return Served(engine, server, routes, address)

    yield start
    for server in servers:
        await server.close()


class TestEmbedRoute:
    async def test_vectors_come_in_order_with_counts_and_the_revision(self, serve) -> None:
        served = await serve(Lengths())
        request = EmbedRequest(texts=("a", "bcd"), dimensions=2)
        status, body = await asyncio.to_thread(served.ask, EMBED_PATH, request)
        reply = msgspec.json.decode(body, type=EmbedReply)
        assert status == 200
        assert [struct.unpack("<2f", vector) for vector in reply.vectors] == [(1.0, 1.0), (3.0, 3.0)]
        assert (reply.tokens, reply.revision, reply.engine) == ((1, 3), REVISION, "lengths 1")
        assert served.routes.in_flight == 0

    async def test_answer_of_many_pieces_is_whole(self, serve) -> None:
        """A body over 64 KiB is written in pieces; one that ends exactly at a piece has no empty last chunk."""
        served = await serve(Lengths())
        request = EmbedRequest(texts=tuple("x" * (place % 7 + 1) for place in range(500)), dimensions=100)
        _, body = await asyncio.to_thread(served.ask, EMBED_PATH, request)
        reply = msgspec.json.decode(body, type=EmbedReply)
        assert len(body) > 3 * 64 * 1024
        assert len(reply.vectors) == 500
        assert reply.vectors[6] == struct.pack("<100f", *[7.0] * 100)

    @pytest.mark.parametrize(
        ("failure", "status", "fault"),
        [
            (RequestRefused("input 0 is too long", param="input"), 400, Fault.CUSTOMER),
            (EngineBusy(slots=1, waiting_max=0), 503, Fault.PROVIDER),
            (EngineFailed("out of memory"), 500, Fault.PROVIDER),
            (RuntimeError("a bug"), 500, Fault.PROVIDER),
        ],
        ids=["refused", "busy", "failed", "bug"],
    )
    async def test_failure_of_the_engine_is_classed(self, serve, failure, status, fault) -> None:
        engine = Lengths()
        engine.failure = failure
        served = await serve(engine)
        found, body = await asyncio.to_thread(served.ask, EMBED_PATH, EmbedRequest(texts=("a",)))
        assert (found, decode_error_body(body).fault) == (status, fault)

    async def test_deadline_stops_the_engine(self, serve) -> None:
        engine = Lengths()
        engine.hang = True
        served = await serve(engine)
        status, _ = await asyncio.to_thread(
            served.ask, EMBED_PATH, EmbedRequest(texts=("a",)), X_Deadline_Ms="30"
        )
        assert status == 503
        assert engine.left.is_set()

    async def test_client_that_leaves_stops_the_engine(self, serve) -> None:
        engine = Lengths()
        engine.hang = True
        served = await serve(engine)
        _, writer = await asyncio.open_connection(*served.address.split(":"))
        body = encode(EmbedRequest(texts=("a",)))
        head = f"POST {EMBED_PATH} HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(30):
            await engine.started.wait()
            writer.close()
            await engine.left.wait()
            await served.routes.quiet.wait()
        assert served.routes.in_flight == 0


class TestRerankAndPredictRoutes:
    async def test_scores_come_in_the_documents_order(self, serve) -> None:
        served = await serve(Lengths())
        status, body = await asyncio.to_thread(
            served.ask, RERANK_PATH, RerankRequest(query="q", documents=("long", "x"))
        )
        reply = msgspec.json.decode(body, type=RerankReply)
        assert (status, reply.scores, reply.tokens) == (200, (4.0, 1.0), (5, 2))

    async def test_tensors_come_back_by_name(self, serve) -> None:
        served = await serve(Lengths())
        tensor = Tensor(name="in", dtype="uint8", shape=(2,), data=b"\x01\x02")
        status, body = await asyncio.to_thread(served.ask, PREDICT_PATH, PredictRequest(inputs=(tensor,)))
        [output] = msgspec.json.decode(body, type=PredictReply).outputs
        assert (status, output.name, output.data) == (200, "in", b"\x02\x04")

    @pytest.mark.parametrize(
        ("path", "request_"),
        [
            (EMBED_PATH, EmbedRequest(texts=("a",))),
            (RERANK_PATH, RerankRequest(query="q", documents=("d",))),
            (PREDICT_PATH, PredictRequest(inputs=())),
        ],
        ids=["embed", "rerank", "predict"],
    )
    async def test_what_the_engine_cannot_do_is_the_customers_error(self, serve, path, request_) -> None:
        served = await serve(Silent())
        status, body = await asyncio.to_thread(served.ask, path, request_)
        error = decode_error_body(body)
        assert (status, error.fault, error.param) == (400, Fault.CUSTOMER, "model")
        assert "silent 1" in error.message


class TestReading:
    @pytest.mark.parametrize(
        ("body", "param", "says"),
        [
            (b"{", "body", "not JSON"),
            (b'{"texts":["\xed\xa0\x80"]}', "body", "not JSON"),
            (b'{"texts":["\\ud800"]}', "body", "not JSON"),
            (b"{}", "input", "exactly one"),
            (b'{"texts":["a"],"ids":[[1]]}', "input", "exactly one"),
            (b'{"texts":["a",""]}', "input", "input 1 is empty"),
            (b'{"ids":[[]]}', "input", "input 0 is empty"),
            (b'{"ids":[[-1]]}', "input", "token ids"),
            (b'{"ids":[[2147483648]]}', "input", "token ids"),
            (b'{"texts":["a"],"dimensions":0}', "dimensions", "at least 1"),
            (b'{"texts":[1]}', "texts", "Expected `str`"),
            (b'{"texts":[%b"a"]}' % (b'"a",' * 2048), "input", "2049 items, at most 2048"),
        ],
        ids=[
            "json",
            "utf8",
            "surrogate",
            "none",
            "both",
            "empty",
            "no-ids",
            "negative",
            "huge",
            "dimensions",
            "type",
            "count",
        ],
    )
    def test_bad_embed_request_names_its_field(self, body, param, says) -> None:
        with pytest.raises(RequestRefused, match=says) as caught:
            read_embed_request(body)
        assert caught.value.param == param

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b'{"query":"","documents":["a"]}', "query"),
            (b'{"query":"q","documents":[]}', "documents"),
            (b'{"query":"q","documents":[%b"a"]}' % (b'"a",' * 1000), "documents"),
            (b'{"documents":["a"]}', "query"),
        ],
        ids=["query", "documents", "count", "missing"],
    )
    def test_bad_rerank_request_names_its_field(self, body, param) -> None:
        with pytest.raises(RequestRefused) as caught:
            read_rerank_request(body)
        assert caught.value.param == param

    @pytest.mark.parametrize(
        ("tensors", "says"),
        [
            ([Tensor(name="a", dtype="float32", shape=(2,), data=b"\0" * 7)], "7 bytes; float32 of this shape has 8"),
            ([Tensor(name="a", dtype="bool", shape=(-1, -2), data=b"\0\0")], "axes of at least 0"),
            ([Tensor(name="a", dtype="bool", shape=(1,) * 9, data=b"\0")], "0 to 8 axes"),
            ([Tensor(name="a", dtype="bool", shape=(1,), data=b"\0")] * 2, "two inputs have one name"),
        ],
        ids=["short", "negative", "axes", "twice"],
    )  # fmt: skip
    def test_tensor_that_does_not_fill_its_shape_is_refused(self, tensors, says) -> None:
        with pytest.raises(RequestRefused, match=says):
            read_predict_request(encode(PredictRequest(inputs=tuple(tensors))))

    def test_shape_that_multiplies_to_astronomical_size_is_refused_without_memory(self) -> None:
        tensor = Tensor(name="a", dtype="float64", shape=(2**40,) * 8, data=b"")
        with pytest.raises(RequestRefused, match="brings 0 bytes"):
            read_predict_request(encode(PredictRequest(inputs=(tensor,))))
