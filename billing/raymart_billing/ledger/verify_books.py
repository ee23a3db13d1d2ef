"""The books against themselves: codes, holds, balances and snapshots, recomputed from the transfers."""

from collections.abc import AsyncIterator

from psycopg.rows import TupleRow

from raymart_billing.connections import Connection
from raymart_billing.ledger.effects import Mismatch, effects

_ROWS_PER_FETCH = 1_000

# What the trigger checks at each insert, of all rows: it may have been switched off.
_CODES = b"""
    select t.id, t.code, d.kind, c.kind, t.state
      from transfer t
      left join ledger_account d on d.id = t.debit_account_id
      left join ledger_account c on c.id = t.credit_account_id
      left join transfer_code rule on rule.code = t.code
      left join transfer h on h.id = t.pending_id
      left join transfer o on o.id = t.reverses_id
     where (
        t.amount > 0 and d.asset = c.asset and rule.state = t.state
        and (rule.debit_kind is null or (
            d.kind = rule.debit_kind and c.kind = rule.credit_kind and d.asset = rule.asset
            and (not rule.one_owner or d.owner_id = c.owner_id or d.owner_id is null or c.owner_id is null)
        ))
        and (t.pending_id is null or (
            h.state = 'pending' and t.amount <= h.amount and (t.state <> 'voided' or t.amount = h.amount)
            and (t.debit_account_id, t.credit_account_id) = (h.debit_account_id, h.credit_account_id)
        ))
        and (t.code <> 'reversal' or (
            o.state = 'posted' and o.code <> 'reversal' and o.amount = t.amount
            and (t.debit_account_id, t.credit_account_id) = (o.credit_account_id, o.debit_account_id)
        ))
     ) is not true
     order by t.id
"""
_RESOLVED_TWICE = b"""
    select pending_id, count(*), min(id), max(id) from transfer where pending_id is not null
     group by pending_id having count(*) > 1 order by pending_id
"""
_REVERSED_TWICE = b"""
    select reverses_id, count(*), min(id), max(id) from transfer where reverses_id is not null
     group by reverses_id having count(*) > 1 order by reverses_id
"""
_OPEN_HOLDS = b"""
    select coalesce(h.id, o.transfer_id), h.id is null, o.transfer_id is null
      from (
        select id, expires_at from transfer p
         where state = 'pending' and not exists (select from transfer r where r.pending_id = p.id)
      ) h
      full join open_hold o on o.transfer_id = h.id
     where h.id is null or o.transfer_id is null or h.expires_at <> o.expires_at
     order by 1
"""
# A lease's money is one open hold under its own key; an open hold under a lease's key is that lease's.
_LEASES = b"""
    select l.id, l.held, h.id, h.amount, h.key
      from credit_lease l
      full join (
        select t.id, t.key, t.amount from open_hold o join transfer t on t.id = o.transfer_id
         where t.key like 'lease:%'
      ) h on h.id = l.transfer_id
     where (l.held > 0 or h.id is not null)
       and (l.held = h.amount and h.key = 'lease:' || l.id || ':' || l.generation) is not true
     order by 1, 3
"""
_BALANCES = f"""
    with moved as ({effects(of="true")})
    select coalesce(a.id, m.account_id), coalesce(a.kind, 'no such account'),
           array[coalesce(a.debits_posted, 0), coalesce(a.credits_posted, 0), coalesce(a.debits_pending, 0),
                 coalesce(a.credits_pending, 0)],
           array[coalesce(m.debits_posted, 0), coalesce(m.credits_posted, 0), coalesce(m.debits_pending, 0),
                 coalesce(m.credits_pending, 0)]
      from ledger_account a
      full join moved m on m.account_id = a.id
     where (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending)
           is distinct from (coalesce(m.debits_posted, 0), coalesce(m.credits_posted, 0), coalesce(m.debits_pending, 0),
                             coalesce(m.credits_pending, 0))
     order by 1
""".encode()  # noqa: S608 - constants of this module
_RULES_OF_ACCOUNTS = b"""
    select id, kind,
           case when not may_overdraw and debits_posted + debits_pending > credits_posted then 'owes and may not'
                else 'keeps money and is to pass it on' end
      from ledger_account
     where (not may_overdraw and debits_posted + debits_pending > credits_posted)
        or (kind = 'usage_clearing' and debits_posted <> credits_posted)
     order by id
"""
_DAYS = b"select day, horizon from ledger_snapshot order by day"
_ORPHANS = b"""
    select s.day, min(s.account_id) from account_snapshot s
     where not exists (select from ledger_snapshot l where l.day = s.day) group by s.day order by s.day
"""
_BETWEEN = """
    t.xact_id < pg_snapshot_xmax(cast(%(horizon)s as pg_snapshot))::text::bigint
    and pg_visible_in_snapshot(t.xact_id::text::xid8, cast(%(horizon)s as pg_snapshot))
    and (cast(%(before)s as text) is null or (
        t.xact_id >= pg_snapshot_xmin(cast(%(before)s as pg_snapshot))::text::bigint
        and not pg_visible_in_snapshot(t.xact_id::text::xid8, cast(%(before)s as pg_snapshot))
    ))
"""
_DAY = f"""
    with moved as (
        select * from ({effects(of=_BETWEEN)}) m
         where (debits_posted, credits_posted, debits_pending, credits_pending) <> (0, 0, 0, 0)
    )
    select coalesce(s.account_id, m.account_id), coalesce(a.kind, 'no such account'),
           array[coalesce(s.debits_posted, 0), coalesce(s.credits_posted, 0), coalesce(s.debits_pending, 0),
                 coalesce(s.credits_pending, 0)],
           array[coalesce(before.debits_posted, 0) + coalesce(m.debits_posted, 0),
                 coalesce(before.credits_posted, 0) + coalesce(m.credits_posted, 0),
                 coalesce(before.debits_pending, 0) + coalesce(m.debits_pending, 0),
                 coalesce(before.credits_pending, 0) + coalesce(m.credits_pending, 0)]
      from (select * from account_snapshot where day = %(day)s) s
      full join moved m on m.account_id = s.account_id
      left join ledger_account a on a.id = coalesce(s.account_id, m.account_id)
      left join lateral (
        select * from account_snapshot p
         where p.account_id = coalesce(s.account_id, m.account_id) and p.day < %(day)s order by p.day desc limit 1
      ) before on true
     where (s.debits_posted, s.credits_posted, s.debits_pending, s.credits_pending)
           is distinct from (coalesce(before.debits_posted, 0) + coalesce(m.debits_posted, 0),
                             coalesce(before.credits_posted, 0) + coalesce(m.credits_posted, 0),
                             coalesce(before.debits_pending, 0) + coalesce(m.debits_pending, 0),
                             coalesce(before.credits_pending, 0) + coalesce(m.credits_pending, 0))
     order by 1
""".encode()  # noqa: S608 - constants of this module


