"""Weights as files from strangers: which may be kept, and their headers read with a limit on everything."""
