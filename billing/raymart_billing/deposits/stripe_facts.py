"""What we read out of Stripe's objects: a few ids, whole amounts and words, and nothing about a person or a card.

An object is the same whether an event carries it or the API returns it, so both ways in share this file. Shapes are
checked strictly: an amount that is no whole number, or a missing id, is a problem to look at and never a guess.

Source: docs.stripe.com/api, objects checkout.session, charge, refund, dispute, event.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from raymart_billing.deposits.models import DisputeStage
from raymart_core.errors import DomainError
from raymart_core.money import Asset, Money

CURRENCY = "usd"
NANO_USD_PER_CENT = 10_000_000
Cents = Annotated[int, msgspec.Meta(ge=0, le=10**11)]
"""At most a billion dollars: what is more is no top-up, and its nano-USD would come near a bigint's end."""
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Word = Annotated[str, msgspec.Meta(max_length=100)]
Shape = TypeVar("Shape")

STAGES = {
    "warning_needs_response": DisputeStage.INQUIRY,
    "warning_under_review": DisputeStage.INQUIRY,
    "warning_closed": DisputeStage.INQUIRY,
    "needs_response": DisputeStage.OPEN,
    "under_review": DisputeStage.OPEN,
    "won": DisputeStage.WON,
    "lost": DisputeStage.LOST,
}
"""Stripe's `status` of a dispute to what it means for money."""
STATUS_ORDER = tuple(STAGES)
"""From the first to the last that a dispute can go through."""


class Malformed(DomainError):
    """An object of Stripe that is not what its documentation says."""

    code = "upstream_failed"
    status = 502


class CheckoutFact(msgspec.Struct, frozen=True, tag="checkout", kw_only=True):
    """How a checkout session stands."""

    session_id: str
    deposit_id: str | None
    """What the session says it belongs to; a hint, never proof."""
    payment_id: str | None
    outcome: Literal["open", "paid", "failed", "expired"]
    amount: int
    currency: str


class ChargeFact(msgspec.Struct, frozen=True, tag="charge", kw_only=True):
    """What became of the money of a payment."""

    payment_id: str
    charge_id: str
    currency: str
    refunded_amount: int
    fee_amount: int | None


class RefundFact(msgspec.Struct, frozen=True, tag="refund", kw_only=True):
    """How one refund stands."""

    refund_id: str
    payment_id: str
    status: str
    amount: int
    currency: str
    reference: str | None
    """Our refund that it says it belongs to."""


class DisputeFact(msgspec.Struct, frozen=True, tag="dispute", kw_only=True):
    """How a bank's dispute stands."""

    dispute_id: str
    payment_id: str
    charge_id: str
    amount: int
    currency: str
    status: str
    reason: str
    fee_amount: int
    evidence_due_at: int | None


Fact = CheckoutFact | ChargeFact | RefundFact | DisputeFact


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Stripe's envelope."""

    id: Id
    type: Id
    created: Annotated[int, msgspec.Meta(ge=0, le=10**11)]
    data: dict[str, Any]

    @property
    def occurred_at(self) -> datetime:
        """By Stripe's clock."""
        return datetime.fromtimestamp(self.created, UTC)

    @property
    def thing(self) -> dict[str, Any]:
        """The object that changed, as it was then."""
        found = self.data.get("object")
        return found if isinstance(found, dict) else {}

    @property
    def object_id(self) -> str:
        """The object's id; empty when it has none."""
        found = self.thing.get("id")
        return found[:255] if isinstance(found, str) else ""


class _BalanceTransaction(msgspec.Struct):
    id: Id
    fee: int = 0
    currency: Word = CURRENCY


class _Charge(msgspec.Struct):
    id: Id
    currency: Word
    amount_refunded: Cents
    payment_intent: "Id | _Payment | None" = None
    balance_transaction: Id | _BalanceTransaction | None = None


class _Payment(msgspec.Struct):
    id: Id
    latest_charge: Id | _Charge | None = None


class _Checkout(msgspec.Struct):
    id: Id
    amount_total: Cents
    currency: Word
    payment_status: Literal["paid", "unpaid", "no_payment_required"]
    status: Literal["open", "complete", "expired"] | None = None
    payment_intent: Id | _Payment | None = None
    client_reference_id: Word | None = None


class _Refund(msgspec.Struct):
    id: Id
    amount: Cents
    currency: Word
    status: Word | None
    payment_intent: Id | _Payment | None = None
    metadata: dict[str, str] | None = None


class _EvidenceDetails(msgspec.Struct):
    due_by: Annotated[int, msgspec.Meta(ge=0, le=10**11)] | None = None


class _Dispute(msgspec.Struct):
    id: Id
    amount: Annotated[int, msgspec.Meta(ge=1, le=10**11)]
    currency: Word
    status: Word
    reason: Word
    charge: Id | _Charge
    payment_intent: Id | _Payment | None = None
    balance_transactions: list[_BalanceTransaction] = []
    evidence_details: _EvidenceDetails | None = None


