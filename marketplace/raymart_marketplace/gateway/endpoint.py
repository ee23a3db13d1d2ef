"""What every /v1 route shares: an id for the request, authentication, and errors in OpenAI's shape."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar
from uuid import UUID

from starlette.types import Receive, Scope, Send

from raymart_core.errors import DomainError
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.body import ClientLeft, header
from raymart_marketplace.gateway.error_reply import MethodNotAllowed, internal_error, send_error

Headers = Sequence[tuple[bytes, bytes]]


class Answer:
    """The answer to one request, as far as it has been sent."""

    def __init__(self, send: Send) -> None:
        self.request_id: UUID = new_id()
        """Ours: a client's own x-request-id could collide with another's."""
        self.begun = False
        """Whether a status has been sent; from then on an error can only cut the answer short."""
        self.headers_of_caller: Callable[[], Headers] | None = None
        """What every answer to this caller has; asked for when the head is sent."""
        self._send = send

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head."""
        self.begun = True
        request_id = (b"x-request-id", show(Prefix.REQUEST, self.request_id).encode())
        of_caller = () if self.headers_of_caller is None else self.headers_of_caller()
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, request_id, *of_caller],
            }
        )

    async def write(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def json(self, body: bytes, headers: Headers = ()) -> None:
        """Send a whole JSON body with status 200."""
        length = str(len(body)).encode()
        await self.start(200, [(b"content-type", b"application/json"), (b"content-length", length), *headers])
        await self.write(body, more=False)

    async def fail(self, error: DomainError) -> None:
        """Send `error` instead of an answer."""
        of_caller = () if self.headers_of_caller is None else self.headers_of_caller()
        await send_error(self._send, error, request_id=self.request_id, headers=of_caller)


class Endpoint(ABC):
    """A route as a raw ASGI application: nothing between the server and `serve`."""

    method: ClassVar[str]
    headers_of: Callable[[Caller], Headers] | None = None
    """How a caller's limits stand, for each answer to it; None where an answer tells nothing of that."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every error that may be shown is sent in OpenAI's shape."""
        answer = self.answer(send)
        try:
            if scope["method"] != self.method:
                raise MethodNotAllowed(f"{scope['method']} is not allowed here; use {self.method}")
            caller = await self._authenticator.caller(self.credential(scope))
            if self.headers_of is not None:
                answer.headers_of_caller = partial(self.headers_of, caller)
            await self.serve(caller, scope, receive, answer)
        except ClientLeft:
            return
        except DomainError as error:
            if answer.begun:
                raise
            await answer.fail(error)
        except Exception as error:
            if answer.begun:
                raise
            await answer.fail(internal_error(error, request_id=answer.request_id))

    def answer(self, send: Send) -> Answer:
        """What is written with; another one has errors in another shape."""
        return Answer(send)

    def credential(self, scope: Scope) -> bytes | None:
        """Who asks: the value of an `Authorization` header of the scheme Bearer."""
        return header(scope, b"authorization")

    @abstractmethod
    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer an authenticated request."""
