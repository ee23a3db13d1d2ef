"""API keys: made, changed, rotated, revoked; and what a key may see of itself."""
