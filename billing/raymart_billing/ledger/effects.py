"""What transfers do to the four columns of their accounts, recomputed: SQL that checks share with each other."""

from dataclasses import dataclass
from typing import Self

COLUMNS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """An account of which a stored and a recomputed value differ."""

    account_id: int
    kind: str
    stored: tuple[int, int, int, int]
    """debits_posted, credits_posted, debits_pending, credits_pending."""
    recomputed: tuple[int, int, int, int]

    @classmethod
    def of(cls, row: tuple[int, str, list[int], list[int]]) -> Self:
        """A row of (account, kind, stored, recomputed)."""
        account_id, kind, stored, recomputed = row
        return cls(account_id=account_id, kind=kind, stored=_four(stored), recomputed=_four(recomputed))

    def __str__(self) -> str:
        differences = [
            f"{name} is {stored} and its transfers make {recomputed}"
            for name, stored, recomputed in zip(COLUMNS, self.stored, self.recomputed, strict=True)
            if stored != recomputed
        ]
        return f"account {self.account_id} ({self.kind}): {', '.join(differences)}"


def effects(*, of: str) -> str:
    """A query for (account_id, debits_posted, credits_posted, debits_pending, credits_pending) of the transfers `t` for
    which the condition `of` holds: what they add, together, to each account they touch.

    `of` is text of this package, never a user's.
    """
    return f"""
        select side.account_id, sum(side.debits_posted) as debits_posted, sum(side.credits_posted) as credits_posted,
               sum(side.debits_pending) as debits_pending, sum(side.credits_pending) as credits_pending
          from (
            select t.debit_account_id, t.credit_account_id,
                   case when t.state = 'posted' then t.amount else 0 end as posted,
                   case when t.state = 'pending' then t.amount else -coalesce(h.amount, 0) end as pending
              from transfer t
              left join transfer h on h.id = t.pending_id
             where {of}
          ) moved
          cross join lateral (values
            (moved.debit_account_id, moved.posted, 0::bigint, moved.pending, 0::bigint),
            (moved.credit_account_id, 0, moved.posted, 0, moved.pending)
          ) side (account_id, debits_posted, credits_posted, debits_pending, credits_pending)
         group by side.account_id
    """  # noqa: S608 - see the docstring


def _four(values: list[int]) -> tuple[int, int, int, int]:
    first, second, third, fourth = values
    return int(first), int(second), int(third), int(fourth)
