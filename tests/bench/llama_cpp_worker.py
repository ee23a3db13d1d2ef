"""A process of the bench `llama_cpp`. Usage: llama_cpp_worker.py alone PATH | replica PATH | through GATEWAY_JSON

`alone` and `through` read {"streams", "requests", "tokens"} from each line of standard input, send so many requests on
each stream, and answer {"tokens", "seconds"}. `replica` serves PATH on the replica's routes and prints address and secret.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

QUESTION = "Please tell a story with a cat named {}."
NAMES = ("Nora", "Tom", "Ada", "Finn", "Mia", "Leo", "Ida", "Max")

Stream = Callable[[int, int, int], int]
"""Sends requests on one stream: its number, requests, tokens each; returns the tokens that came."""


def body(stream: int, tokens: int) -> dict[str, object]:
    question = QUESTION.format(NAMES[stream % len(NAMES)])
    return {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens, "temperature": 0.0, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def serve_lines(send: Stream) -> None:
    """Run what standard input asks for until it ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        counts = [0] * asked["streams"]

        def run(number: int, asked: dict[str, int] = asked, counts: list[int] = counts) -> None:
            counts[number] = send(number, asked["requests"], asked["tokens"])

        threads = [threading.Thread(target=run, args=(number,)) for number in range(asked["streams"])]
        started_at = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps({"tokens": sum(counts), "seconds": time.perf_counter() - started_at}), flush=True)


def alone(path: Path) -> None:
    """The library and nothing else."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel, parameters.kv_unified = 4096, 4, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.use_jinja = True
    parameters.warmup = parameters.fit_params = False
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)

    def send(stream: int, requests: int, tokens: int) -> int:
        got = 0

        def take(data: str) -> bool:
            nonlocal got
            chunks = json.loads(data)
            for chunk in chunks if isinstance(chunks, list) else [chunks]:
                got += (chunk.get("usage") or {}).get("completion_tokens", 0)
            return False

        for _ in range(requests):
            server.handle_chat_completions(json.dumps(body(stream, tokens)), take)
        return got

    serve_lines(send)


def through(gateway: dict[str, object]) -> None:
    """Customers: one connection a stream, to the gateway."""
    connections = {}

    def send(stream: int, requests: int, tokens: int) -> int:
        connection = connections.setdefault(stream, HTTPConnection("127.0.0.1", int(str(gateway["port"]))))
        headers = {"Authorization": f"Bearer {gateway['key']}", "Content-Type": "application/json"}
        got = 0
        for _ in range(requests):
            payload = json.dumps(body(stream, tokens) | {"model": gateway["model"]})
            connection.request("POST", "/v1/chat/completions", payload, headers)
            response = connection.getresponse()
            lines = response.read().splitlines()
            assert lines[-2] == b"data: [DONE]", lines[-3:]
            got += json.loads(lines[-4][6:])["usage"]["completion_tokens"]
        return got

    serve_lines(send)


async def replica(path: Path) -> None:
    """The engine behind the replica's routes and server."""
    from raymart_core.wire.replica import Health, Stats
    from raymart_serve.engines.llama_cpp import LlamaCppEngine
    from raymart_serve.engines.protocol import EngineSpec
    from raymart_serve.replica.http_connection import HttpLimits
    from raymart_serve.replica.http_server import HttpServer
    from raymart_serve.replica.routes import Routes
    from support.scripted_replica import REVISION, SECRET

    class State:
        engine = LlamaCppEngine(EngineSpec(path=path, context_length=1024, slots=4, threads=1))
        revision = REVISION
        accepting = True

        async def health(self) -> Health:
            return Health(state="ready")

        def stats(self) -> Stats:
            raise NotImplementedError

        def drain(self) -> None:
            raise NotImplementedError

    state = State()
    await state.engine.load(lambda _: None)
    server = HttpServer(Routes(state), secret=SECRET, limits=HttpLimits())
    address = await server.start("127.0.0.1")
    print(address.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    mode, argument = sys.argv[1:]
    if mode == "alone":
        alone(Path(argument))
    elif mode == "through":
        through(json.loads(argument))
    else:
        import uvloop

        uvloop.run(replica(Path(argument)))
