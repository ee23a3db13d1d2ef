"""A process of the bench `a1111`. Usage: a1111_process.py gateway DATABASE_URL REDIS_URL REPLICA_PORT | painter | engine

`gateway` sells what the replica makes on AUTOMATIC1111's routes and prints its port, key and model as one JSON line.
`painter` and `engine` serve a replica's route and print their port: one sends steps and a picture that it has already,
the other makes the bundled model's pictures.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from raymart_billing.connections import make_pool
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.collector import rare_collections
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.gateway.images.routes import sdapi_routes
from raymart_marketplace.shared_state import make_redis
from support.image_engine import REVISION, spec
from support.image_market import ImageMarket
from support.scripted_images import asked, encoded, finish, made, progress
from support.scripted_replica import SECRET, Exchange, ScriptedReplica

BODY_BYTES_MAX = 2_000_000
STEP_S = 0.002
"""Between the painter's steps: an engine's are further apart."""


class Address:
    """What `ImageMarket.add_painter` needs of a replica."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"


async def gateway(database_url: str, redis_url: str, replica_port: int) -> None:
    """Everything real but the provider's machine, in one process with nothing else."""
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(database_url)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(database_url, name="gateway"))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="raymart-bench-a1111-"))
        market = ImageMarket(make_sessions(engine), pool, Path(folder))
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.books.fund(10**15)
        await market.add_painter(Address(replica_port))  # type: ignore[arg-type]  # it reads the address alone
        redis = make_redis(redis_url)
        stack.push_async_callback(redis.aclose)
        routes = sdapi_routes(
            images=market.images,
            authenticator=market.authenticator,
            models=market.models,
            directory=market.directory,
            redis=redis,
            body_bytes_max=BODY_BYTES_MAX,
        )
        await serve(Starlette(routes=list(routes)), {"key": market.key, "model": market.slug})


async def serve(app: Starlette, facts: dict[str, str]) -> None:
    """Run the server as `raymart_graphql` runs it, until a signal; prints `facts` with its port."""
    config = uvicorn.Config(
        app,
        port=0,
        loop="uvloop",
        http=HttpServerProtocol,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"port": port, **facts}), flush=True)
    with rare_collections(), server.capture_signals():
        await server.main_loop()
    await server.shutdown()


@cache
def drawn(width: int, height: int) -> bytes:
    """A picture that compresses about as a photograph does: waves with a little noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 23 + turn) * np.cos(columns / 31 - turn) for turn in (0.0, 1.0, 2.0)]
    noise = np.random.default_rng(1).normal(0, 4, (height, width, 3))
    return encoded(Image.fromarray((np.stack(waves, -1) * 100 + 128 + noise).clip(0, 255).astype(np.uint8)))


async def paint(exchange: Exchange) -> None:
    """Steps at a pace, then the picture."""
    request = asked(exchange)
    exchange.head()
    for step in range(1, request.steps + 1):
        await asyncio.sleep(STEP_S)
        progress(exchange, step, request.steps)
    made(exchange, data=drawn(request.width, request.height))
    finish(exchange)


async def painter() -> None:
    """The scripted replica."""
    async with ScriptedReplica(paint) as replica:
        print(replica.address.rpartition(":")[2], flush=True)
        await asyncio.Event().wait()


async def engine() -> None:
    """The bundled model behind the replica's routes and server."""
    from raymart_core.wire.replica import Health, Stats
    from raymart_serve.engines.diffusers import DiffusersEngine
    from raymart_serve.replica.http_connection import HttpLimits
    from raymart_serve.replica.http_server import HttpServer
    from raymart_serve.replica.routes import Routes

    class State:
        engine = DiffusersEngine(spec())
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
    await state.engine.warm_up()
    server = HttpServer(Routes(state), secret=SECRET, limits=HttpLimits())
    address = await server.start("127.0.0.1")
    print(address.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    mode, *arguments = sys.argv[1:]
    if mode == "gateway":
        database, cache_url, port = arguments
        uvloop.run(gateway(database, cache_url, int(port)))
    else:
        uvloop.run(painter() if mode == "painter" else engine())
