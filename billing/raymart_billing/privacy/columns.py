"""What every column of the database holds of whom: the one table that exports are driven by.

A test compares it with the database's catalog, so a new column without a class fails.
"""

from collections.abc import Mapping
from enum import StrEnum


class ColumnClass(StrEnum):
    """What a column holds, as far as privacy is concerned."""

    PERSONAL = "personal"
    """Tells who somebody is, or where: names, addresses, devices, what they signed."""
    PERSON = "person"
    """The id of one of our users: a pseudonym, which tells nothing without the user's row."""
    TEXT = "text"
    """Written by people or by programs for people; may name somebody."""
    SECRET = "secret"
    """A credential, its hash, or what is sealed: never shown and never exported."""
    MONEY = "money"
    """Amounts: kept for as long as the law asks for books."""
    PLAIN = "plain"
    """Nothing of these: ids of things, times, states, counts."""


_C = ColumnClass
_WRITTEN: Mapping[str, Mapping[ColumnClass, str]] = {
    "account_mail": {
        _C.PLAIN: "id created_at kind expires_at used_at sent_at",
        _C.PERSON: "user_id",
        _C.SECRET: "token_hash",
    },
    "account_snapshot": {
        _C.PLAIN: "account_id day",
        _C.MONEY: "debits_posted credits_posted debits_pending credits_pending",
    },
    "alembic_version": {_C.PLAIN: "version_num"},
    "alert": {
        _C.PLAIN: "id created_at organization_id kind subject cleared_at delivered_at",
        _C.MONEY: "threshold_nano_usd value_nano_usd",
    },
    "alert_threshold": {_C.PLAIN: "organization_id", _C.MONEY: "low_balance_nano_usd"},
    "api_key": {
        _C.PLAIN: "id created_at project_id expires_at revoked_at scopes models last_used_at rotated_at former_ends_at prompt_retention_days service_account_id answer_cache_s",
        _C.TEXT: "name prefix",
        _C.SECRET: "key_hash former_key_hash",
        _C.PERSON: "created_by",
    },
    "artifact": {
        _C.PLAIN: "id created_at organization_id sha256 size_bytes stored_sha256 stored_bytes key_id",
        _C.SECRET: "sealed_key",
    },
    "attempt": {
        _C.PLAIN: "id created_at request_id position endpoint_id provider_id node_id outcome fault tokens_delivered first_token_ms duration_ms",
        _C.TEXT: "reason",
    },
    "attempt_hour": {
        _C.PLAIN: "endpoint_id starts_at attempts delivered provider_failures tokens first_token_bins rate_bins"
    },
    "attempt_slot": {
        _C.PLAIN: "endpoint_id starts_at attempts delivered provider_failures tokens first_token_bins rate_bins"
    },
    "audit_entry": {
        _C.PLAIN: "id xact_id created_at actor_kind acting_organization_id organization_id session_id request_id action subject_kind subject_id mentions outcome",
        _C.PERSON: "actor_id",
        _C.PERSONAL: "actor_name",
        _C.TEXT: "detail",
        _C.SECRET: "origin_digest",
    },
    "audit_origin": {_C.PLAIN: "entry_id", _C.SECRET: "salt", _C.PERSONAL: "address user_agent"},
    "audit_seal": {_C.PLAIN: "position entry_id hash"},
    "balance_adjustment": {
        _C.PLAIN: "id created_at organization_id transfer_id",
        _C.MONEY: "change_nano_usd",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "benchmark": {
        _C.PLAIN: "id created_at node_id state cause hardware_digest started_at finished_at",
        _C.PERSON: "asked_by",
    },
    "benchmark_check": {
        _C.PLAIN: "benchmark_id position check_name device value limit_value passed reason",
        _C.TEXT: "message",
    },
    "billing_block": {_C.PLAIN: "organization_id created_at", _C.TEXT: "reason", _C.PERSON: "actor_id"},
    "billing_block_change": {
        _C.PLAIN: "id created_at organization_id blocked",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "billing_profile": {
        _C.PLAIN: "organization_id country updated_at",
        _C.PERSONAL: "legal_name address tax_id email",
        _C.PERSON: "updated_by",
    },
    "budget": {
        _C.PLAIN: "id organization_id scope scope_id period created_at updated_at",
        _C.MONEY: "limit_nano_usd",
        _C.PERSON: "actor_id",
    },
    "budget_period": {_C.PLAIN: "budget_id starts_on", _C.MONEY: "spent reserved"},
    "card_payment": {_C.PLAIN: "id charge_id currency updated_at", _C.MONEY: "refunded_amount fee_amount"},
    "credit_checkpoint": {_C.PLAIN: "organization_id through_id updated_at", _C.MONEY: "parts"},
    "credit_grant": {
        _C.PLAIN: "id created_at organization_id transfer_id expires_at source closed_at",
        _C.MONEY: "amount_nano_usd",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "credit_lease": {
        _C.PLAIN: "id gateway_id organization_id single_use step generation transfer_id taken_at expires_at ends_at recalled_at returned_at closed_at",
        _C.MONEY: "granted held charged",
    },
    "credit_note": {
        _C.PLAIN: "id created_at organization_id invoice_id state number content_sha256 issued_at",
        _C.TEXT: "reason",
        _C.MONEY: "amount_nano_usd",
        _C.PERSON: "created_by issued_by",
    },
    "credit_note_line": {
        _C.PLAIN: "id created_at credit_note_id position",
        _C.TEXT: "description",
        _C.MONEY: "amount_nano_usd",
    },
    "deposit": {
        _C.PLAIN: "id created_at organization_id rail state idempotency_key expires_at session_id payment_id received_currency paid_at expired_at credited_at fee_due checked_at",
        _C.MONEY: "amount_nano_usd received_amount credited_nano_usd refunded_nano_usd fee_nano_usd",
        _C.PERSON: "created_by reviewed_by",
        _C.SECRET: "session_url",
        _C.TEXT: "failed_reason held_reason review_reason",
    },
    "deposit_refund": {
        _C.PLAIN: "id created_at deposit_id origin state idempotency_key provider_id",
        _C.MONEY: "amount_nano_usd shortfall_nano_usd",
        _C.TEXT: "reason failed_reason",
        _C.PERSON: "actor_id",
    },
    "dispute": {
        _C.PLAIN: "id created_at provider_id payment_id charge_id currency status stage evidence_due_at organization_id booked",
        _C.MONEY: "amount fee_amount fee_nano_usd from_balance_nano_usd from_receivable_nano_usd",
        _C.TEXT: "reason held_reason",
    },
    "document_series": {_C.PLAIN: "series last_number"},
    "earning": {
        _C.PLAIN: "id created_at epoch_id provider_id after_transfer_id upto_transfer_id matures_at released_at unpaid_reason",
        _C.MONEY: "gross_nano_usd clawback_nano_usd holdback_nano_usd",
    },
    "endpoint": {_C.PLAIN: "id created_at node_id revision_id offer_id first_announced_at"},
    "epoch": {_C.PLAIN: "id created_at number starts_at ends_at closed_at planned_at"},
    "feature_switch": {_C.PLAIN: "key state percentage organization_ids updated_at", _C.PERSON: "updated_by"},
    "fee_schedule": {
        _C.PLAIN: "id created_at version basis_points provider_id model_id effective_from effective_to",
        _C.TEXT: "reason",
        _C.PERSON: "created_by",
    },
    "gateway": {_C.PLAIN: "id number started_at"},
    "inbox": {_C.PLAIN: "source message_id received_at"},
    "invitation": {
        _C.PLAIN: "id created_at organization_id role expires_at accepted_at revoked_at sent_at",
        _C.PERSONAL: "email",
        _C.SECRET: "token_hash",
        _C.PERSON: "invited_by",
    },
    "gpu": {
        _C.PLAIN: "id created_at node_id uuid model memory_bytes driver compute_capability multiprocessors ecc mig gone_at"
    },
    "invoice": {
        _C.PLAIN: "id created_at organization_id state asset period_start period_end after_transfer_id up_to_transfer_id booked_until number seller content_sha256 issued_at voided_at",
        _C.MONEY: "opening_nano_usd closing_nano_usd charged_nano_usd",
        _C.PERSONAL: "buyer",
        _C.PERSON: "issued_by voided_by",
        _C.TEXT: "void_reason",
    },
    "invoice_line": {
        _C.PLAIN: "id created_at invoice_id position kind code occurred_at transfers usage_month model_id unit scale quantity",
        _C.TEXT: "description",
        _C.MONEY: "unit_price_nano_usd amount_nano_usd",
    },
    "join_token": {
        _C.PLAIN: "id created_at pool_id provider_id role expires_at used_at",
        _C.SECRET: "token_hash",
        _C.PERSON: "created_by",
    },
    "lease_budget": {_C.PLAIN: "lease_id budget_id starts_on"},
    "ledger_account": {
        _C.PLAIN: "id kind owner_id asset may_overdraw created_at",
        _C.MONEY: "debits_posted credits_posted debits_pending credits_pending",
    },
    "ledger_check": {_C.PLAIN: "id kind checked_at duration_ms findings", _C.TEXT: "finding"},
    "ledger_snapshot": {_C.PLAIN: "day taken_at horizon"},
    "maintenance_window": {
        _C.PLAIN: "id created_at node_id starts_at ends_at notice_s state",
        _C.PERSON: "created_by",
        _C.TEXT: "reason",
    },
    "membership": {_C.PLAIN: "id created_at organization_id role", _C.PERSON: "user_id"},
    "model": {
        _C.PLAIN: "id created_at modality licence organization_id visibility",
        # A private model is called by its organization's name.
        _C.TEXT: "slug name description",
    },
    "model_alias": {
        _C.PLAIN: "model_id name quantization revision_id changed_at change",
        _C.PERSON: "changed_by",
        _C.TEXT: "reason",
    },
    "model_alias_change": {
        _C.PLAIN: "id created_at model_id name quantization change before_id after_id",
        _C.PERSON: "changed_by",
        _C.TEXT: "reason",
    },
    "model_placement": {_C.PLAIN: "model_id asked waiting offers placed running sleeping misfits updated_at"},
    "model_revision": {
        _C.PLAIN: "id created_at model_id digest engine quantization source sha256 context_length capabilities state manifest size_bytes published_at"
    },
    "model_share": {
        _C.PLAIN: "model_id organization_id owner_id access created_at ended_at",
        _C.PERSON: "created_by",
    },
    "node": {
        _C.PLAIN: "id created_at pool_id provider_id role public_key join_token_id state last_seen_at revoked_at qualified_at link_id link_lost_at clock_skew_ms drain_until maintenance_id cached",
        _C.TEXT: "name machine_id hardware gpu_uuids",
    },
    "node_event": {
        _C.PLAIN: "id created_at node_id event from_state to_state actor_kind",
        _C.PERSON: "actor_id",
        _C.TEXT: "reason",
    },
    "node_telemetry": {
        _C.PLAIN: "node_id hour device minute samples utilisation_sum utilisation_max memory_used_sum memory_used_max temperature_max power_sum disk_free_min ecc_uncorrected"
    },
    "node_presence": {_C.PLAIN: "node_id hour samples seen"},
    "offer": {
        _C.PLAIN: "id created_at provider_id revision_id state succeeded_by succeeded_at warmth replicas_max nodes_max gpus_max idle_s hours node_ids",
        _C.MONEY: "ask_prompt_nano_usd ask_completion_nano_usd",
    },
    "offer_ask": {_C.PLAIN: "offer_id unit", _C.MONEY: "price_nano_usd floor_nano_usd"},
    "offer_window": {_C.PLAIN: "id created_at offer_id days starts_minute ends_minute basis_points"},
    "offer_window_ask": {_C.PLAIN: "window_id unit", _C.MONEY: "price_nano_usd"},
    "oidc_identity": {
        _C.PLAIN: "id created_at issuer last_login_at",
        _C.PERSON: "user_id",
        _C.PERSONAL: "subject email",
    },
    "open_hold": {_C.PLAIN: "transfer_id expires_at"},
    "organization": {_C.PLAIN: "id created_at kind", _C.TEXT: "slug name"},
    "organization_erasure": {
        _C.PLAIN: "id created_at organization_id due_at cancelled_at erased_at",
        _C.TEXT: "waits_for",
        _C.PERSON: "requested_by",
    },
    "outbox": {
        _C.PLAIN: "id created_at task subject key state attempts due_at fence locked_by locked_until finished_at",
        _C.TEXT: "last_error",
    },
    "payout_approval": {_C.PLAIN: "batch_id decided_at", _C.PERSON: "user_id", _C.MONEY: "total_micro_usdc"},
    "payout_attempt": {
        _C.PLAIN: "id created_at part_id number purpose generation signature version blockhash last_valid_block_height compute_unit_limit state resolved_at",
        _C.SECRET: "raw_transaction",
        _C.PERSONAL: "opens",
        _C.MONEY: "priority_fee_lamports",
        _C.TEXT: "error",
    },
    "payout_batch": {
        _C.PLAIN: "id created_at number kind epoch_id mint state payees split_from approved_at finished_at",
        _C.MONEY: "total_micro_usdc",
        _C.PERSON: "created_by",
        _C.TEXT: "hold_reason",
    },
    "payout_item": {
        _C.PLAIN: "id created_at batch_id part_id position provider_id deposit_id epoch_id state",
        _C.PERSONAL: "wallet token_account",
        _C.MONEY: "amount_micro_usdc",
        _C.TEXT: "reason",
    },
    "payout_part": {
        _C.PLAIN: "id created_at batch_id position generation state marker attempts attempts_released signature slot finalized_at marker_reclaimed_at fence locked_until",
        _C.MONEY: "total_micro_usdc fee_lamports",
        _C.TEXT: "state_reason",
    },
    "payout_policy": {
        _C.PLAIN: "id created_at version epoch_hours holdback_bands",
        _C.MONEY: "minimum_micro_usdc batch_cap_micro_usdc day_cap_micro_usdc four_eyes_above_micro_usdc",
        _C.TEXT: "reason",
        _C.PERSON: "created_by",
    },
    "payout_switch": {
        _C.PLAIN: "id created_at source paused_at resumed_at",
        _C.TEXT: "reason resumed_reason",
        _C.PERSON: "paused_by resumed_by",
    },
    "periodic_job": {
        _C.PLAIN: "name every_s next_due_at fence locked_by locked_until last_started_at last_finished_at last_state last_error runs failures_in_a_row"
    },
    "payout_wallet": {
        _C.PLAIN: "id created_at organization_id provider_id proof_id proven_at is_first payable_from earlier_id warnings check_state checked_at ended_at end_reason",
        _C.PERSON: "chosen_by ended_by",
        _C.PERSONAL: "address",
        _C.TEXT: "check_finding",
    },
    "placement": {
        _C.PLAIN: "id created_at node_id revision_id replicas_min replicas_max slots desired state replicas_running idle_s memory_bytes gpus state_at confirm_by confirmed_at retry_at releases cold_start_ms restarts",
        _C.TEXT: "reason",
    },
    "placement_rejection": {_C.PLAIN: "id created_at offer_id node_id misfit", _C.TEXT: "detail"},
    "pool": {_C.PLAIN: "id created_at kind region provider_id", _C.TEXT: "slug"},
    "pool_authority": {
        _C.PLAIN: "pool_id created_at certificate head_address head_told_at",
        _C.SECRET: "sealed_key sealed_token",
    },
    "pool_member": {
        _C.PLAIN: "id created_at pool_id node_id role serial expires_at",
        _C.TEXT: "address",
    },
    "pool_status": {
        _C.PLAIN: "pool_id controller_id link_id held_until generation reported_at unknown_applications",
        _C.TEXT: "ray_nodes",
    },
    "price": {_C.PLAIN: "rate_card_id unit", _C.MONEY: "nano_usd"},
    "price_cap": {
        _C.PLAIN: "id created_at unit model_id effective_from effective_to",
        _C.MONEY: "max_nano_usd",
        _C.TEXT: "reason",
        _C.PERSON: "created_by",
    },
    "privacy_export": {
        _C.PLAIN: "id created_at organization_id state bytes expires_at",
        _C.PERSON: "requested_by",
    },
    "project": {_C.PLAIN: "id created_at organization_id archived_at answer_cache_s", _C.TEXT: "slug name"},
    "provider": {
        _C.PLAIN: "id created_at organization_id state data_policy contact_verified_at",
        _C.TEXT: "slug name website about",
        _C.PERSONAL: "contact_email",
    },
    "provider_contact": {
        _C.PLAIN: "id created_at provider_id expires_at sent_at verified_at",
        _C.PERSONAL: "email",
        _C.SECRET: "token_hash",
    },
    "provider_event": {
        _C.PLAIN: "id created_at provider_id event from_state to_state actor_kind",
        _C.PERSON: "actor_id",
        _C.TEXT: "reason",
    },
    "provider_trust": {_C.PLAIN: "provider_id score set_at", _C.TEXT: "reason", _C.PERSON: "set_by"},
    "rate_card": {
        _C.PLAIN: "id created_at model_id revision_id version effective_from effective_to state",
        _C.PERSON: "created_by",
    },
    "rate_limit": {
        _C.PLAIN: "scope_id setter scope organization_id requests_per_minute tokens_per_minute concurrent_requests created_at updated_at",
        _C.PERSON: "actor_id",
    },
    "reconciliation_difference": {
        _C.PLAIN: "id created_at number run_id last_run_id kind subject_table subject gone_at resolved_at",
        _C.MONEY: "expected found",
        _C.PERSON: "resolved_by",
        _C.TEXT: "reason",
    },
    "reconciliation_run": {
        _C.PLAIN: "id created_at number trigger since finished_at treasury genesis endpoints slot opening_run_id parts transactions differences",
        _C.PERSON: "requested_by",
        _C.TEXT: "error",
        _C.MONEY: "opening_micro_usdc balance_micro_usdc lamports fees_lamports",
    },
    "recovery_code": {_C.PLAIN: "id created_at used_at", _C.PERSON: "user_id", _C.SECRET: "code_hash"},
    "refresh_token": {_C.SECRET: "token_hash", _C.PLAIN: "session_id created_at expires_at used_at"},
    "refund": {
        _C.PLAIN: "id created_at key kind organization_id request_id credit_note_id provider_id bearer rule rule_version part",
        _C.MONEY: "amount_nano_usd clawback_nano_usd fee_nano_usd expense_nano_usd",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "request": {
        _C.PLAIN: "id created_at organization_id project_id api_key_id surface model_asked model_served state finish_reason error_code streamed first_token_ms duration_ms",
        _C.PERSON: "user_id",
    },
    "retained_exchange": {
        _C.PLAIN: "request_id organization_id api_key_id created_at expires_at",
        _C.SECRET: "sealed",
    },
    "service_figures": {
        _C.PLAIN: "subject_id span attempts delivered provider_failures tokens first_token_ms_p50 first_token_ms_p95 tokens_per_s_p50 tokens_per_s_p95 computed_at"
    },
    "stripe_event": {
        _C.PLAIN: "id type object_id occurred_at received_at fact state",
        _C.TEXT: "detail resolution",
        _C.PERSON: "resolved_by",
    },
    "stripe_replay": {_C.PLAIN: "is_only through_at"},
    "revision_file": {_C.PLAIN: "revision_id path artifact_id"},
    "self_billing_invoice": {
        _C.PLAIN: "id created_at organization_id provider_id payout_item_id number after_transfer_id up_to_transfer_id recipient content_sha256",
        _C.MONEY: "opening_nano_usd earned_nano_usd closing_nano_usd paid_micro_usdc lines",
        _C.PERSONAL: "supplier payment",
    },
    "service_account": {
        _C.PLAIN: "id created_at organization_id role disabled_at",
        _C.TEXT: "name",
        _C.PERSON: "created_by",
    },
    "support_access": {
        _C.PLAIN: "id created_at organization_id expires_at closed_at",
        _C.PERSON: "user_id",
        _C.TEXT: "reason",
    },
    "suspension": {
        _C.PLAIN: "id created_at kind subject_id organization_id restores lifted_at",
        _C.TEXT: "reason lifted_reason",
        _C.PERSON: "actor_id lifted_by",
    },
    "task_run": {
        _C.PLAIN: "id created_at outbox_id subject attempt fence worker state finished_at",
        _C.TEXT: "name error",
    },
    "totp_credential": {
        _C.PERSON: "user_id",
        _C.PLAIN: "created_at confirmed_at last_step",
        _C.SECRET: "secret_sealed",
    },
    "transfer": {
        _C.PLAIN: "id key debit_account_id credit_account_id code state pending_id expires_at created_at xact_id reverses_id",
        _C.MONEY: "amount",
        _C.PERSON: "actor_id",
        _C.TEXT: "reason",
    },
    "transfer_code": {_C.PLAIN: "code debit_kind credit_kind state asset one_owner"},
    "transfer_seal": {_C.PLAIN: "position transfer_id hash"},
    "treasury_movement": {
        _C.PLAIN: "signature account number slot block_time failed recorded_at",
        _C.MONEY: "delta_micro_usdc",
    },
    "treasury_withdrawal": {
        _C.PLAIN: "signature created_at slot",
        _C.MONEY: "amount_micro_usdc",
        _C.TEXT: "reason",
        _C.PERSON: "recorded_by",
    },
    "usage_checkpoint": {_C.PLAIN: "request_id gateway_id record updated_at"},
    "usage_day": {
        _C.PLAIN: "organization_id day project_id api_key_id revision_id provider_id requests tokens_prompt tokens_completion tokens_cached image_pixel_steps gpu_ms requests_priced",
        _C.MONEY: "customer_nano_usd provider_nano_usd fee_nano_usd",
    },
    "usage_day_part": {
        _C.PLAIN: "organization_id day project_id api_key_id revision_id provider_id requests tokens_prompt tokens_completion tokens_cached image_pixel_steps gpu_ms requests_priced",
        _C.MONEY: "customer_nano_usd provider_nano_usd fee_nano_usd",
    },
    "usage_flag": {
        _C.PLAIN: "id created_at usage_id organization_id provider_id cleared_at",
        _C.TEXT: "reason cleared_reason",
        _C.PERSON: "actor_id cleared_by",
    },
    "usage_hour": {
        _C.PLAIN: "organization_id hour project_id api_key_id revision_id provider_id requests tokens_prompt tokens_completion tokens_cached image_pixel_steps gpu_ms requests_priced",
        _C.MONEY: "customer_nano_usd provider_nano_usd fee_nano_usd",
    },
    "usage_record": {
        _C.PLAIN: "id created_at organization_id project_id api_key_id provider_id endpoint_id offer_id revision_id tokens_prompt tokens_completion tokens_cached image_pixel_steps gpu_ms requests_priced exact lease_id posted_at continues_id part",
        _C.MONEY: "price_prompt_nano_usd price_completion_nano_usd price_cached_nano_usd price_megapixel_step_nano_usd price_gpu_second_nano_usd price_request_nano_usd customer_nano_usd provider_nano_usd fee_nano_usd",
    },
    "usage_set_aside": {
        _C.PLAIN: "digest request_id origin record created_at resolved_at",
        _C.TEXT: "reason",
    },
    "usdc_deposit": {
        _C.PLAIN: "id created_at signature account mint state slot block_time reference top_up_id organization_id attributed_by final_at credited_at",
        _C.MONEY: "amount_micro_usdc",
        _C.PERSONAL: "sources",
        _C.TEXT: "memo held_reason decision_reason",
        _C.PERSON: "decided_by",
    },
    "usdc_refund": {
        _C.PLAIN: "id created_at deposit_id item_id from_balance exchange_acknowledged settled_at returned_at",
        _C.MONEY: "amount_micro_usdc",
        _C.PERSONAL: "wallet",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "usdc_scan": {
        _C.PLAIN: "account cursor fence scanned_at problem_since reread_at",
        _C.MONEY: "gap_micro_usdc",
        _C.TEXT: "problem",
    },
    "usdc_sender": {
        _C.PLAIN: "mark created_at",
        _C.PERSONAL: "wallet",
        _C.TEXT: "reason",
        _C.PERSON: "actor_id",
    },
    "usdc_top_up": {
        _C.PLAIN: "id created_at organization_id reference url idempotency_key expires_at",
        _C.MONEY: "amount_micro_usdc",
        _C.PERSON: "created_by",
    },
    "user": {
        _C.PLAIN: "id created_at email_verified_at disabled_at",
        _C.PERSONAL: "email name",
        _C.SECRET: "password_hash",
    },
    "user_session": {
        _C.PLAIN: "id created_at method last_used_at expires_at second_factor_at revoked_at revoked_why",
        _C.PERSON: "user_id",
        _C.PERSONAL: "user_agent address",
    },
    "wallet_proof": {
        _C.PLAIN: "id created_at organization_id proven_at withdrawn_at",
        _C.PERSON: "user_id",
        _C.PERSONAL: "address message signature",
    },
    "work_action": {_C.PLAIN: "id created_at outbox_id action", _C.PERSON: "actor_id", _C.TEXT: "reason"},
}
"""By table, columns parted by blanks."""

COLUMNS: Mapping[str, Mapping[str, ColumnClass]] = {
    table: {name: kind for kind, names in classes.items() for name in names.split()}
    for table, classes in _WRITTEN.items()
}
"""The class of each column, by table."""


def columns_shown(table: str) -> list[str]:
    """The columns of `table` that may leave the database: all but secrets."""
    return [name for name, kind in COLUMNS[table].items() if kind is not ColumnClass.SECRET]
