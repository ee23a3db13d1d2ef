"""What becomes of each column of `columns.py` that is personal, text or a secret when an organization is erased.

A test holds that each is in one of the three tables here: rows deleted, values replaced, or kept for a reason.
`:id` is the organization, `:users` its people who are in no other, `:pseudonym` "erased-" and 8 hex digits.
"""

# ruff: noqa: S608 - statements are put together from names of our own; what is given are parameters.
from collections.abc import Mapping

_OWN = "organization_id = :id"
_PROVIDERS = f"(select id from provider where {_OWN})"
_PROJECTS = f"(select id from project where {_OWN})"
_PRIVATE_MODELS = f"model_id in (select id from model where {_OWN} and visibility = 'private')"
_USERS = "user_id = any (:users)"
_ANYBODY = "'erased-' || substr(md5(gen_random_uuid()::text), 1, 8)"
_UNKNOWN_HASH = "sha256(convert_to(gen_random_uuid()::text, 'UTF8'))"

DELETED: Mapping[str, str] = {
    "retained_exchange": _OWN,
    "invitation": _OWN,
    "billing_profile": _OWN,
    # What was paid to which wallet stays with the payouts. Before the proofs that they refer to.
    "payout_wallet": _OWN,
    "wallet_proof": _OWN,
    # With its refresh tokens: the foreign key says so.
    "user_session": _USERS,
    "account_mail": _USERS,
    "recovery_code": _USERS,
    "totp_credential": _USERS,
    "oidc_identity": _USERS,
    "membership": _OWN,
    "model_alias": _PRIVATE_MODELS,
    "provider_contact": f"provider_id in {_PROVIDERS}",
}
"""Rows that go, by table, in this order."""
DELETED_WITH: Mapping[str, str] = {"refresh_token": "user_session", "audit_origin": "audit_forget_origins"}
"""Tables whose rows go with those of another, or by a function."""

REPLACED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "organization": ("id = :id", {"name": ":pseudonym", "slug": ":pseudonym"}),
    "api_key": (
        f"project_id in {_PROJECTS}",
        {
            "name": ":pseudonym",
            "prefix": "'erased'",
            "key_hash": _UNKNOWN_HASH,
            "former_key_hash": "null",
            "former_ends_at": "null",
            "prompt_retention_days": "0",
            "revoked_at": "coalesce(revoked_at, clock_timestamp())",
        },
    ),
    "project": (
        _OWN,
        {
            "name": ":pseudonym",
            "slug": "'erased-' || replace(id::text, '-', '')",
            "archived_at": "coalesce(archived_at, clock_timestamp())",
        },
    ),
    "service_account": (
        _OWN,
        {"name": ":pseudonym", "disabled_at": "coalesce(disabled_at, clock_timestamp())"},
    ),
    "support_access": (
        _OWN,
        {"reason": ":pseudonym", "closed_at": "coalesce(closed_at, clock_timestamp())"},
    ),
    "deposit": (_OWN, {"session_url": "null"}),
    "model": (
        f"{_OWN} and visibility = 'private'",
        {"slug": "'erased/' || replace(id::text, '-', '')", "name": ":pseudonym", "description": "''"},
    ),
    "model_revision": (_PRIVATE_MODELS, {"state": "'withdrawn'"}),
    # Without its data key a sealed file is noise, wherever copies of it lie.
    "artifact": (_OWN, {"sealed_key": "''"}),
    "pool": (f"provider_id in {_PROVIDERS}", {"slug": "'erased-' || replace(id::text, '-', '')"}),
    "node": (
        f"provider_id in {_PROVIDERS}",
        {
            "name": ":pseudonym",
            "machine_id": "'erased-' || replace(id::text, '-', '')",
            "hardware": """hardware || '{"hostname": "erased"}'""",
            "gpu_uuids": "'{}'",
        },
    ),
    "benchmark_check": (
        f"benchmark_id in (select b.id from benchmark b join node n on n.id = b.node_id where n.provider_id in {_PROVIDERS})",
        {"message": "''"},
    ),
    "node_event": (
        f"node_id in (select id from node where provider_id in {_PROVIDERS})",
        {"reason": "''"},
    ),
    "pool_member": (
        f"node_id in (select id from node where provider_id in {_PROVIDERS})",
        {"address": "''"},
    ),
    "join_token": (
        f"provider_id in {_PROVIDERS}",
        {"token_hash": _UNKNOWN_HASH, "expires_at": "least(expires_at, clock_timestamp())"},
    ),
    "maintenance_window": (
        f"node_id in (select id from node where provider_id in {_PROVIDERS})",
        {"reason": "''"},
    ),
    "provider_event": (f"provider_id in {_PROVIDERS}", {"reason": "''"}),
    "provider": (
        _OWN,
        {
            "name": ":pseudonym",
            "slug": ":pseudonym",
            "state": "'closed'",
            "website": "''",
            "about": "''",
            "contact_email": "null",
            "contact_verified_at": "null",
        },
    ),
    "privacy_export": (
        f"{_OWN} and state in ('requested', 'ready')",
        {"state": "case state when 'ready' then 'expired' else 'failed' end"},
    ),
    "user": (
        "id = any (:users)",
        {
            "email": f"{_ANYBODY} || '@invalid'",
            "name": _ANYBODY,
            "password_hash": ":nobodys_hash",
            "email_verified_at": "null",
            "disabled_at": "coalesce(disabled_at, clock_timestamp())",
        },
    ),
}
"""What values become, by table and column, and what else changes in the rows: (which rows, column to SQL)."""

