"""Wallets of providers: proven by Sign-In With Solana, and logging in with them."""
