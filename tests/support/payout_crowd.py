"""An approved batch of thousands of payees, written in bulk: providers, what they earned, items, parts, the approval."""

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
_AMOUNTS = b"""
    select sum(amount_micro_usdc)::bigint
      from (select position / %s as part, amount_micro_usdc from payout_item where batch_id = %s) item
     group by part order by part
"""
_PARTS = b"""
    insert into payout_part (id, batch_id, position, total_micro_usdc)
    select id, %s, place - 1, amount from unnest(%s::uuid[], %s::bigint[]) with ordinality as given (id, amount, place)
"""
_SEATS = b"""
    update payout_item set part_id = (%s::uuid[])[position / %s + 1] where batch_id = %s
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


async def approve_crowd(connection: psycopg.AsyncConnection, batch_id: UUID, *, part_size: int) -> None:
    """One person approves it, and it is parted, in one transaction as the service does."""
    user_id = new_id()
    async with connection.transaction():
        await connection.execute(
            "insert into \"user\" (id, email, name, password_hash) values (%s, %s, 'A', 'x')",
            (user_id, f"{user_id.hex}@example.com"),
        )
        await connection.execute(
            "insert into payout_approval (batch_id, user_id, total_micro_usdc)"
            " select id, %s, total_micro_usdc from payout_batch where id = %s",
            (user_id, batch_id),
        )
        await connection.execute("update payout_batch set state = 'approved' where id = %s", (batch_id,))
        amounts = [row[0] for row in await _all(connection, _AMOUNTS, part_size, batch_id)]
        parts = [new_id() for _ in amounts]
        await connection.execute(_PARTS, (batch_id, parts, amounts))
        await connection.execute(_SEATS, (parts, part_size, batch_id))


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
