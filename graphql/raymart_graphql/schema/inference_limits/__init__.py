"""Limits of requests, tokens and concurrency."""
