"""A part of a batch against its transaction on chain, and against its own items, attempts and transfers. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from raymart_billing.ledger.models import TransferCode
from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import (
    NANO_USD_PER_MICRO_USDC,
    BookedItem,
    BookedPart,
    Purpose,
    TreasuryTransaction,
)

GRACE = timedelta(minutes=10)
"""A landing younger than this may still be on its way into our rows."""

_TRANSFERS: Mapping[str, TransferCode] = {
    "sent": TransferCode.PAYOUT_SENT,
    "settled": TransferCode.PAYOUT_SETTLED,
    "returned": TransferCode.PAYOUT_RETURNED,
}
_TRANSFERS_OF_STATE: Mapping[str, Sequence[frozenset[str]]] = {
    "planned": (frozenset({"sent"}),),
    "paid": (frozenset({"sent", "settled"}),),
    # Quarantined first, given back by the next step.
    "quarantined": (frozenset({"sent"}), frozenset({"sent", "returned"})),
    "returned": (frozenset({"sent", "returned"}),),
}


def compare_part(
    part: BookedPart, landings: Sequence[TreasuryTransaction], *, has_marker: bool, now: datetime
) -> Iterator[Difference]:
    """What does not agree between `part` and the chain, and within `part`.

    `landings`: the finalized transactions without an error that are the part's, by their signature or its marker, read
    after the part; `has_marker`: whether its marker exists at finalized, read between the two.
    """
    yield from _landing(part, landings, now=now)
    yield from _marker(part, landings, has_marker=has_marker, now=now)
    if landings:
        yield from _facts(part, landings[0])
        yield from _payees(part, landings[0])
    yield from _total(part)
    yield from _attempts(part, landings)
    for item in part.items:
        yield from compare_item(item, is_finalized=part.is_finalized)


def compare_item(item: BookedItem, *, is_finalized: bool) -> Iterator[Difference]:
    """An item against the state of its part and against its transfers."""
    expected = "paid" if is_finalized else "planned"
    if item.is_payee and item.state != expected:
        yield _of_item(item, DifferenceKind.ITEM_STATE, expected=expected, found=item.state)
    # A refunded deposit was never somebody's earning: its transfers are its own part's.
    if item.provider_id is not None:
        yield from _ledger(item)


def is_young(landing: TreasuryTransaction, now: datetime) -> bool:
    """Whether our rows may not know of it yet."""
    return landing.at is not None and now - landing.at < GRACE


def _landing(
    part: BookedPart, landings: Sequence[TreasuryTransaction], *, now: datetime
) -> Iterator[Difference]:
    signatures = ", ".join(landing.signature for landing in landings)
    if len(landings) > 1:
        yield _of_part(
            part, DifferenceKind.LANDED_TWICE, expected="one finalized transaction", found=signatures
        )
    if part.is_finalized and not landings:
        yield _of_part(
            part,
            DifferenceKind.FINALIZED_NOT_LANDED,
            expected=f"finalized transaction {part.signature}",
            found="none on chain",
        )
    if landings and not part.is_finalized and not any(is_young(landing, now) for landing in landings):
        yield _of_part(
            part,
            DifferenceKind.LANDED_NOT_FINALIZED,
            expected=f"finalized, by {signatures}",
            found=part.state,
        )


def _marker(
    part: BookedPart, landings: Sequence[TreasuryTransaction], *, has_marker: bool, now: datetime
) -> Iterator[Difference]:
    if part.marker is not None and part.expected_marker not in {None, part.marker}:
        yield _of_part(
            part, DifferenceKind.MARKER, expected=str(part.expected_marker), found=str(part.marker)
        )
    for landing in landings:
        if part.marker is not None and part.marker not in landing.accounts:
            yield _of_part(
                part,
                DifferenceKind.MARKER,
                expected=f"{part.marker} made by {landing.signature}",
                found="not named there",
            )
    if has_marker and not landings and not _may_be_burnt(part):
        yield _of_part(
            part, DifferenceKind.MARKER, expected="no marker without a payment", found=f"{part.marker} exists"
        )
    is_settled = bool(landings) and not any(is_young(landing, now) for landing in landings)
    if is_settled and not has_marker and not part.is_marker_reclaimed:
        yield _of_part(part, DifferenceKind.MARKER, expected=f"{part.marker} exists", found="no such account")
    if has_marker and part.is_marker_reclaimed:
        yield _of_part(part, DifferenceKind.MARKER, expected="reclaimed", found=f"{part.marker} exists")


def _may_be_burnt(part: BookedPart) -> bool:
    """Whether its marker may stand for no payment: then the part has failed, or is about to."""
    return part.state == "failed" or any(attempt.purpose is Purpose.BURN for attempt in part.attempts)


def _facts(part: BookedPart, landing: TreasuryTransaction) -> Iterator[Difference]:
    if not part.is_finalized:
        return
    if part.signature != landing.signature:
        yield _of_part(part, DifferenceKind.SIGNATURE, expected=landing.signature, found=str(part.signature))
    for name, booked, on_chain in (
        ("slot", part.slot, landing.slot),
        ("fee", part.fee_lamports, landing.fee_lamports),
    ):
        if booked is not None and booked != on_chain:
            yield _of_part(
                part, DifferenceKind.CHAIN_FACTS, expected=f"{name} {on_chain}", found=f"{name} {booked}"
            )


def _payees(part: BookedPart, landing: TreasuryTransaction) -> Iterator[Difference]:
    by_account: dict[str, list[BookedItem]] = defaultdict(list)
    for item in part.payees:
        by_account[item.token_account].append(item)
    for account, items in by_account.items():
        got = landing.received.get(account)
        if got is None:
            for item in items:
                yield _of_item(
                    item,
                    DifferenceKind.PAYEE,
                    expected=f"{item.amount_micro_usdc} to {account}",
                    found="nothing",
                )
            continue
        booked = sum(item.amount_micro_usdc for item in items)
        if got.amount_micro_usdc != booked:
            yield _of_item(
                items[0], DifferenceKind.AMOUNT, expected=str(got.amount_micro_usdc), found=str(booked)
            )
        for item in items:
            if item.wallet != got.owner:
                yield _of_item(item, DifferenceKind.WALLET, expected=got.owner, found=item.wallet)
    for account in sorted(landing.received.keys() - by_account.keys()):
        got = landing.received[account]
        yield _of_part(
            part, DifferenceKind.PAYEE, expected="items alone", found=f"{got.amount_micro_usdc} to {account}"
        )


def _total(part: BookedPart) -> Iterator[Difference]:
    booked = sum(item.amount_micro_usdc for item in part.items)
    if booked > part.total_micro_usdc or (booked < part.total_micro_usdc and not part.has_successor):
        yield _of_part(
            part, DifferenceKind.PART_TOTAL, expected=str(booked), found=str(part.total_micro_usdc)
        )


def _attempts(part: BookedPart, landings: Sequence[TreasuryTransaction]) -> Iterator[Difference]:
    landed = {landing.signature for landing in landings}
    for attempt in part.attempts:
        if not attempt.are_bytes_sound:
            yield Difference(
                kind=DifferenceKind.ATTEMPT,
                table="payout_attempt",
                row=str(attempt.id),
                expected=f"bytes signed by {attempt.signature}",
                found="other bytes",
            )
        is_payment = attempt.purpose is Purpose.PAY
        if part.is_finalized and is_payment and (attempt.state == "landed") != (attempt.signature in landed):
            yield Difference(
                kind=DifferenceKind.ATTEMPT,
                table="payout_attempt",
                row=str(attempt.id),
                expected="landed" if attempt.signature in landed else "not landed",
                found=attempt.state,
            )


def _ledger(item: BookedItem) -> Iterator[Difference]:
    found = frozenset(item.ledger)
    allowed = _TRANSFERS_OF_STATE.get(item.state, ())
    if found not in allowed:
        yield _of_item(
            item,
            DifferenceKind.LEDGER,
            expected=" or ".join("+".join(sorted(names)) for names in allowed) or f"no item in {item.state}",
            found="+".join(sorted(found)) or "no transfer",
        )
    amount = item.amount_micro_usdc * NANO_USD_PER_MICRO_USDC
    for name, line in sorted(item.ledger.items()):
        expected = (_TRANSFERS[name], amount, item.provider_id)
        if (line.code, line.amount_nano_usd, line.owner_id) != expected:
            yield _of_item(
                item,
                DifferenceKind.LEDGER,
                expected=f"{name}: {amount} nano-USD of {item.provider_id}, {_TRANSFERS[name].value}",
                found=f"{line.amount_nano_usd} nano-USD of {line.owner_id}, {line.code.value}",
            )


def _of_part(part: BookedPart, kind: DifferenceKind, *, expected: str, found: str) -> Difference:
    return Difference(kind=kind, table="payout_part", row=str(part.id), expected=expected, found=found)


def _of_item(item: BookedItem, kind: DifferenceKind, *, expected: str, found: str) -> Difference:
    return Difference(kind=kind, table="payout_item", row=str(item.id), expected=expected, found=found)
