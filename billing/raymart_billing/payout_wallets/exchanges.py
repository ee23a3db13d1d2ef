"""Addresses that are known to be exchanges'. The list, with its sources, is `exchange_addresses.json` beside this file.

A warning and never a refusal: lists are incomplete, and who owns an address is hearsay.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


def exchange_of(address: str) -> str | None:
    """The name of the exchange whose `address` is known to be; None for all others."""
    return _exchanges().get(address)


@cache
def _exchanges() -> Mapping[str, str]:
    listed = json.loads((files("raymart_billing.payout_wallets") / "exchange_addresses.json").read_text())
    return {
        address: exchange["name"] for exchange in listed["exchanges"] for address in exchange["addresses"]
    }
