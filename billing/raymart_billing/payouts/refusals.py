"""The database's refusals about payouts, in words for people."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import Conflict

STEPS: Mapping[str, str] = {
    "ck_payout_approval_by_another": "ask somebody else to approve it",
    "ck_payout_approval_of_open_batch": "nothing was changed",
    "ck_payout_approval_of_present_total": "look at it again",
    "ck_payout_batch_is_approved": "ask for the missing approval",
    "ck_payout_batch_cap": "split it, or set a policy with a higher cap",
    "ck_payout_batch_day_cap": "wait, split it, or set a policy with a higher cap",
    "ck_payout_batch_next_state": "nothing was changed",
    "ck_payout_batch_total_is_its_items": "nothing was changed; cancel it and plan again",
    "ck_payout_batch_cancelled_is_returned": "nothing was changed",
    "ck_payout_batch_cancelled_unsigned": "hold it, and wait until what was signed has landed or expired",
    "ck_payout_not_paused": "resume payouts when the cause is gone",
    "ck_payout_of_approved_batch": "nothing was changed",
    "ck_payout_item_immutable": "what was approved stays as it is",
    "ck_payout_batch_immutable": "what was approved stays as it is",
    "ck_payout_policy_is_next": "look at the policy again",
    "uq_payout_policy_version": "somebody set the policy at the same time; look at it again",
    "uq_payout_switch_standing": "payouts are stopped already",
}
"""Constraint to the next step."""


@asynccontextmanager
async def in_words() -> AsyncIterator[None]:
    """Turn a refusal of the guards into a Conflict that says what to do. The transaction can only be rolled back."""
    try:
        yield
    except DBAPIError as error:
        refusal = error.orig
        if not isinstance(refusal, psycopg.Error):
            raise
        step = STEPS.get(refusal.diag.constraint_name or "")
        if step is None:
            raise
        raise Conflict(f"{refusal.diag.message_primary}; {step}") from error