REFUND_REFERENCE = "raymart_refund"
"""Key of our refund's id in the metadata of Stripe's."""
_CHECKOUTS = {
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
}
_REFUNDS = {"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"}
_DISPUTES = {
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
}
EVENT_TYPES = tuple(sorted({*_CHECKOUTS, *_REFUNDS, *_DISPUTES, "charge.refunded"}))
"""What our webhook endpoint must be subscribed to."""


def fact_of(event: Event) -> Fact | None:
    """What `event` tells us; None for another kind of event, or of a payment that no checkout made. Raises: Malformed."""
    if event.type in _CHECKOUTS:
        fact = read_checkout(event.thing)
        if event.type == "checkout.session.async_payment_failed":
            return msgspec.structs.replace(fact, outcome="failed")
        return fact
    if event.type in _DISPUTES:
        return read_dispute(event.thing)
    if event.type in _REFUNDS:
        return read_refund(event.thing)
    return read_charge(event.thing) if event.type == "charge.refunded" else None


def read_checkout(thing: dict[str, Any]) -> CheckoutFact:
    """A checkout.session. Raises: Malformed."""
    found = _read(thing, _Checkout)
    outcome: Literal["open", "paid", "failed", "expired"] = "open"
    if found.payment_status == "paid":
        outcome = "paid"
    elif found.status == "expired":
        outcome = "expired"
    return CheckoutFact(
        session_id=found.id,
        deposit_id=found.client_reference_id,
        payment_id=_id_of(found.payment_intent),
        outcome=outcome,
        amount=found.amount_total,
        currency=found.currency,
    )


def read_charge(thing: dict[str, Any]) -> ChargeFact | None:
    """A charge; None when no payment intent made it, as ours always does. Raises: Malformed."""
    return _charge_fact(_read(thing, _Charge))


def charge_of_checkout(thing: dict[str, Any]) -> ChargeFact | None:
    """The charge inside a checkout.session that was fetched with its payment expanded. Raises: Malformed."""
    payment = _read(thing, _Checkout).payment_intent
    if not isinstance(payment, _Payment) or not isinstance(payment.latest_charge, _Charge):
        return None
    return _charge_fact(payment.latest_charge, payment_id=payment.id)


def read_refund(thing: dict[str, Any]) -> RefundFact | None:
    """A refund; None when it is of no payment intent. Raises: Malformed."""
    found = _read(thing, _Refund)
    payment_id = _id_of(found.payment_intent)
    if payment_id is None:
        return None
    return RefundFact(
        refund_id=found.id,
        payment_id=payment_id,
        status=found.status or "pending",
        amount=found.amount,
        currency=found.currency,
        reference=(found.metadata or {}).get(REFUND_REFERENCE),
    )


def read_dispute(thing: dict[str, Any]) -> DisputeFact | None:
    """A dispute; None when it is of no payment intent. Raises: Malformed, for an unknown status too."""
    found = _read(thing, _Dispute)
    payment_id = _id_of(found.payment_intent)
    if payment_id is None:
        return None
    if found.status not in STAGES:
        raise Malformed(f"dispute {found.id} has the status {found.status!r}; known are {', '.join(STAGES)}")
    charge_id = _id_of(found.charge)
    assert charge_id is not None, "a dispute is of a charge"
    return DisputeFact(
        dispute_id=found.id,
        payment_id=payment_id,
        charge_id=charge_id,
        amount=found.amount,
        currency=found.currency,
        status=found.status,
        reason=found.reason,
        # A won dispute may give its fee back, as a negative fee: what it has cost is what is left.
        fee_amount=max(0, sum(entry.fee for entry in found.balance_transactions)),
        evidence_due_at=found.evidence_details.due_by if found.evidence_details else None,
    )


def nano_usd_of(cents: int) -> int:
    """Whole cents in nano-USD, exact."""
    return cents * NANO_USD_PER_CENT


def cents_of(amount: Money) -> int:
    """`amount` in cents. Programmer error unless it is whole cents of dollars."""
    cents, rest = divmod(amount.amount, NANO_USD_PER_CENT)
    assert amount.asset is Asset.USD, f"{amount} is not in dollars"
    assert rest == 0, f"{amount} is no whole number of cents"
    return cents


def _charge_fact(found: _Charge, *, payment_id: str | None = None) -> ChargeFact | None:
    payment_id = payment_id or _id_of(found.payment_intent)
    if payment_id is None:
        return None
    entry = found.balance_transaction
    has_fee = isinstance(entry, _BalanceTransaction) and entry.currency == CURRENCY and entry.fee >= 0
    return ChargeFact(
        payment_id=payment_id,
        charge_id=found.id,
        currency=found.currency,
        refunded_amount=found.amount_refunded,
        fee_amount=entry.fee if isinstance(entry, _BalanceTransaction) and has_fee else None,
    )


def _id_of(reference: str | _Payment | _Charge | None) -> str | None:
    """An id, whether Stripe sent it alone or with its object."""
    return reference if reference is None or isinstance(reference, str) else reference.id


def _read(thing: dict[str, Any], shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(thing, shape)
    except msgspec.ValidationError as error:
        kind = thing.get("object", "object")
        raise Malformed(f"Stripe's {kind!s:.40} is not as documented: {error}") from None