async def code_findings(connection: Connection) -> AsyncIterator[str]:
    """Transfers that no statement could have written with the guards on."""
    async for transfer_id, code, debit, credit, state in _rows(connection, _CODES):
        yield (
            f"transfer {transfer_id} does not fit its code {code!r}, its hold or what it reverses: "
            f"{state}, {debit} -> {credit}"
        )


async def hold_findings(connection: Connection) -> AsyncIterator[str]:
    """Holds resolved twice, and open holds and leases that are not those of the transfers."""
    for statement, done in ((_RESOLVED_TWICE, "resolved"), (_REVERSED_TWICE, "reversed")):
        async for transfer_id, times, first, last in _rows(connection, statement):
            yield f"transfer {transfer_id} is {done} {times} times, by transfers {first} to {last}"
    async for transfer_id, is_invented, is_hidden in _rows(connection, _OPEN_HOLDS):
        if is_invented:
            yield f"open_hold names transfer {transfer_id}, which is no open hold"
        elif is_hidden:
            yield f"hold {transfer_id} is open and open_hold lacks it: it would never expire"
        else:
            yield f"hold {transfer_id} expires at another time than open_hold says"
    async for lease_id, held, transfer_id, amount, key in _rows(connection, _LEASES):
        if transfer_id is None:
            yield f"lease {lease_id} says it holds {held}, and no open hold is its own"
        elif lease_id is None:
            yield f"hold {transfer_id} ({key}) is open and no lease counts on it: nothing would give it back"
        elif held != amount:
            yield f"lease {lease_id} says it holds {held}, and its hold {transfer_id} is of {amount}"
        else:
            yield f"lease {lease_id} counts on hold {transfer_id}, whose key {key!r} is not of its generation"


async def balance_findings(connection: Connection) -> AsyncIterator[str]:
    """Accounts that differ from their transfers, that owe and may not, or that keep what they should pass on."""
    async for row in _rows(connection, _BALANCES):
        yield str(Mismatch.of(row))
    async for account_id, kind, fault in _rows(connection, _RULES_OF_ACCOUNTS):
        yield f"account {account_id} ({kind}) {fault}"


async def snapshot_findings(connection: Connection) -> AsyncIterator[str]:
    """Rows of snapshots that differ from the day before plus the transfers between; one day at a time."""
    async for day, account_id in _rows(connection, _ORPHANS):
        yield f"the snapshot of {day} has rows (account {account_id}) and no header"
    before = None
    days = await (await connection.execute(_DAYS)).fetchall()
    for day, horizon in days:
        span = {"day": day, "horizon": horizon, "before": before}
        async for row in _rows(connection, _DAY, span):
            yield f"the snapshot of {day} differs from the day before and the transfers between: {Mismatch.of(row)}"
        before = horizon


async def _rows(
    connection: Connection, statement: bytes, parameters: dict[str, object] | None = None
) -> AsyncIterator[TupleRow]:
    """Rows of `statement` by a server-side cursor: a book full of faults is no reason to run out of memory."""
    async with connection.cursor("ledger_verify") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(statement, parameters)
        async for row in cursor:
            yield row
