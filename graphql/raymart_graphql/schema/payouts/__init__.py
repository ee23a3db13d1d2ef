"""Payouts as administrators see them: the queue, batches with all that is sent, and the rules."""
