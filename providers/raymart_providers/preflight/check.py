"""One line of the table that `join` and `doctor` show."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at. "fail": the machine cannot serve so; "warn": it can, but worse or not everything."""

    check: str
    result: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""
