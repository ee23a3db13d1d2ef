"""The wallets that providers are paid to."""
