"""Logging in by an OpenID provider."""
