"""What the replica answers on its port: generate, image, embed, rerank, predict, health, stats, drain."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Protocol

import structlog

from raymart_core.units import Fault
from raymart_core.wire.embedding import EMBED_PATH, PREDICT_PATH, RERANK_PATH
from raymart_core.wire.image import IMAGE_PATH
from raymart_core.wire.replica import (
    GENERATE_PATH,
    HEALTH_PATH,
    NDJSON,
    STATS_PATH,
    ErrorEvent,
    FinishEvent,
    GenerateRequest,
    Health,
    Stats,
    encode,
)
from raymart_serve.engines.protocol import (
    Engine,
    EngineBusy,
    EngineFailed,
    Generates,
    GenerationFinish,
    RequestRefused,
)
from raymart_serve.replica.generate_request import read_generate_request
from raymart_serve.replica.generation_lines import send_steps, send_whole
from raymart_serve.replica.http_exchange import Exchange, ReaderTooSlow, Request
from raymart_serve.replica.image_routes import ImageRoutes
from raymart_serve.replica.unary_routes import UnaryRoutes

log = structlog.get_logger()

Handler = Callable[[Request, Exchange], Awaitable[None]]

DRAIN_PATH = "/drain"
DEADLINE_MS_MAX = 24 * 3600 * 1000


class ReplicaState(Protocol):
    """What the routes need of the replica."""

    engine: Engine
    revision: str

    @property
    def accepting(self) -> bool:
        """Whether new work is taken."""

    async def health(self) -> Health:
        """For `GET /health`."""

    def stats(self) -> Stats:
        """For `GET /stats`."""

    def drain(self) -> None:
        """Take no new work from now on."""


class Routes:
    """The handler of the replica's HTTP server. `in_flight` counts requests for work from admission to the last byte."""

    def __init__(self, replica: ReplicaState) -> None:
        self._replica = replica
        unary = UnaryRoutes(replica)
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            GENERATE_PATH: {"POST": partial(self._admitted, self._generate)},
            IMAGE_PATH: {"POST": partial(self._admitted, ImageRoutes(replica).make)},
            EMBED_PATH: {"POST": partial(self._admitted, unary.embed)},
            RERANK_PATH: {"POST": partial(self._admitted, unary.rerank)},
            PREDICT_PATH: {"POST": partial(self._admitted, unary.predict)},
            HEALTH_PATH: {"GET": self._health},
            STATS_PATH: {"GET": self._stats},
            DRAIN_PATH: {"POST": self._drain},
        }
        self.in_flight = 0
        self.quiet = asyncio.Event()
        """Set while nothing is in flight."""
        self.quiet.set()

    async def __call__(self, request: Request, exchange: Exchange) -> None:
        """Answer `request`."""
        methods = self._routes.get(request.path)
        if methods is None:
            exchange.refuse(HTTPStatus.NOT_FOUND, f"there is no {request.path!r} here", fault=Fault.PLATFORM)
        elif request.method not in methods:
            allowed = ", ".join(methods)
            message = f"{request.path} takes {allowed}, not {request.method}"
            exchange.refuse(HTTPStatus.METHOD_NOT_ALLOWED, message, fault=Fault.PLATFORM)
        else:
            await methods[request.method](request, exchange)

    async def _health(self, _request: Request, exchange: Exchange) -> None:
        exchange.send(HTTPStatus.OK, await self._replica.health())

    async def _stats(self, _request: Request, exchange: Exchange) -> None:
        exchange.send(HTTPStatus.OK, self._replica.stats())

    async def _drain(self, _request: Request, exchange: Exchange) -> None:
        self._replica.drain()
        exchange.send(HTTPStatus.ACCEPTED)

    async def _admitted(self, work: Handler, request: Request, exchange: Exchange) -> None:
        """Do `work` and count it while it lasts, unless the replica takes none."""
        if not self._replica.accepting:
            message = "this replica is starting or draining; try another endpoint"
            exchange.refuse(HTTPStatus.SERVICE_UNAVAILABLE, message, fault=Fault.PROVIDER)
            return
        self.in_flight += 1
        self.quiet.clear()
        try:
            await self._answered(work, request, exchange)
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self.quiet.set()

    async def _answered(self, work: Handler, request: Request, exchange: Exchange) -> None:
        """Do `work`; every failure becomes a refusal before the first event, an error event after it."""
        try:
            deadline_ms = _deadline_ms(request.headers)
            async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1000):
                await work(request, exchange)
        except RequestRefused as error:
            if exchange.started:
                await _give_up(exchange, HTTPStatus.BAD_REQUEST, error.message, late=Fault.CUSTOMER)
            else:
                exchange.refuse(
                    HTTPStatus.BAD_REQUEST, error.message, fault=Fault.CUSTOMER, param=error.param
                )
        except EngineBusy as error:
            exchange.refuse(HTTPStatus.SERVICE_UNAVAILABLE, error.message, fault=Fault.PROVIDER)
        except TimeoutError:
            await _give_up(
                exchange, HTTPStatus.SERVICE_UNAVAILABLE, "the deadline passed", late=Fault.PLATFORM
            )
        except EngineFailed as error:
            log.warning("work.engine_failed", reason=error.message)
            await _give_up(exchange, HTTPStatus.INTERNAL_SERVER_ERROR, error.message)
        except ReaderTooSlow:
            raise
        except Exception:
            log.exception("work.failed")
            message = "the replica failed in a way it did not expect"
            await _give_up(exchange, HTTPStatus.INTERNAL_SERVER_ERROR, message)

    async def _generate(self, request: Request, exchange: Exchange) -> None:
        await self._stream(read_generate_request(request.body), exchange)

    async def _stream(self, request: GenerateRequest, exchange: Exchange) -> None:
        engine = self._replica.engine
        if not isinstance(engine, Generates):
            raise RequestRefused(f"{engine.label} does not generate text", param="model")
        prompt_ids = await _prompt_ids(engine, request)
        generation = engine.generate(
            prompt_ids, sampling=request.sampling, resume_ids=request.resume_ids, options=request.options
        )
        send = send_whole if request.whole else send_steps
        async with generation as events:
            exchange.start(NDJSON)
            await send(events, exchange, prompt_ids=prompt_ids, finish_line=self._finish_line)

    def _finish_line(self, finish: GenerationFinish) -> bytes:
        replica = self._replica
        event = FinishEvent(
            finish=finish.reason, usage=finish.usage, revision=replica.revision, engine=replica.engine.label
        )
        return encode(event) + b"\n"


async def _prompt_ids(engine: Generates, request: GenerateRequest) -> tuple[int, ...]:
    if request.prompt_ids is not None:
        return request.prompt_ids
    if request.messages is not None:
        return await engine.encode_chat(request.messages, request.options)
    return await engine.encode_prompt(request.prompt or "")


async def _give_up(
    exchange: Exchange, status: HTTPStatus, message: str, *, late: Fault = Fault.PROVIDER
) -> None:
    """Tell the failure: with `status` and the provider's fault before the first event, as an event with `late` after."""
    if not exchange.started:
        exchange.refuse(status, message, fault=Fault.PROVIDER)
    elif not exchange.finished:
        await exchange.finish(encode(ErrorEvent(message=message, fault=late)) + b"\n")


def _deadline_ms(headers: Mapping[str, str]) -> int | None:
    """`X-Deadline-Ms`: milliseconds from now; None when the caller sets none."""
    text = headers.get("x-deadline-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:12]) <= DEADLINE_MS_MAX):
        raise RequestRefused(
            f"X-Deadline-Ms is {text[:20]!r}; it must be 1 to {DEADLINE_MS_MAX}", param="X-Deadline-Ms"
        )
    return int(text)
