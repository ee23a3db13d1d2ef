"""Background work and its runs."""
