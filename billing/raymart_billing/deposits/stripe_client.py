"""Stripe's API as deposits need it: a handful of calls, each bounded in time, none inside a transaction.

The library is blocking (its asynchronous half needs an HTTP client that we do not ship), so calls run on a few threads
of their own. Every call that changes something carries an idempotency key made of our row's id: a repeat, whoever makes
it and whenever within Stripe's 24 hours, has one effect and gets the first answer again.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import structlog

from raymart_billing.deposits.stripe_facts import (
    CURRENCY,
    EVENT_TYPES,
    REFUND_REFERENCE,
    ChargeFact,
    CheckoutFact,
    Event,
    RefundFact,
    charge_of_checkout,
    read_checkout,
    read_refund,
)
from raymart_core.errors import DomainError, Overloaded, Unavailable, UpstreamFailed

if TYPE_CHECKING:
    from stripe import StripeError

log = structlog.get_logger()

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 3.05, 10.0
RETRIES_MAX = 2
"""By the library, for lost connections, conflicts and 5xx, half a second and more apart; safe by the keys."""
CALLS_MAX = 4
CALL_TIMEOUT_S = 45.0
"""One call with all its retries."""
QUEUE_TIMEOUT_S = 5.0
PAGE_SIZE = 100
Answer = TypeVar("Answer")


class Refused(UpstreamFailed):
    """Stripe understood the request and will not do it: a repeat would be refused again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutPage:
    """Where a customer pays."""

    session_id: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutOrder:
    """What a checkout page is to ask for."""

    deposit_id: UUID
    organization_id: UUID
    amount_cents: int
    expires_at: datetime
    success_url: str
    cancel_url: str


