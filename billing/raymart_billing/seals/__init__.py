"""Chains of keyed hashes over logs that are only ever appended to, so that an edit by the owner of the database shows."""
