"""What can go wrong between us and the chain.

Unavailable
└── RpcError                no usable answer; never evidence that anything did or did not happen
    ├── RpcRefused          the node answered with an error: `code`, `message`, `data`
    ├── RpcUnavailable      no answer in time, or one that is not what the method returns
    │   └── EndpointsDisagree   two endpoints tell different stories of one finalized thing
    └── WrongChain          an endpoint is of another chain than the settings or the other endpoint
DomainError
└── SigningRefused          the policy or the signer will not sign this message
    └── SignerMisconfigured     the key is missing, readable by others, or not the treasury's
"""

from collections.abc import Sequence

from raymart_core.errors import DomainError, Unavailable

MESSAGE_CHARACTERS_MAX = 300


class RpcError(Unavailable):
    """No usable answer from the chain. Stay in the state you are in and ask again."""

    code = "chain_unavailable"


class RpcRefused(RpcError):
    """A node's JSON-RPC error. `rpc_code` is its number, `data` whatever it added: of any type, or None."""

    def __init__(self, *, method: str, endpoint: str, rpc_code: int, message: str, data: object) -> None:
        super().__init__(
            f"{endpoint} refused {method} with {rpc_code}: {printable(message)}; nothing follows from that, ask again"
        )
        self.rpc_code = rpc_code
        self.rpc_message = message
        self.data = data


class RpcUnavailable(RpcError):
    """No answer in time, or an answer of the wrong shape."""


class EndpointsDisagree(RpcUnavailable):
    """The endpoints contradict each other about something finalized; one of them lies or is broken."""


class WrongChain(RpcError):
    """An endpoint serves another chain than it should; nothing may be sent or believed."""


class SigningRefused(DomainError):
    """This message will not be signed; `reasons` names each rule that it breaks."""

    code = "signing_refused"
    status = 409

    def __init__(self, message: str, *, reasons: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class SignerMisconfigured(SigningRefused):
    """There is no usable key; an operator has to act."""


def printable(text: str) -> str:
    """`text` of somebody else on one line of bounded length, without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= MESSAGE_CHARACTERS_MAX else f"{line[:MESSAGE_CHARACTERS_MAX]}..."