_BOOKS = "of the books, which the law asks for; written by the marketplace"
_OVERSIGHT = "the marketplace's own words about what it did, which it answers for"
_CHAIN = "on the public chain for good; the books say whose money it was and where it went back to"
_MARKET = "of the market, no organization's"
_POOL = "the marketplace's own: what its shared Ray clusters trust, no organization's"
_WORK = "of background work: names of tasks, errors in our words, with ids"
KEPT: Mapping[str, str] = {
    "invoice.buyer": "tax law asks for whom an invoice was made out to, for as long as invoices are kept",
    "invoice.void_reason": _BOOKS,
    "self_billing_invoice.supplier": "tax law asks for whose supplies an invoice was about, for as long as invoices are kept",
    "self_billing_invoice.payment": _BOOKS,
    "invoice_line.description": _BOOKS,
    "credit_note.reason": _BOOKS,
    "credit_note_line.description": _BOOKS,
    "refund.reason": _BOOKS,
    "transfer.reason": _BOOKS,
    "balance_adjustment.reason": _BOOKS,
    "credit_grant.reason": _BOOKS,
    "deposit.failed_reason": "the processor's code",
    "deposit.held_reason": _BOOKS,
    "deposit.review_reason": _BOOKS,
    "deposit_refund.reason": _BOOKS,
    "deposit_refund.failed_reason": "the processor's code",
    "pool_status.ray_nodes": "machines' names of the last ten seconds; those of an erased provider's machines are gone with them",
    "pool_authority.sealed_key": _POOL,
    "pool_authority.sealed_token": _POOL,
    "usdc_deposit.sources": _CHAIN,
    "usdc_deposit.memo": _CHAIN,
    "usdc_deposit.held_reason": _BOOKS,
    "usdc_deposit.decision_reason": _BOOKS,
    "usdc_refund.wallet": _CHAIN,
    "usdc_refund.reason": _BOOKS,
    "usdc_sender.wallet": _CHAIN,
    "usdc_sender.reason": _OVERSIGHT,
    "usdc_scan.problem": _WORK,
    "dispute.reason": "the card network's code",
    "dispute.held_reason": _BOOKS,
    "billing_block.reason": _OVERSIGHT,
    "billing_block_change.reason": _OVERSIGHT,
    "suspension.reason": _OVERSIGHT,
    "suspension.lifted_reason": _OVERSIGHT,
    "usage_flag.reason": _OVERSIGHT,
    "usage_flag.cleared_reason": _OVERSIGHT,
    "audit_entry.actor_name": "operators and the marketplace's own parts, never people of an organization",
    "audit_entry.detail": "ids, numbers and reasons; names, addresses and secrets never get into it",
    "audit_entry.origin_digest": "salted, and the salt is forgotten",
    "attempt.reason": "a failure in our own words",
    "payout_item.wallet": "of the books: where money went, which the chain tells everybody for good",
    "payout_item.token_account": "as the wallet, which it is derived from",
    "payout_item.reason": "a failure in our own words",
    "payout_part.state_reason": "a failure in our own words",
    "payout_attempt.error": "the chain's code",
    "payout_attempt.raw_transaction": "signed bytes, of the books: what the chain tells everybody once it has landed",
    "payout_attempt.opens": "an address on a public chain, as in the transaction itself",
    "payout_batch.hold_reason": _OVERSIGHT,
    "payout_policy.reason": _OVERSIGHT,
    "payout_switch.reason": _OVERSIGHT,
    "payout_switch.resumed_reason": _OVERSIGHT,
    "provider_trust.reason": _OVERSIGHT,
    "reconciliation_difference.reason": _OVERSIGHT,
    "reconciliation_run.error": _WORK,
    "treasury_withdrawal.reason": _BOOKS,
    "placement.reason": "a failure in our own words",
    "placement_rejection.detail": "a comparison in our own words, and replaced by the next pass of the planner",
    "organization_erasure.waits_for": "what was in the way, in our own words",
    "fee_schedule.reason": _MARKET,
    "model_alias_change.reason": "why a model was rolled forth or back, which its customers may ask",
    "price_cap.reason": _MARKET,
    "stripe_event.detail": "the processor's ids",
    "stripe_event.resolution": _OVERSIGHT,
    "usage_set_aside.reason": _WORK,
    "ledger_check.finding": _WORK,
    "outbox.last_error": _WORK,
    "task_run.name": _WORK,
    "task_run.error": _WORK,
    "work_action.reason": _OVERSIGHT,
}
"""What stays, by "table.column", and why."""
