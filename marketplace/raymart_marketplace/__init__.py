"""Accounts, catalog, supply, routing, metering and the gateway: the market itself, without its money."""
