"""Sums of usage per hour and day, and what is read from them."""
