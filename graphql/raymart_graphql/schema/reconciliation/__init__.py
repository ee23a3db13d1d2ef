"""Reconciliation of payouts: the chain against the ledger."""
