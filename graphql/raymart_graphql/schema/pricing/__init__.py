"""Rate cards, caps, fees and asks."""
