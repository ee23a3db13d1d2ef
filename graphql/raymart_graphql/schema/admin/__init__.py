"""The ledger, for administrators."""
