"""Approved payout batches written straight into the tables, with money behind them, for tests that send thousands of payees."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from raymart_core.ids import new_id

NANO_PER_MICRO = 1_000


@dataclass(frozen=True, slots=True)
class Payee:
    """Who gets how much, where."""

    wallet: str
    token_account: str
    amount_micro_usdc: int


class Planner:
    """Writes as the runtime's role through `connection`, in autocommit; every batch is of an epoch of its own."""

    def __init__(self, connection: psycopg.Connection, *, mint: str) -> None:
        assert connection.autocommit, "each batch is a transaction of its own"
        self._connection = connection
        self._mint = mint
        self._approver = self._person()
        self._customer = self._organization("customer")
        self._providers: list[UUID] = []

    def plan(self, payees: Sequence[Payee], *, part_size: int) -> UUID:
        """An approved batch in parts of at most `part_size`; returns its id. The money is on its way in the ledger."""
        providers = self._providers_for(len(payees))
        self._earn(providers, payees)
        batch_id, items = new_id(), [new_id() for _ in payees]
        with self._connection.transaction():
            epoch_id = self._epoch()
            self._connection.execute(
                "insert into payout_batch (id, kind, epoch_id, mint, total_micro_usdc, payees)"
                " values (%s, 'earnings', %s, %s, %s, %s)",
                (batch_id, epoch_id, self._mint, sum(one.amount_micro_usdc for one in payees), len(payees)),
            )
            with self._connection.cursor() as cursor:
                cursor.executemany(
                    "insert into payout_item (id, batch_id, position, provider_id, epoch_id, wallet, token_account,"
                    " amount_micro_usdc) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (
                            item,
                            batch_id,
                            position,
                            provider,
                            epoch_id,
                            one.wallet,
                            one.token_account,
                            one.amount_micro_usdc,
                        )
                        for position, (item, provider, one) in enumerate(
                            zip(items, providers, payees, strict=True)
                        )
                    ],
                )
            self._post("payout_sent", [f"payout:{item}:sent" for item in items], providers, payees)
        self._approve(batch_id)
        for position, start in enumerate(range(0, len(payees), part_size)):
            self._part(batch_id, position, items[start : start + part_size])
        return batch_id

    def reconnect(self, connection: psycopg.Connection) -> None:
        """Go on through another session, of a database that has what this one wrote."""
        self._connection.close()
        self._connection = connection

    def _part(self, batch_id: UUID, position: int, items: Sequence[UUID]) -> None:
        part_id = new_id()
        with self._connection.transaction():
            self._connection.execute(
                "insert into payout_part (id, batch_id, position, total_micro_usdc)"
                " select %s, %s, %s, sum(amount_micro_usdc) from payout_item where id = any(%s)",
                (part_id, batch_id, position, list(items)),
            )
            self._connection.execute(
                "update payout_item set part_id = %s where id = any(%s)", (part_id, list(items))
            )

    def _approve(self, batch_id: UUID) -> None:
        with self._connection.transaction():
            self._connection.execute(
                "insert into payout_approval (batch_id, user_id, total_micro_usdc)"
                " select id, %s, total_micro_usdc from payout_batch where id = %s",
                (self._approver, batch_id),
            )
            self._connection.execute("update payout_batch set state = 'approved' where id = %s", (batch_id,))

    def _earn(self, providers: Sequence[UUID], payees: Sequence[Payee]) -> None:
        """Each provider has just earned what it is to be paid, of a customer's granted money."""
        promotional = self._account("promotional_credit", None)
        balance = self._account("customer_balance", self._customer)
        clearing = self._account("usage_clearing", self._customer)
        total = sum(one.amount_micro_usdc for one in payees) * NANO_PER_MICRO
        self._post_batch([f"chaos:{new_id()}"], [promotional], [balance], [total], ["credit_grant"])
        self._post_batch([f"chaos:{new_id()}"], [balance], [clearing], [total], ["usage_charge"])
        self._post_batch(
            [f"chaos:{new_id()}" for _ in payees],
            [clearing] * len(payees),
            [self._account("provider_payable", provider) for provider in providers],
            [one.amount_micro_usdc * NANO_PER_MICRO for one in payees],
            ["usage_earning"] * len(payees),
        )

    def _post(
        self, code: str, keys: Sequence[str], providers: Sequence[UUID], payees: Sequence[Payee]
    ) -> None:
        self._post_batch(
            keys,
            [self._account("provider_payable", provider) for provider in providers],
            [self._account("payout_clearing", provider) for provider in providers],
            [one.amount_micro_usdc * NANO_PER_MICRO for one in payees],
            [code] * len(keys),
        )

    def _post_batch(
        self,
        keys: Sequence[str],
        debits: Sequence[int],
        credits_: Sequence[int],
        amounts: Sequence[int],
        codes: Sequence[str],
    ) -> None:
        self._connection.execute(
            "select ledger_post_batch(%s, %s, %s, %s, %s)",
            (list(keys), list(debits), list(credits_), list(amounts), list(codes)),
        )

    def _account(self, kind: str, owner: UUID | None) -> int:
        return self._value("select ledger_open_account(%s, %s::uuid, 'usd')", kind, owner)

    def _epoch(self) -> UUID:
        return self._value(
            "insert into epoch (id, number, starts_at, ends_at, closed_at)"
            " select gen_random_uuid(), coalesce(max(number), 0) + 1, coalesce(max(ends_at), now() - interval '7 days'),"
            " clock_timestamp(), clock_timestamp() from epoch returning id"
        )

    def _providers_for(self, count: int) -> Sequence[UUID]:
        """The same ones in every batch: only their wallets are new."""
        while len(self._providers) < count:
            organization_id, provider_id = self._organization("provider"), new_id()
            self._connection.execute(
                "insert into provider (id, organization_id, slug, name, state) values (%s, %s, %s, 'P', 'active')",
                (provider_id, organization_id, provider_id.hex),
            )
            self._providers.append(provider_id)
        return self._providers[:count]

    def _organization(self, kind: str) -> UUID:
        organization_id = new_id()
        self._connection.execute(
            "insert into organization (id, slug, name, kind) values (%s, %s, 'O', %s)",
            (organization_id, organization_id.hex, kind),
        )
        return organization_id

    def _person(self) -> UUID:
        user_id = new_id()
        self._connection.execute(
            "insert into \"user\" (id, email, name, password_hash) values (%s, %s, 'U', 'x')",
            (user_id, f"{user_id.hex}@example.com"),
        )
        return user_id

    def _value(self, statement: str, *parameters: object):
        row = self._connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row[0]
