"""`POST /v1/chat/completions`: from OpenAI's body to `Inference`, and from its events to JSON or a stream."""

from collections.abc import AsyncGenerator

from starlette.types import Receive, Scope

from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.body import read_body
from raymart_marketplace.gateway.endpoint import Answer, Endpoint, Headers
from raymart_marketplace.gateway.events import Broken, Delta, Finished, InferenceEvent, Started
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.openai_reply import completion_body
from raymart_marketplace.gateway.openai_stream import ChatStream
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.gateway.request import parse_chat
from raymart_marketplace.metering.models import Surface

READ_GRACE_S = 5.0
"""How long past the request's deadline a slow client may take to read."""
STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise collect the stream
)


class ChatCompletionsRoute(Endpoint):
    """Chat completions, streamed or in one piece."""

    method = "POST"

    def __init__(self, authenticator: Authenticator, *, inference: Inference, body_bytes_max: int) -> None:
        super().__init__(authenticator)
        self._inference = inference
        self._body_bytes_max = body_bytes_max
        self._limit_s = inference.limits.request_deadline_s + READ_GRACE_S

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one chat request. Raises: whatever `Inference.run` raises before its first token."""
        parsed = parse_chat(await read_body(scope, receive, bytes_max=self._body_bytes_max))
        events = self._inference.run(
            caller, parsed.request, surface=Surface.REST, streamed=parsed.stream, request_id=answer.request_id
        )
        async with Presence(receive, limit_s=self._limit_s) as presence:
            try:
                if parsed.stream:
                    await _stream(events, answer, presence, include_usage=parsed.include_usage)
                else:
                    await _reply(events, answer, presence)
            finally:
                await events.aclose()


async def _reply(events: AsyncGenerator[InferenceEvent, None], answer: Answer, presence: Presence) -> None:
    """The whole answer at once. Raises: the error of a request that broke, because nothing has been sent yet."""
    started: Started | None = None
    whole = Delta(text="", token_ids=())
    async for event in events:
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Delta):  # There is one at most: nothing is streamed.
            whole = event
        elif isinstance(event, Broken):
            raise event.error
        else:
            assert started is not None
            presence.dismiss()
            headers = (
                (b"x-raymart-provider", event.provider.encode()),
                (b"x-raymart-attempts", str(event.attempts).encode()),
                (b"x-raymart-cost", decimal_text(event.cost).encode()),
            )
            await answer.json(completion_body(started, whole, event), headers)


async def _stream(
    events: AsyncGenerator[InferenceEvent, None], answer: Answer, presence: Presence, *, include_usage: bool
) -> None:
    """Server-sent events as they come; each write waits until the client keeps up."""
    stream: ChatStream | None = None
    pending = b""  # The role's chunk travels with the first text: one write less.
    async for event in events:
        if isinstance(event, Started):
            stream = ChatStream(event, include_usage=include_usage)
            pending = stream.role()
            headers = (
                (b"x-raymart-provider", event.provider.encode()),
                (b"x-raymart-attempts", str(event.attempts).encode()),
            )
            await answer.start(200, (*STREAM_HEADERS, *headers))
            continue
        assert stream is not None
        if isinstance(event, Delta):
            chunk = pending + stream.delta(event)
            if chunk:
                pending = b""
                await answer.write(chunk, more=True)
        else:
            presence.dismiss()
            last = stream.end(event) if isinstance(event, Finished) else stream.error(event)
            await answer.write(pending + last, more=False)
