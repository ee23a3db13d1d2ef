"""Granted credit on the real ledger: its end, what is held, and what is remembered."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select

from raymart_billing.credits import (
    CreditGrant,
    GrantSource,
    expire_due,
    expire_grants,
    grant,
    read_parts,
    recompute_parts,
)
from raymart_billing.credits.models import CreditCheckpoint
from raymart_billing.credits.parts import remember
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from support.card_market import CENT, CardCustomer, CardMarket


async def give(
    market: CardMarket,
    customer: CardCustomer,
    cents: int,
    *,
    until: datetime | None = None,
    key: str | None = None,
) -> CreditGrant:
    async with session_scope(market.sessions) as session:
        return await grant(
            session,
            organization_id=customer.organization_id,
            amount=Money(cents * CENT),
            key=key or new_id().hex,
            actor_id=customer.user_id,
            reason="welcome",
            source=GrantSource.PROMOTION,
            expires_at=until,
        )


async def end(market: CardMarket, given: CreditGrant) -> None:
    """Let the grant's time be over: the database's clock cannot be moved, its end can, by the superuser."""
    async with await psycopg.AsyncConnection.connect(market.owner_url) as connection:
        await connection.execute("alter table credit_grant disable trigger refuse_rewrite")
        await connection.execute(
            "update credit_grant set expires_at = clock_timestamp() - interval '1 s' where id = %s",
            (given.id,),
        )
        await connection.execute("alter table credit_grant enable trigger refuse_rewrite")
        # What was remembered carries the end that the grant had.
        await connection.execute(
            "delete from credit_checkpoint where organization_id = %s", (given.organization_id,)
        )


async def expire(market: CardMarket, owner: UUID) -> int:
    async with session_scope(market.sessions) as session:
        return await expire_grants(session, owner) // CENT


def tomorrow(days: int = 1) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


class TestGrant:
    async def test_same_key_is_one_grant(self, market: CardMarket, customer: CardCustomer):
        until = tomorrow()
        answers = await asyncio.gather(
            *(give(market, customer, 500, until=until, key="k" + customer.user_id.hex) for _ in range(6))
        )
        assert len({answer.id for answer in answers}) == 1
        assert await market.balances(customer) == {"customer_balance": 500}

    async def test_same_key_with_another_end_is_a_conflict(self, market: CardMarket, customer: CardCustomer):
        await give(market, customer, 500, until=tomorrow(), key=customer.user_id.hex)
        with pytest.raises(Conflict):
            await give(market, customer, 500, until=tomorrow(2), key=customer.user_id.hex)

    async def test_end_in_the_past_is_refused_and_nothing_given(
        self, market: CardMarket, customer: CardCustomer
    ):
        with pytest.raises(InvalidRequest, match="past"):
            await give(market, customer, 500, until=datetime.now(UTC) - timedelta(seconds=5))
        assert await market.balances(customer) == {}

    @pytest.mark.parametrize("amount", [Money(0), Money(-1), Money(1, Asset.USDC)])
    async def test_what_is_no_amount(self, market: CardMarket, customer: CardCustomer, amount: Money):
        async with session_scope(market.sessions) as session:
            with pytest.raises(InvalidRequest):
                await grant(
                    session,
                    organization_id=customer.organization_id,
                    amount=amount,
                    key=new_id().hex,
                    actor_id=None,
                )

    @pytest.mark.parametrize(
        "change", ["expires_at = now() + interval '9 years'", "amount_nano_usd = 1", "transfer_id = 0"]
    )
    async def test_what_was_given_cannot_be_rewritten(
        self, market: CardMarket, customer: CardCustomer, change: str
    ):
        given = await give(market, customer, 500, until=tomorrow())
        assert await market.refusal(f"update credit_grant set {change} where id = '{given.id}'")
        assert await market.refusal(f"delete from credit_grant where id = '{given.id}'")


class TestExpiry:
    async def test_what_is_left_is_taken_back_once(self, market: CardMarket, customer: CardCustomer):
        given = await give(market, customer, 500, until=tomorrow())
        await market.paid(customer, 1_000)
        await market.spend(customer, 200)
        assert await expire(market, customer.organization_id) == 0, "its time is not over"
        await end(market, given)
        taken = await asyncio.gather(*(expire(market, customer.organization_id) for _ in range(4)))
        assert sorted(taken) == [0, 0, 0, 300]
        assert await market.balances(customer) == {"customer_balance": 1_000}
        async with session_scope(market.sessions) as session:
            assert (await session.get_one(CreditGrant, given.id)).closed_at is not None

    async def test_used_up_one_takes_nothing(self, market: CardMarket, customer: CardCustomer):
        given = await give(market, customer, 500, until=tomorrow())
        await market.paid(customer, 1_000)
        await market.spend(customer, 700)
        await end(market, given)
        assert await expire(market, customer.organization_id) == 0
        assert await market.balances(customer) == {"customer_balance": 800}

    async def test_held_money_stays_until_it_is_released(self, market: CardMarket, customer: CardCustomer):
        given = await give(market, customer, 500, until=tomorrow())
        hold = await market.hold(customer, 350)
        await end(market, given)
        assert await expire(market, customer.organization_id) == 150
        assert await expire(market, customer.organization_id) == 0
        await market.release(hold)
        assert await expire(market, customer.organization_id) == 350
        assert await market.balances(customer) == {}

    async def test_only_those_that_are_over(self, market: CardMarket, customer: CardCustomer):
        over = await give(market, customer, 100, until=tomorrow())
        await give(market, customer, 200, until=tomorrow(2))
        await give(market, customer, 400)
        await end(market, over)
        assert await expire(market, customer.organization_id) == 100
        assert await market.balances(customer) == {"customer_balance": 600}

    async def test_job_finds_every_customer(self, market: CardMarket):
        customers = [await market.customer() for _ in range(3)]
        for each in customers:
            await end(market, await give(market, each, 100, until=tomorrow()))
        await asyncio.gather(expire_due(market.sessions), expire_due(market.sessions))
        assert [await market.balances(each) for each in customers] == [{}, {}, {}]


class TestRemembered:
    async def test_checkpoint_and_whole_history_agree(self, market: CardMarket, customer: CardCustomer):
        owner = customer.organization_id
        await give(market, customer, 300, until=tomorrow())
        await market.paid(customer, 500)
        await market.spend(customer, 100)
        async with session_scope(market.sessions) as session:
            await remember(session, owner, await read_parts(session, owner))
        await market.spend(customer, 350)
        await give(market, customer, 50)
        async with session_scope(market.sessions) as session:
            reading = await read_parts(session, owner)
            assert reading.parts == await recompute_parts(session, owner)
        assert reading.entries_read == 2
        assert (reading.parts.paid, reading.parts.promotional) == (350 * CENT, 50 * CENT)

    async def test_older_reading_does_not_replace_a_newer_one(
        self, market: CardMarket, customer: CardCustomer
    ):
        owner = customer.organization_id
        await market.paid(customer, 500)
        async with session_scope(market.sessions) as session:
            old = await read_parts(session, owner)
        await market.spend(customer, 100)
        async with session_scope(market.sessions) as session:
            new = await read_parts(session, owner)
            await remember(session, owner, new)
            await remember(session, owner, old)
            found = await session.scalar(
                select(CreditCheckpoint.through_id).where(CreditCheckpoint.organization_id == owner)
            )
        assert found == new.through_id

    async def test_long_history_is_read_in_steps(
        self, market: CardMarket, customer: CardCustomer, monkeypatch
    ):
        monkeypatch.setattr("raymart_billing.credits.parts.ENTRIES_PER_READ_MAX", 3)
        await give(market, customer, 100, until=tomorrow())
        await market.paid(customer, 500)
        for _ in range(7):
            await market.spend(customer, 20)
        async with session_scope(market.sessions) as session:
            reading = await read_parts(session, customer.organization_id)
        assert (reading.parts.paid, reading.parts.promotional, reading.entries_read) == (460 * CENT, 0, 9)
