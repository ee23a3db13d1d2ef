"""Top-ups in USDC: requests, what arrived, and what administrators decide about it."""
