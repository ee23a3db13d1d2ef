"""Routing: which endpoints may serve a request, and in which order they are tried. Pure functions, no I/O."""
