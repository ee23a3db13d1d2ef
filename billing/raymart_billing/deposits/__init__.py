"""Money that comes in by card, and what customers, banks and administrators do with it later."""

from raymart_billing.deposits.blocks import block_customer, standing_block, unblock_customer
from raymart_billing.deposits.checkout import CardRules, create_deposit
from raymart_billing.deposits.events import apply_event, receive
from raymart_billing.deposits.learn import TooEarly
from raymart_billing.deposits.models import (
    BillingBlockChange,
    Deposit,
    DepositRail,
    DepositRefund,
    DepositState,
    Dispute,
    DisputeBooking,
    DisputeStage,
    EventState,
    RefundOrigin,
    RefundState,
    StripeEvent,
)
from raymart_billing.deposits.rail import CardRail, open_rail, required
from raymart_billing.deposits.reconcile import check_deposit, check_deposits, replay_events, settle_debts
from raymart_billing.deposits.refunds import request_refund, send_refund, try_refund
from raymart_billing.deposits.review import credit_held, resolve_event
from raymart_billing.deposits.settle import settle
from raymart_billing.deposits.stripe_facts import Event
from raymart_billing.deposits.stripe_signature import signed_event

__all__ = [
    "BillingBlockChange",
    "CardRail",
    "CardRules",
    "Deposit",
    "DepositRail",
    "DepositRefund",
    "DepositState",
    "Dispute",
    "DisputeBooking",
    "DisputeStage",
    "Event",
    "EventState",
    "RefundOrigin",
    "RefundState",
    "StripeEvent",
    "TooEarly",
    "apply_event",
    "block_customer",
    "check_deposit",
    "check_deposits",
    "create_deposit",
    "credit_held",
    "open_rail",
    "receive",
    "replay_events",
    "request_refund",
    "required",
    "resolve_event",
    "send_refund",
    "settle",
    "settle_debts",
    "signed_event",
    "standing_block",
    "try_refund",
    "unblock_customer",
]
