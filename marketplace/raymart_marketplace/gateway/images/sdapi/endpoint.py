"""What the routes of AUTOMATIC1111 share: HTTP Basic beside Bearer, and errors that its clients can show."""

import base64
import binascii

import msgspec
from starlette.types import Scope, Send

from raymart_core.errors import DomainError, NotAuthenticated
from raymart_core.ids import Prefix, show
from raymart_marketplace.gateway.body import header
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.error_reply import ErrorObject, error_object
from raymart_marketplace.gateway.retry_after import retry_after_s


class ErrorDetail(msgspec.Struct):
    """Our error object, with what AUTOMATIC1111's clients look for."""

    error: ErrorObject
    detail: str
    body: str = ""
    errors: str = ""


class SdapiAnswer(Answer):
    """Errors have `detail` beside `error`."""

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self._send_it = send

    async def fail(self, error: DomainError) -> None:
        """Send `error` instead of an answer."""
        shown = error_object(error, request_id=self.request_id)
        body = msgspec.json.encode(ErrorDetail(error=shown, detail=error.message, errors=error.message))
        headers = [
            *(() if self.headers_of_caller is None else self.headers_of_caller()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", show(Prefix.REQUEST, self.request_id).encode()),
        ]
        if isinstance(error, NotAuthenticated):
            headers.append(
                (b"www-authenticate", b'Basic realm="Raymart: any user, your API key as the password"')
            )
        seconds = retry_after_s(error)
        if seconds is not None:
            headers.append((b"retry-after", b"%d" % seconds))
        await self._send_it({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send_it({"type": "http.response.body", "body": body})


class SdapiEndpoint(Endpoint):
    """A route of AUTOMATIC1111's."""

    def answer(self, send: Send) -> Answer:
        """What is written with."""
        return SdapiAnswer(send)

    def credential(self, scope: Scope) -> bytes | None:
        """Bearer as everywhere, or Basic with any user and the key as its password. Source: RFC 7617."""
        given = header(scope, b"authorization")
        if given is None or given[:6].lower() != b"basic ":
            return given
        try:
            _, _, password = base64.b64decode(given[6:].strip(), validate=True).partition(b":")
        except binascii.Error:
            return b"Bearer "
        return b"Bearer " + password
