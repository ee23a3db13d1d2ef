"""Reversals, snapshots, seals and statements of the ledger."""
