"""Verification: every check of the books, from the first row on, in one snapshot and bounded memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from raymart_billing.connections import Connection
from raymart_billing.ledger.verify_books import (
    balance_findings,
    code_findings,
    hold_findings,
    snapshot_findings,
)
from raymart_billing.ledger.verify_chain import chain_findings
from raymart_billing.seals.checking import Chain
from raymart_billing.seals.head import Head

FINDINGS_MAX = 100
"""How many findings of each check are named; one is enough to know."""


class Check(StrEnum):
    """What is checked, in this order: the chain names an edited row most exactly."""

    CHAIN = "chain"
    """Each transfer is the one that was sealed, none is missing, the end is where the head says."""
    CODES = "codes"
    """Each transfer fits its code, its hold, or what it reverses."""
    HOLDS = "holds"
    """Holds are resolved at most once; open holds and leases are those that the transfers leave open."""
    BALANCES = "balances"
    """Each balance is the sum of its transfers, no account owes that may not, no clearing account keeps money."""
    SNAPSHOTS = "snapshots"
    """Each day's balances are the day before plus the transfers between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One bad row, in words that name it."""

    check: Check
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification saw and found."""

    findings: Sequence[Finding]
    """In the order of the checks; the first is the first bad row. At most 100 of each check."""
    chain: Chain
    """How far the chain reaches."""


async def verify(connection: Connection, *, key: bytes | None, head: Head | None) -> Verification:
    """Check everything; without `key` seals are counted and not recomputed, without `head` a cut end cannot show.

    Runs in one REPEATABLE READ transaction, so that all checks see the same moment; locks nothing and can run beside
    full traffic. Memory here is bounded; the server sorts and joins within its work_mem.
    """
    assert connection.autocommit, "verify opens its own transaction"
    chain = Chain()
    checks: Sequence[tuple[Check, Callable[[], AsyncIterator[str]]]] = (
        (Check.CHAIN, lambda: chain_findings(connection, chain, key=key, head=head)),
        (Check.CODES, lambda: code_findings(connection)),
        (Check.HOLDS, lambda: hold_findings(connection)),
        (Check.BALANCES, lambda: balance_findings(connection)),
        (Check.SNAPSHOTS, lambda: snapshot_findings(connection)),
    )
    findings: list[Finding] = []
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        for check, run in checks:
            named = 0
            async for found in run():
                findings.append(Finding(check=check, text=found))
                named += 1
                if named == FINDINGS_MAX:
                    break
    return Verification(findings=findings, chain=chain)
