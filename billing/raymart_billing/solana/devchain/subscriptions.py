"""What a WebSocket connection has asked to be told: signatures, accounts, slots."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from solders.account import Account
from solders.pubkey import Pubkey

from raymart_billing.solana.devchain.chain import Commitment
from raymart_billing.solana.devchain.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from raymart_billing.solana.devchain.params import Config, Params
from raymart_billing.solana.devchain.shapes import Shape, account_shape
from raymart_billing.solana.devchain.view import NodeView

SUBSCRIPTIONS_MAX: Final = 1_000
"""Of one connection."""


@dataclass(slots=True)
class _Signature:
    signature: str
    commitment: Commitment


@dataclass(slots=True)
class _Account:
    address: Pubkey
    commitment: Commitment
    config: Config
    last: Account | None


@dataclass(slots=True)
class _Slot:
    last: int


_Subscription = _Signature | _Account | _Slot


class Subscriptions:
    """Of one connection. `respond` answers its requests, `news` says what has happened since it was last asked."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._ids = count(1)
        self._open: dict[int, _Subscription] = {}

    def __len__(self) -> int:
        return len(self._open)

    def respond(self, method: str, params: Params) -> object:
        """The result of one request. Raises: RpcError."""
        if method in ("signatureUnsubscribe", "accountUnsubscribe", "slotUnsubscribe"):
            if self._open.pop(params.number(0), None) is None:
                raise RpcError(INVALID_PARAMS, "Invalid subscription id.")
            return True
        opened = self._opened(method, params)
        if len(self._open) >= SUBSCRIPTIONS_MAX:
            raise RpcError(INVALID_PARAMS, f"a connection has at most {SUBSCRIPTIONS_MAX} subscriptions")
        number = next(self._ids)
        self._open[number] = opened
        return number

    def _opened(self, method: str, params: Params) -> _Subscription:
        match method:
            case "signatureSubscribe":
                return _Signature(params.signature(0), params.config(1).commitment())
            case "accountSubscribe":
                config = params.config(1)
                address, commitment = params.address(0), config.commitment()
                last = self._view.account(address, slot=self._view.slot(commitment))
                return _Account(address, commitment, config, last)
            case "slotSubscribe":
                return _Slot(self._view.slot("processed"))
        raise RpcError(METHOD_NOT_FOUND, "Method not found")

    def news(self) -> Iterator[Shape]:
        """Notifications that are due, in the order of the subscriptions."""
        for number, subscription in list(self._open.items()):
            result = self._news_of(subscription)
            if result is not None:
                if isinstance(subscription, _Signature):
                    # A signature has one end, and its subscription with it.
                    del self._open[number]
                params = {"result": result, "subscription": number}
                yield {"jsonrpc": "2.0", "method": _NOTIFICATIONS[type(subscription)], "params": params}

    def _news_of(self, subscription: _Subscription) -> Shape | None:
        match subscription:
            case _Signature():
                return self._signature_news(subscription)
            case _Account():
                return self._account_news(subscription)
            case _Slot():
                return self._slot_news(subscription)

    def _signature_news(self, subscription: _Signature) -> Shape | None:
        landed = self._view.landed(subscription.signature)
        if landed is None or not self._view.has_reached(landed, subscription.commitment):
            return None
        return self._view.answer({"err": landed.execution.error}, slot=landed.slot)

    def _account_news(self, subscription: _Account) -> Shape | None:
        slot = self._view.slot(subscription.commitment)
        account = self._view.account(subscription.address, slot=slot)
        if account == subscription.last:
            return None
        subscription.last = account
        # An account that is gone is shown as an empty one of the System program.
        shown = account or Account(0, b"", Pubkey.default())
        return self._view.answer(account_shape(shown, subscription.config), slot=slot)

    def _slot_news(self, subscription: _Slot) -> Shape | None:
        slot = self._view.slot("processed")
        if slot == subscription.last:
            return None
        parent, subscription.last = subscription.last, slot
        return {"parent": parent, "root": self._view.slot("finalized"), "slot": slot}


_NOTIFICATIONS: Final[Mapping[type[_Subscription], str]] = {
    _Signature: "signatureNotification",
    _Account: "accountNotification",
    _Slot: "slotNotification",
}