class StripeProcessor:
    """Stripe, by its API at `api_base`. Close it when the process ends."""

    def __init__(self, api_key: str, *, api_base: str) -> None:
        # With `requests` and what that needs, 10 MB, which only a marketplace that takes cards is to have.
        import stripe  # noqa: PLC0415
        from stripe import RequestsClient, StripeClient  # noqa: PLC0415

        # It would write a file into the user's home and send it with every request.
        stripe.enable_telemetry = False
        self._stripe = StripeClient(
            api_key,
            base_addresses={"api": api_base},
            max_network_retries=RETRIES_MAX,
            http_client=RequestsClient(timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)),
        )
        self._threads = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="stripe")
        self._free = asyncio.Semaphore(CALLS_MAX)

    def close(self) -> None:
        """Let go of the threads; calls that are under way end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def create_checkout(self, order: CheckoutOrder) -> CheckoutPage:
        """The page on which to pay `order`; a repeat gives the same page. Raises: Refused, Unavailable, Overloaded."""
        made = await self._call(
            "checkout.create",
            lambda: self._stripe.v1.checkout.sessions.create(
                params={
                    "mode": "payment",
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": CURRENCY,
                                "unit_amount": order.amount_cents,
                                "product_data": {"name": "Raymart credit"},
                            },
                        }
                    ],
                    "client_reference_id": order.deposit_id.hex,
                    "metadata": _metadata(order),
                    "payment_intent_data": {"metadata": _metadata(order)},
                    "expires_at": int(order.expires_at.timestamp()),
                    "success_url": order.success_url,
                    "cancel_url": order.cancel_url,
                },
                options={"idempotency_key": f"deposit-{order.deposit_id.hex}"},
            ),
        )
        if not isinstance(made.url, str):
            raise Refused(f"Stripe made the checkout session {made.id} without a page; try again")
        return CheckoutPage(session_id=made.id, url=made.url)

    async def checkout(self, session_id: str) -> tuple[CheckoutFact, ChargeFact | None]:
        """How the session stands, and its charge with the fee when there is one. Raises: as `create_checkout`."""
        found = await self._call(
            "checkout.retrieve",
            lambda: self._stripe.v1.checkout.sessions.retrieve(
                session_id, params={"expand": ["payment_intent.latest_charge.balance_transaction"]}
            ),
        )
        thing = found.to_dict()
        return read_checkout(thing), charge_of_checkout(thing)

    async def refund(self, refund_id: UUID, *, payment_id: str, amount_cents: int) -> RefundFact:
        """Pay part of a payment back; a repeat with the same `refund_id` pays once. Raises: as `create_checkout`."""
        made = await self._call(
            "refund.create",
            lambda: self._stripe.v1.refunds.create(
                params={
                    "payment_intent": payment_id,
                    "amount": amount_cents,
                    "metadata": {REFUND_REFERENCE: refund_id.hex},
                },
                options={"idempotency_key": f"refund-{refund_id.hex}"},
            ),
        )
        return _own_refund(made.to_dict())

    async def find_refund(self, refund_id: UUID, *, payment_id: str) -> RefundFact | None:
        """The refund that an earlier `refund` made, whatever became of its answer. Raises: as `create_checkout`."""
        found = await self._call(
            "refund.list",
            lambda: self._stripe.v1.refunds.list(params={"payment_intent": payment_id, "limit": PAGE_SIZE}),
        )
        facts = [_own_refund(entry.to_dict()) for entry in found.data]
        return next((fact for fact in facts if fact.reference == refund_id.hex), None)

    async def events(self, *, since: datetime, until: datetime, pages_max: int) -> Sequence[Event]:
        """Events of the kinds we use between two moments, newest first.

        Raises: as `create_checkout`; Unavailable also when there are more than `pages_max` pages of 100.
        """
        found: list[Event] = []
        params: dict[str, Any] = {
            "types": list(EVENT_TYPES),
            "created": {"gte": int(since.timestamp()), "lte": int(until.timestamp()) + 1},
            "limit": PAGE_SIZE,
        }
        for _ in range(pages_max):
            page = await self._call(
                "event.list",
                partial(self._stripe.v1.events.list, params),  # type: ignore[arg-type]  # a typed dict made in steps
            )
            found += [_event(entry.to_dict()) for entry in page.data]
            if not page.has_more or not found:
                return found
            params = {**params, "starting_after": found[-1].id}
        raise Unavailable(
            f"Stripe lists more than {pages_max * PAGE_SIZE} events from {since:%Y-%m-%d %H:%M} to "
            f"{until:%Y-%m-%d %H:%M}; replay a shorter time"
        )

    async def _call(self, name: str, work: Callable[[], Answer]) -> Answer:
        """Run `work` on a thread of ours and tell its failures apart: ours to repeat, or Stripe's last word."""
        from stripe import StripeError  # noqa: PLC0415 - imported when this was made

        try:
            async with asyncio.timeout(QUEUE_TIMEOUT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded("the card processor is busy; try again", retry_after_s=5) from None
        # The place is given back when the thread is free, not when the caller stops waiting for it.
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(lambda _: self._free.release())
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await asyncio.shield(future)
        except TimeoutError:
            future.add_done_callback(_retrieve)
            raise Unavailable("the card processor did not answer; nothing is lost, try again") from None
        except StripeError as error:
            raise _translated(name, error) from error


def _retrieve(future: "asyncio.Future[Any]") -> None:
    """Look at the outcome of a call that nobody waits for, so that asyncio does not complain that nobody did."""
    if not future.cancelled():
        future.exception()


def _translated(name: str, error: "StripeError") -> DomainError:
    """`error` as our own kinds; Stripe's words are logged, with no customer in them, and shown only when they help."""
    import stripe  # noqa: PLC0415 - imported when the processor was made

    log.warning(
        "stripe.failed",
        call=name,
        kind=type(error).__name__,
        status=error.http_status,
        code=error.code,
        request_id=error.request_id,
    )
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        # A wrong key of ours is mended by us, and the deposit can then go on: it is no refusal of the deposit.
        return Unavailable(
            "card top-ups are out of order for the moment; nothing was charged, try again later"
        )
    if isinstance(error, stripe.InvalidRequestError | stripe.CardError | stripe.IdempotencyError):
        return Refused(f"the card processor refused: {error.user_message or error.code or 'no reason given'}")
    return Unavailable("the card processor is away for the moment; nothing is lost, try again")


def _metadata(order: CheckoutOrder) -> dict[str, str]:
    return {
        "raymart_deposit": order.deposit_id.hex,
        "raymart_organization": order.organization_id.hex,
    }


def _own_refund(thing: dict[str, Any]) -> RefundFact:
    fact = read_refund(thing)
    if fact is None:
        raise Refused("Stripe answered with a refund of no payment")
    return fact


def _event(thing: dict[str, Any]) -> Event:
    return Event(id=thing["id"], type=thing["type"], created=thing["created"], data=thing["data"])
