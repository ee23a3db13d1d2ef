"""What the marketplace's people do about the market: suspensions, flags on usage, and switches of features."""
