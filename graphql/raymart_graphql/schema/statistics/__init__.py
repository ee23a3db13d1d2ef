"""How well endpoints and models serve."""
