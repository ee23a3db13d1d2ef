"""A planned batch of thousands of payees, written in bulk: providers, what they earned, items."""

from collections.abc import Sequence
from uuid import UUID

import psycopg

from raymart_core.ids import new_id

MOVEMENTS_MAX = 1_000

_PEOPLE = b"""
    with made as (
        insert into organization (id, slug, name, kind)
        select gen_random_uuid(), 'crowd-' || gen_random_uuid(), 'Crowd', 'provider' from generate_series(1, %s)
        returning id
    )
    insert into provider (id, organization_id, slug, name, state)
    select gen_random_uuid(), id, 'crowd-' || id, 'Crowd', 'active' from made returning id
"""
_ACCOUNTS = b"""
    select ledger_open_account('provider_payable', id, 'usd'), ledger_open_account('payout_clearing', id, 'usd')
      from unnest(%s::uuid[]) with ordinality as given (id, place) order by place
"""
_ITEMS = b"""
    insert into payout_item (id, batch_id, position, provider_id, epoch_id, wallet, token_account, amount_micro_usdc)
    select id, %s, place - 1, provider_id, %s, wallet, account, %s
      from unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[])
           with ordinality as given (id, provider_id, wallet, account, place)
"""
_EPOCH = b"""
    insert into epoch (id, number, starts_at, ends_at, closed_at)
    select gen_random_uuid(), coalesce(max(number), 0) + 1, coalesce(max(ends_at), now() - interval '7 days'),
           clock_timestamp(), clock_timestamp() from epoch
    returning id
"""


async def planned_crowd(
    connection: psycopg.AsyncConnection,
    payees: Sequence[tuple[str, str]],
    *,
    mint: str,
    micro_usdc: int,
) -> UUID:
    """A planned batch that pays each of `payees`, wallet and token account, `micro_usdc`; the money is in clearing."""
    providers = [row[0] for row in await _all(connection, _PEOPLE, len(payees))]
    items = [new_id() for _ in payees]
    await _earn(connection, providers, items, nano=micro_usdc * 1_000)
    [[epoch_id]] = await _all(connection, _EPOCH)
    batch_id = new_id()
    await connection.execute(
        "insert into payout_batch (id, kind, epoch_id, mint, total_micro_usdc, payees) values (%s, 'earnings', %s, %s, %s, %s)",
        (batch_id, epoch_id, mint, micro_usdc * len(payees), len(payees)),
    )
    wallets, accounts = zip(*payees, strict=True)
    await connection.execute(
        _ITEMS, (batch_id, epoch_id, micro_usdc, items, providers, list(wallets), list(accounts))
    )
    return batch_id


async def _earn(
    connection: psycopg.AsyncConnection, providers: Sequence[UUID], items: Sequence[UUID], *, nano: int
) -> None:
    """Customers paid, usage earned, and planning moved it on: as the ledger would have it, in batches."""
    customer = new_id()
    grant, balance, usage = [
        (await _all(connection, b"select ledger_open_account(%s, %s::uuid, 'usd')", kind, owner))[0][0]
        for kind, owner in (
            ("promotional_credit", None), ("customer_balance", customer), ("usage_clearing", customer),
        )
    ]  # fmt: skip
    total = nano * len(items)
    first = [
        (f"crowd:{customer}:grant", grant, balance, total, "credit_grant"),
        (f"crowd:{customer}:usage", balance, usage, total, "usage_charge"),
    ]
    accounts = await _all(connection, _ACCOUNTS, list(providers))
    earned = [
        (f"crowd:{item}:earned", usage, payable, nano, "usage_earning")
        for item, (payable, _) in zip(items, accounts, strict=True)
    ]
    sent = [
        (f"payout:{item}:sent", payable, clearing, nano, "payout_sent")
        for item, (payable, clearing) in zip(items, accounts, strict=True)
    ]
    for movements in (first, earned, sent):
        for start in range(0, len(movements), MOVEMENTS_MAX):
            columns = zip(*movements[start : start + MOVEMENTS_MAX], strict=True)
            await connection.execute(
                "select ledger_post_batch(%s, %s, %s, %s, %s)", [list(column) for column in columns]
            )


async def _all(connection: psycopg.AsyncConnection, statement: bytes, *parameters: object) -> list[tuple]:
    return await (await connection.execute(statement, parameters)).fetchall()
