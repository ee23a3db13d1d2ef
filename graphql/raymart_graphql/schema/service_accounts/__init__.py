"""Service accounts: members that are no people."""
