"""Providers, machines and offers."""
