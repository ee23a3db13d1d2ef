"""What the routes that generate text share: from a body to `Inference`, and from its events to one answer or a stream.

A surface says how its body is read and how its answer is written (the abstract methods); the rest is here once: who is
served, what is told in headers, a client that leaves, several choices in one answer.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import ClassVar

from starlette.types import Receive, Scope

from raymart_core.errors import DomainError, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import ZERO
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.answers import Events, Whole, all_whole, whole
from raymart_marketplace.gateway.asked_deadline import asked_deadline_s
from raymart_marketplace.gateway.body import header, read_body
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.chunks import Chunks
from raymart_marketplace.gateway.decision_trace import DecisionTrace
from raymart_marketplace.gateway.endpoint import Answer, Endpoint, Headers
from raymart_marketplace.gateway.events import Delta, Finished, Resumed, Started, Waiting
from raymart_marketplace.gateway.fallbacks import served_by_first
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.merged_stream import MergedStream
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.gateway.response_cache import CACHE_HEADER, asking_for_cached
from raymart_marketplace.gateway.resumption import KEEPALIVE, as_wished
from raymart_marketplace.gateway.served_headers import served_headers
from raymart_marketplace.metering.models import Surface

OUR_HEADERS = b"x-raymart-"
TRACE_HEADER = b"x-raymart-trace"
TRUE = frozenset({b"1", b"true"})
READ_GRACE_S = 5.0
"""How long past the request's deadline a slow client may take to read."""
STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise collect the stream
)


