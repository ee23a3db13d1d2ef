"""Ids: UUIDv7 inside, `prefix_hex` outside, so that a log line or a support ticket says what an id names.

Source: RFC 9562, version 7: the first 48 bits are milliseconds, so rows sort by creation.
"""

import re
from enum import StrEnum
from uuid import UUID, SafeUUID

import uuid_utils

_set = object.__setattr__
_UNKNOWN = SafeUUID.unknown


class Prefix(StrEnum):
    """What a shown id names."""

    USER = "user"
    ORGANIZATION = "org"
    PROJECT = "proj"
    API_KEY = "key"
    PROVIDER = "prov"
    POOL = "pool"
    NODE = "node"
    MODEL = "model"
    REVISION = "rev"
    OFFER = "offer"
    ENDPOINT = "ep"
    PLACEMENT = "plc"
    BENCHMARK = "bmk"
    REQUEST = "req"
    ATTEMPT = "att"
    USAGE_RECORD = "use"
    LEDGER_ACCOUNT = "acct"
    TRANSFER = "tr"
    JOIN_TOKEN = "join"
    WORK = "work"
    TASK_RUN = "run"
    INVOICE = "inv"
    CREDIT_NOTE = "crn"
    REFUND = "rfd"
    DEPOSIT = "dep"
    DISPUTE = "dsp"
    CREDIT_GRANT = "grant"
    ALERT = "alert"
    SESSION = "sess"
    SERVICE_ACCOUNT = "svc"
    MAINTENANCE = "mw"


def new_id() -> UUID:
    """A fresh UUIDv7."""
    # As `uuid_utils.compat.uuid7` makes it, in half as many calls: every request needs several.
    made = object.__new__(UUID)
    _set(made, "int", uuid_utils.uuid7().int)
    _set(made, "is_safe", _UNKNOWN)
    return made


def show(prefix: Prefix, value: UUID) -> str:
    """`value` as people see it: "req_0199...", 32 hex digits after the prefix."""
    # Not `.value` and `.hex`, which are properties in Python: every request shows several.
    return f"{prefix._value_}_{value.int:032x}"


def parse(prefix: Prefix, text: str) -> UUID:
    """Read what `show` wrote.

    Raises: ValueError when the prefix is another one or the rest is no UUID.
    """
    head, separator, tail = text.partition("_")
    if not separator or head != prefix.value or not re.fullmatch(r"[0-9a-f]{32}", tail):
        raise ValueError(f"{text!r} is not an id of the form {prefix.value}_<32 hex digits>")
    return UUID(hex=tail)
