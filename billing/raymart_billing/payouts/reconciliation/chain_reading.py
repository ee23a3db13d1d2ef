"""The chain's side of a reconciliation: each endpoint by itself, and what all of them agree on."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import Received, TreasuryTransaction
from raymart_billing.solana.answers import ChainTransaction
from raymart_billing.solana.errors import EndpointsDisagree
from raymart_billing.solana.rpc import SIGNATURES_MAX, SolanaRpc
from raymart_billing.solana.token_accounts import TokenAccount

AT_ONCE = 8
"""Transactions asked for side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReading:
    """What one endpoint says of the treasury's token account."""

    name: str
    slot: int
    """Finalized; of the balance, and the last that `signatures` are complete for."""
    balance_micro_usdc: int
    signatures: Mapping[str, int]
    """Slots of the transactions that name the account, by signature."""


@dataclass(slots=True, kw_only=True)
class ChainReading:
    """What all endpoints agree on, up to a slot, and where they do not."""

    slot: int
    balance_micro_usdc: int
    history: list[TreasuryTransaction] = field(default_factory=list)
    """Oldest first."""
    differences: list[Difference] = field(default_factory=list)


class ChainReader:
    """Reads for one treasury. Raises from every method: RpcError, and then nothing is known."""

    def __init__(self, rpc: SolanaRpc, *, mint: str, treasury_account: str) -> None:
        self._rpc = rpc
        self._mint = mint
        self._account = treasury_account
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def standing(self, addresses: Collection[str]) -> tuple[frozenset[str], Sequence[Difference]]:
        """Which of the accounts exist at finalized for all endpoints, and those that only some have."""
        asked = sorted(addresses)
        views = []
        for endpoint in range(self._rpc.endpoints):
            found = await self._rpc.accounts(asked, endpoint=endpoint)
            views.append(
                {address for address, account in zip(asked, found, strict=True) if account is not None}
            )
        agreed = frozenset.intersection(*map(frozenset, views))
        differences = [
            _disputed("account", address, [address in view for view in views])
            for address in sorted(set().union(*views) - agreed)
        ]
        return agreed, differences

    async def read(self, *, after_slot: int) -> ChainReading:
        """The account's transactions above `after_slot`, and its balance after the last of them."""
        readings = [
            await self._of_endpoint(endpoint, after_slot=after_slot)
            for endpoint in range(self._rpc.endpoints)
        ]
        lowest = min(readings, key=lambda reading: reading.slot)
        reading = ChainReading(slot=lowest.slot, balance_micro_usdc=lowest.balance_micro_usdc)
        reading.differences += compare_endpoints(readings)
        known = {
            signature: slot
            for one in readings
            for signature, slot in one.signatures.items()
            if slot <= lowest.slot
        }
        for found in await self.transactions(sorted(known, key=lambda signature: known[signature])):
            if isinstance(found, Difference):
                reading.differences.append(found)
            elif found is not None:
                reading.history.append(found)
        return reading

    async def transactions(
        self, signatures: Sequence[str]
    ) -> Sequence[TreasuryTransaction | Difference | None]:
        """Each finalized transaction; None where not all endpoints have it, a difference where their stories differ."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._transaction(signature)) for signature in signatures]
        return [task.result() for task in tasks]

    async def signatures_of(self, address: str) -> Sequence[str]:
        """Transactions without an error that name `address`, as the first endpoint that answers says."""
        return [info.signature for info in await self._rpc.signatures_of(address) if info.error is None]

    async def lamports_of(self, address: str) -> int:
        """What an account has for fees; 0 for none."""
        [account] = await self._rpc.accounts([address])
        return 0 if account is None else account.lamports

    async def _of_endpoint(self, endpoint: int, *, after_slot: int) -> EndpointReading:
        # The balance first: the history that is read after it is complete up to the balance's slot.
        [account] = await self._rpc.accounts([self._account], endpoint=endpoint)
        slot = await self._rpc.slot() if account is None else account.slot
        balance = 0 if account is None else TokenAccount.parse(account).amount
        signatures: dict[str, int] = {}
        before: str | None = None
        while True:
            page = await self._rpc.signatures_of(self._account, before=before, endpoint=endpoint)
            signatures |= {info.signature: info.slot for info in page if after_slot < info.slot <= slot}
            if len(page) < SIGNATURES_MAX or page[-1].slot <= after_slot:
                break
            before = page[-1].signature
        return EndpointReading(
            name=f"endpoint {endpoint + 1}", slot=slot, balance_micro_usdc=balance, signatures=signatures
        )

    async def _transaction(self, signature: str) -> TreasuryTransaction | Difference | None:
        async with self._at_once:
            try:
                found = await self._rpc.transaction(signature)
            except EndpointsDisagree as error:
                return Difference(
                    kind=DifferenceKind.ENDPOINTS,
                    table="treasury",
                    row=signature,
                    expected="one story of it",
                    found=error.message[:200],
                )
        return None if found is None else treasury_transaction(found, mint=self._mint, account=self._account)


def treasury_transaction(transaction: ChainTransaction, *, mint: str, account: str) -> TreasuryTransaction:
    """What `transaction` means for the treasury's token account `account` of `mint`. By balances, not instructions."""
    changes = {
        balance.account: (balance.owner or "", balance.after - balance.before)
        for balance in transaction.token_balances
        if balance.mint == mint
    }
    _, own = changes.pop(account, ("", 0))
    at = transaction.block_time
    return TreasuryTransaction(
        signature=transaction.signature,
        slot=transaction.slot,
        at=None if at is None else datetime.fromtimestamp(at, UTC),
        fee_lamports=transaction.fee_lamports,
        is_failed=transaction.error is not None,
        change_micro_usdc=own,
        received={
            address: Received(owner=owner, amount_micro_usdc=change)
            for address, (owner, change) in changes.items()
            if change > 0
        },
        accounts=frozenset(transaction.accounts),
    )


def compare_endpoints(readings: Sequence[EndpointReading]) -> Iterator[Difference]:
    """Where endpoints differ about the history up to a slot that all have reached, or about the balance there. Pure."""
    lowest = min(readings, key=lambda reading: reading.slot)
    reached = [
        {signature for signature, slot in reading.signatures.items() if slot <= lowest.slot}
        for reading in readings
    ]
    everywhere = reached[0].intersection(*reached[1:])
    for signature in sorted(reached[0].union(*reached[1:]) - everywhere):
        yield _disputed("transaction", signature, [signature in view for view in reached])
    for reading in readings:
        has_moved = any(slot > lowest.slot for slot in reading.signatures.values())
        if not has_moved and reading.balance_micro_usdc != lowest.balance_micro_usdc:
            yield Difference(
                kind=DifferenceKind.ENDPOINTS,
                table="treasury",
                row="balance",
                expected=f"{lowest.balance_micro_usdc} ({lowest.name})",
                found=f"{reading.balance_micro_usdc} ({reading.name})",
            )


def _disputed(what: str, row: str, views: Sequence[bool]) -> Difference:
    having = ", ".join(str(number) for number, has in enumerate(views, start=1) if has)
    lacking = ", ".join(str(number) for number, has in enumerate(views, start=1) if not has)
    return Difference(
        kind=DifferenceKind.ENDPOINTS,
        table="treasury",
        row=row,
        expected=f"{what} at endpoint {having}",
        found=f"none at endpoint {lacking}",
    )
