"""Payout batches of a test's own, written by SQL as the runtime's role: providers, people, epochs, items, approvals."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from solders.pubkey import Pubkey

from raymart_billing.connections import Pool
from raymart_core.ids import new_id
from support.books import fetch

MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"

_CHOOSE = (
    """
    insert into wallet_proof (id, organization_id, user_id, address, message, signature)
    select gen_random_uuid(), organization_id, %(user_id)s, %(address)s, 'm', decode(repeat('00', 64), 'hex')
      from provider where id = %(provider_id)s
    """,
    """
    insert into payout_wallet (id, organization_id, provider_id, address, proof_id, proven_at, chosen_by, is_first,
                               payable_from, warnings, check_state)
    select gen_random_uuid(), organization_id, %(provider_id)s, address, id, proven_at, user_id, true, now(), '{}',
           'unchecked'
      from wallet_proof where user_id = %(user_id)s and address = %(address)s
    """,
    "update payout_wallet set check_state = 'passed', checked_at = now() where provider_id = %(provider_id)s",
)


def address() -> str:
    """An address that nobody has."""
    return str(Pubkey(new_id().bytes + new_id().bytes))


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """A batch with its items in order."""

    id: UUID
    items: Sequence[UUID]
    total: int


class PayoutBatches:
    """Ways to batches in any state, without the services."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def fetch(self, statement: str, *parameters: object) -> list[tuple]:
        async with self.pool.connection() as connection:
            return await fetch(connection, statement, *parameters)

    async def choose_wallet(self, provider_id: UUID, wallet: str) -> None:
        """The provider's first wallet, proven and checked: it may be paid at once."""
        given = {"provider_id": provider_id, "address": wallet, "user_id": await self.person()}
        async with self.pool.connection() as connection, connection.transaction():
            for statement in _CHOOSE:
                await connection.execute(statement, given)

    async def value(self, statement: str, *parameters: object):
        [[value]] = await self.fetch(statement, *parameters)
        return value

    async def person(self) -> UUID:
        """A user."""
        user_id = new_id()
        await self.fetch(
            "insert into \"user\" (id, email, name, password_hash) values (%s, %s, 'U', 'x')",
            user_id,
            f"{user_id.hex}@example.com",
        )
        return user_id

    async def provider(self) -> UUID:
        """An active provider with an organization of its own."""
        organization_id, provider_id = new_id(), new_id()
        await self.fetch(
            "insert into organization (id, slug, name, kind) values (%s, %s, 'O', 'provider')",
            organization_id,
            organization_id.hex,
        )
        await self.fetch(
            "insert into provider (id, organization_id, slug, name, state) values (%s, %s, %s, 'P', 'active')",
            provider_id,
            organization_id,
            provider_id.hex,
        )
        return provider_id

    async def epoch(self) -> UUID:
        """The next epoch, over as of now."""
        return await self.value(
            "insert into epoch (id, number, starts_at, ends_at, closed_at)"
            " select gen_random_uuid(), coalesce(max(number), 0) + 1, coalesce(max(ends_at), now() - interval '7 days'),"
            " clock_timestamp(), clock_timestamp() from epoch returning id"
        )

    async def batch(
        self,
        *amounts: int,
        created_by: UUID | None = None,
        to: Sequence[tuple[str, str]] | None = None,
        mint: str = MINT,
    ) -> MadeBatch:
        """A planned batch that pays a new provider each amount, in micro-USDC, `to` wallets with their token accounts."""
        epoch_id, batch_id = await self.epoch(), new_id()
        await self.fetch(
            "insert into payout_batch (id, kind, epoch_id, mint, total_micro_usdc, payees, created_by)"
            " values (%s, 'earnings', %s, %s, %s, %s, %s)",
            batch_id,
            epoch_id,
            mint,
            sum(amounts),
            len(amounts),
            created_by,
        )
        items = [new_id() for _ in amounts]
        payees = to or [(address(), address()) for _ in amounts]
        for position, amount in enumerate(amounts):
            wallet, token_account = payees[position]
            provider_id = await self.provider()
            await self.choose_wallet(provider_id, wallet)
            await self.fetch(
                "insert into payout_item (id, batch_id, position, provider_id, epoch_id, wallet, token_account,"
                " amount_micro_usdc) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                items[position],
                batch_id,
                position,
                provider_id,
                epoch_id,
                wallet,
                token_account,
                amount,
            )
        return MadeBatch(batch_id, items, sum(amounts))

    async def approve(self, batch: MadeBatch, *, people: int = 1) -> None:
        """Approved by so many people, in one part."""
        for _ in range(people):
            await self.approval(batch, await self.person())
        await self.set_state(batch, "approved")
        await self.part(batch)

    async def approval(self, batch: MadeBatch, user_id: UUID, *, total: int | None = None) -> None:
        await self.fetch(
            "insert into payout_approval (batch_id, user_id, total_micro_usdc) values (%s, %s, %s)",
            batch.id,
            user_id,
            total or batch.total,
        )

    async def set_state(self, batch: MadeBatch, state: str) -> None:
        await self.fetch(
            "update payout_batch set state = %s, hold_reason = case when %s = 'held' then 'r' end,"
            " finished_at = case when %s in ('finalized', 'cancelled') then now() end where id = %s",
            state,
            state,
            state,
            batch.id,
        )

    async def part(self, batch: MadeBatch, position: int = 0) -> UUID:
        """One part with all of the batch's items."""
        part_id = new_id()
        async with self.pool.connection() as connection, connection.transaction():
            await fetch(
                connection,
                "insert into payout_part (id, batch_id, position, total_micro_usdc) values (%s, %s, %s, %s)",
                part_id,
                batch.id,
                position,
                batch.total,
            )
            await fetch(
                connection, "update payout_item set part_id = %s where batch_id = %s", part_id, batch.id
            )
        return part_id

    async def attempt(self, part_id: UUID, number: int = 1) -> UUID:
        attempt_id = new_id()
        await self.fetch(
            "insert into payout_attempt (id, part_id, number, generation, signature, raw_transaction, version, blockhash,"
            " last_valid_block_height, compute_unit_limit, priority_fee_lamports)"
            " values (%s, %s, %s, 0, %s, 'x', 1, 'h', 150, 7000, 0)",
            attempt_id,
            part_id,
            number,
            f"signature {attempt_id}",
        )
        return attempt_id
