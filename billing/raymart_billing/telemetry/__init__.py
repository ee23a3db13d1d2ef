"""Telemetry of machines, from Redis into hours in Postgres; no money."""
