"""Money that comes in as USDC: requests to pay, the scanner of the treasury, and what people decide about the rest."""
