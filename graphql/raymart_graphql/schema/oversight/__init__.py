"""What the marketplace's people do about the market: suspensions, flags on usage, switches, and finding people."""
