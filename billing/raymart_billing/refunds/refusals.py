"""The database's refusals of documents and refunds, in words for people."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import Conflict, DomainError, InvalidRequest

CONFLICTS: Mapping[str, str] = {
    "ck_invoice_period_is_over": "wait for the month's end",
    "ck_invoice_joins_previous": "draw the invoices of one customer up month by month, and make each final before the next",
    "ck_invoice_lines_are_the_ledger": "nothing was changed; find out which booking is missing",
    "ck_invoice_void_is_newest": "correct it with a credit note",
    "ck_invoice_immutable": "void the newest invoice, or correct an older one with a credit note",
    "ck_credit_note_within_invoice": "credit less",
    "ck_credit_note_of_final_invoice": "name a final invoice",
    "ck_credit_note_immutable": "make another credit note",
    "ck_refund_within_charge": "refund at most what is left",
    "uq_refund_key": "use a new key for a new refund",
    "uq_invoice_living_month": "look at the one there is",
    "uq_invoice_final_range": "look at the one there is",
}
"""Constraint to the next step."""


@asynccontextmanager
async def in_words() -> AsyncIterator[None]:
    """Turn a refusal of the guards into a Conflict that says what to do. The transaction can only be rolled back."""
    try:
        yield
    except DBAPIError as error:
        refusal = _refusal(error.orig)
        if refusal is None:
            raise
        raise refusal from error


def _refusal(error: BaseException | None) -> DomainError | None:
    """None when `error` is something else: a bug or an outage."""
    if isinstance(error, psycopg.errors.NumericValueOutOfRange):
        return InvalidRequest("the amount is more than a ledger can hold; give less", param="amount")
    if not isinstance(error, psycopg.Error):
        return None
    step = CONFLICTS.get(error.diag.constraint_name or "")
    return Conflict(f"{error.diag.message_primary}; {step}") if step else None