class GenerationRoute(Endpoint):
    """Generates text of a body, streamed or in one piece."""

    method = "POST"
    names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What fields of ours and of replicas are called in this surface's bodies."""

    def __init__(self, authenticator: Authenticator, *, inference: Inference, body_bytes_max: int) -> None:
        super().__init__(authenticator)
        self.headers_of = inference.headers_of
        self._inference = inference
        self._body_bytes_max = body_bytes_max
        self._limit_s = inference.limits.request_deadline_s + READ_GRACE_S

    @abstractmethod
    def parse(self, body: bytes) -> Asked:
        """What `body` asks for. Raises: InvalidRequest, whatever the bytes are."""

    @abstractmethod
    def written(self, asked: Asked, choices: Sequence[Whole | DomainError]) -> bytes:
        """The whole answer; one choice at least is whole."""

    @abstractmethod
    def chunks(self, asked: Asked, started: Started, index: int) -> Chunks:
        """What writes the stream of the choice at `index`."""

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request. Raises: whatever `Inference.run` raises before its first token."""
        try:
            await self._serve(caller, scope, receive, answer)
        except InvalidRequest as error:
            name = self.names.get(error.param or "")
            if name is None:
                raise
            raise InvalidRequest(f"{name}: {error.message}", param=name) from None

    async def _serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        asked = self.parse(await read_body(scope, receive, bytes_max=self._body_bytes_max))
        # Clients send a dozen headers, mostly none for us; each of these looks through all it is given.
        ours: Scope = {"headers": [pair for pair in scope["headers"] if pair[0][:10] == OUR_HEADERS]}
        deadline_s, wants_trace = asked.timeout_s, asked.traced
        if ours["headers"]:
            asked = asking_for_cached(ours, as_wished(asked, ours))
            deadline_s = asked_deadline_s(ours, deadline_s)
            wants_trace = wants_trace or header(ours, TRACE_HEADER) in TRUE
        trace = DecisionTrace() if wants_trace else None
        async with Presence(scope, limit_s=self._limit_s) as presence:
            if len(asked.choices) > 1:
                await self._several(caller, asked, answer, presence, deadline_s=deadline_s, trace=trace)
                return
            if not (asked.stream or asked.fallbacks):
                one = await self._inference.run_whole(
                    caller,
                    asked.request,
                    surface=Surface.REST,
                    request_id=answer.request_id,
                    deadline_s=deadline_s,
                    trace=trace,
                )
                await self._reply(asked, [one], answer, presence, trace=trace)
                return
            events = self._only(caller, asked, answer, deadline_s=deadline_s, trace=trace)
            try:
                if asked.stream:
                    await self._stream(asked, events, answer, presence, trace=trace)
                else:
                    await self._reply(asked, [await whole(events)], answer, presence, trace=trace)
            finally:
                await events.aclose()

    def _only(
        self,
        caller: Caller,
        asked: Asked,
        answer: Answer,
        *,
        deadline_s: float | None,
        trace: DecisionTrace | None,
    ) -> Events:
        if asked.fallbacks:
            return served_by_first(
                self._inference,
                caller,
                (asked.request, *asked.fallbacks),
                surface=Surface.REST,
                streamed=asked.stream,
                request_id=answer.request_id,
                deadline_s=deadline_s,
                trace=trace,
            )
        return self._inference.run(
            caller,
            asked.request,
            surface=Surface.REST,
            streamed=asked.stream,
            request_id=answer.request_id,
            deadline_s=deadline_s,
            trace=trace,
        )

    async def _reply(
        self,
        asked: Asked,
        choices: Sequence[Whole | DomainError],
        answer: Answer,
        presence: Presence,
        *,
        trace: DecisionTrace | None,
    ) -> None:
        """The whole answer at once."""
        done = [choice for choice in choices if isinstance(choice, Whole)]
        presence.dismiss()
        first, cost, attempts = done[0], ZERO, 0
        for choice in done:
            cost = cost + choice.finished.cost if attempts else choice.finished.cost
            attempts += choice.finished.attempts
        answer.request_id = first.started.request_id
        headers = (
            *_headers(first.started, attempts=attempts),
            (b"x-raymart-cost", decimal_text(cost).encode()),
        )
        body = self.written(asked, choices)
        if trace is not None and (field := trace.field()):
            body = b"%b,%b}" % (body[:-1], field)
        await answer.json(body, headers)

    async def _stream(
        self,
        asked: Asked,
        events: Events,
        answer: Answer,
        presence: Presence,
        *,
        trace: DecisionTrace | None,
    ) -> None:
        """Server-sent events as they come; each write waits until the client keeps up."""
        chunks: Chunks | None = None
        pending = b""  # The role's chunk travels with the first text: one write less.
        async for event in events:
            if isinstance(event, Started):
                chunks = self.chunks(asked, event, 0)
                pending = chunks.role()
                await self._begin(answer, event)
                continue
            assert chunks is not None
            if isinstance(event, Delta):
                chunk = pending + chunks.delta(event)
                if chunk:
                    pending = b""
                    await answer.write(chunk, more=True)
            elif isinstance(event, Waiting):
                await answer.write(KEEPALIVE, more=True)
            elif isinstance(event, Resumed):
                chunks.resume(event)
            else:
                presence.dismiss()
                last = chunks.end(event) if isinstance(event, Finished) else chunks.error(event)
                await answer.write(pending + _note(chunks, trace) + last, more=False)

    async def _begin(self, answer: Answer, started: Started) -> None:
        answer.request_id = started.request_id
        await answer.start(200, (*STREAM_HEADERS, *_headers(started, attempts=started.attempts)))

    async def _several(
        self,
        caller: Caller,
        asked: Asked,
        answer: Answer,
        presence: Presence,
        *,
        deadline_s: float | None,
        trace: DecisionTrace | None,
    ) -> None:
        runs = [
            self._inference.run(
                caller,
                request,
                surface=Surface.REST,
                streamed=asked.stream,
                # The first is the one that the answer is named after.
                request_id=new_id() if index else answer.request_id,
                deadline_s=deadline_s,
                trace=None if index else trace,
            )
            for index, request in enumerate(asked.choices)
        ]
        if not asked.stream:
            await self._reply(asked, await all_whole(runs), answer, presence, trace=trace)
            return
        merged = MergedStream(
            partial(self.chunks, asked),
            begin=partial(self._begin, answer),
            write=partial(answer.write, more=True),
        )
        last = await merged.run(runs, note=partial(_note, trace=trace))
        presence.dismiss()
        await answer.write(last, more=False)


def _note(chunks: Chunks, trace: DecisionTrace | None) -> bytes:
    """The chunk that tells how a stream was routed; nothing unless that was asked for."""
    field = b"" if trace is None else trace.field()
    return chunks.note(field) if field else b""


def _headers(started: Started, *, attempts: int) -> Headers:
    """Who serves, and whether that was asked of the response cache."""
    cache = () if started.cache is None else ((CACHE_HEADER, started.cache.encode()),)
    return (*served_headers(started, attempts=attempts), *cache)
