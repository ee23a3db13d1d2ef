"""What things cost: rate cards, caps, fees, providers' asks, and the one function that makes a price of them."""
