"""What is said to a client whose bytes are no request that could be given to an application."""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from raymart_core.ids import Prefix, new_id, show


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is closed without serving what came."""

    status: HTTPStatus
    code: str
    message: str

    def answer(self, common: bytes) -> bytes:
        """The whole answer, an error in OpenAI's shape. `common` are header lines of every answer."""
        error = {"message": self.message, "type": "invalid_request_error", "param": None, "code": self.code}
        body = msgspec.json.encode({"error": error})
        return (
            b"HTTP/1.1 %d %b\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-request-id: %b\r\nconnection: close\r\n\r\n%b"
        ) % (
            self.status,
            self.status.phrase.encode(),
            common,
            len(body),
            show(Prefix.REQUEST, new_id()).encode(),
            body,
        )


class RequestRefused(Exception):
    """Raised within the parser's callbacks, which ends its work."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


BAD_REQUEST = Refusal(
    HTTPStatus.BAD_REQUEST, "bad_request", "this is no HTTP/1.1 request that every server would read alike"
)
HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    "request line and headers are larger than this server reads",
)
TOO_MANY_AHEAD = Refusal(
    HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_pipelined",
    "too many requests ahead of their answers; wait for some",
)
