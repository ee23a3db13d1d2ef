"""Payouts: from what providers earned to batches that people approve and the chain pays once."""
