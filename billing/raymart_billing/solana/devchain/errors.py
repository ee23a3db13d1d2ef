"""What a node answers when it does not do what it was asked: JSON-RPC errors with Solana's codes and words.

RaymartError
└── RpcError        what goes over the wire: `code`, `message`, `data`

NodeUnavailable     (a ConnectionError) there is no answer at all

Source: `RpcCustomError` of Agave's rpc-client-api.
"""

from typing import Final

from raymart_core.errors import RaymartError

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
PREFLIGHT_FAILED: Final = -32002
SIGNATURE_FAILED: Final = -32003
NODE_BEHIND: Final = -32005
VERSION_UNSUPPORTED: Final = -32015
CONTEXT_SLOT_NOT_REACHED: Final = -32016


class RpcError(RaymartError):
    """A refusal in the shape that goes over the wire; `data` is left out when it is None."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, object]:
        """The `error` member of the response."""
        shape: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            shape["data"] = self.data
        return shape


class NodeUnavailable(ConnectionError):
    """The node gave no answer: what a request meets whose connection breaks."""
