"""`POST /v1/images/generations` and `POST /v1/images/edits`."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator

from starlette.types import Receive, Scope

from raymart_core import clock
from raymart_core.errors import DomainError, InvalidRequest, Unavailable
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.asked_deadline import asked_deadline_s
from raymart_marketplace.gateway.body import header, read_body
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.generation_route import READ_GRACE_S, STREAM_HEADERS
from raymart_marketplace.gateway.images.events import (
    Picture,
    PictureEvent,
    PictureProgress,
    PicturesBroken,
    PicturesFinished,
    PicturesStarted,
)
from raymart_marketplace.gateway.images.headers import headers_of
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.images.openai_body import (
    ParsedImages,
    in_openai_names,
    parse_edit,
    parse_generation,
)
from raymart_marketplace.gateway.images.openai_reply import (
    completed_event,
    datum,
    error_event,
    failure_event,
    progress_event,
    reply_body,
)
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.gateway.served_headers import served_headers
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.objects.store import Objects


class _ImagesRoute(Endpoint):
    """Pictures, streamed or in one piece."""

    method = "POST"

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        images: ImageInference,
        objects: Objects,
        body_bytes_max: int,
        url_ttl_s: float,
    ) -> None:
        super().__init__(authenticator)
        self.headers_of = images.headers_of
        self._images = images
        self._objects = objects
        self._body_bytes_max = body_bytes_max
        self._url_ttl_s = url_ttl_s
        self._limit_s = images.limits.request_deadline_s + READ_GRACE_S

    @abstractmethod
    async def parse(self, scope: Scope, body: bytes) -> ParsedImages:
        """Read the body. Raises: InvalidRequest."""

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request. Raises: whatever `ImageInference.run` raises before its first picture."""
        try:
            await self._served(caller, scope, receive, answer)
        except InvalidRequest as error:
            raise in_openai_names(error) from error

    async def _served(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        body = await read_body(scope, receive, bytes_max=self._body_bytes_max)
        parsed = await self.parse(scope, body)
        events = self._images.run(
            caller,
            parsed.request,
            surface=Surface.REST,
            streamed=parsed.stream,
            keep=parsed.as_url,
            request_id=answer.request_id,
            deadline_s=asked_deadline_s(scope, parsed.timeout_s),
        )
        async with Presence(scope, limit_s=self._limit_s) as presence:
            try:
                if parsed.stream:
                    await self._stream_to_its_end(events, parsed, answer, presence)
                else:
                    await self._reply(events, answer, presence)
            finally:
                await events.aclose()

    async def _reply(
        self, events: AsyncGenerator[PictureEvent, None], answer: Answer, presence: Presence
    ) -> None:
        pictures: list[Picture] = []
        async for event in events:
            if isinstance(event, Picture):
                pictures.append(event)
            elif isinstance(event, PicturesFinished):
                data = [datum(one, await self._url(one)) for one in pictures]
                presence.dismiss()
                # Base64 of many megabytes: not in the event loop.
                body = await asyncio.to_thread(reply_body, data, pictures[0], event)
                await answer.json(body, headers_of(event))

    async def _stream_to_its_end(
        self,
        events: AsyncGenerator[PictureEvent, None],
        parsed: ParsedImages,
        answer: Answer,
        presence: Presence,
    ) -> None:
        """Raises: what fails before anything was sent. After that, steps were told and no picture: an event says why."""
        try:
            await self._stream(events, parsed, answer, presence)
        except DomainError as error:
            if not answer.begun:
                raise
            presence.dismiss()
            await answer.write(failure_event(error, request_id=answer.request_id), more=False)

    async def _stream(
        self,
        events: AsyncGenerator[PictureEvent, None],
        parsed: ParsedImages,
        answer: Answer,
        presence: Presence,
    ) -> None:
        """Server-sent events as they come. A picture waits for the next event: the last one says what all of them cost."""
        created_at = int(clock.now().timestamp())
        waiting: Picture | None = None
        async for event in events:
            if isinstance(event, PicturesStarted):
                # What fails before anything has come still gets a status; who takes over later is not named here.
                if not answer.begun:
                    served = served_headers(event, attempts=event.attempts)
                    await answer.start(200, (*STREAM_HEADERS, *served))
                continue
            if waiting is not None:
                url = await self._url(waiting)
                finished = event if isinstance(event, PicturesFinished) else None
                written = completed_event(
                    parsed.object, waiting, url, created_at=created_at, finished=finished
                )
                await answer.write(written, more=True)
                waiting = None
            if isinstance(event, PictureProgress):
                await answer.write(progress_event(parsed.object, event), more=True)
                continue
            if isinstance(event, Picture):
                waiting = event
                continue
            presence.dismiss()
            await answer.write(error_event(event) if isinstance(event, PicturesBroken) else b"", more=False)

    async def _url(self, picture: Picture) -> str | None:
        if picture.key is None:
            return None
        try:
            return await self._objects.signed_url(picture.key, expires_s=self._url_ttl_s)
        except Unavailable:
            return None  # It is made and paid for: inline, then.


class GenerationsRoute(_ImagesRoute):
    """Pictures of a prompt."""

    async def parse(self, scope: Scope, body: bytes) -> ParsedImages:
        """Read the JSON body. Raises: InvalidRequest."""
        return parse_generation(body)


class EditsRoute(_ImagesRoute):
    """A picture made anew, where its mask says so."""

    async def parse(self, scope: Scope, body: bytes) -> ParsedImages:
        """Read the form. Raises: InvalidRequest."""
        return await parse_edit(body, header(scope, b"content-type"))
