"""The whole chart of accounts in plain Python, and the real database driven beside it with random operations.

Every code, holds, leases, replays, reused keys, reversals, what must be refused, and attacks. After each operation all
columns of all accounts and leases must be the model's. A run is the function of its seed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from raymart_billing.ledger.models import OVERDRAWN_BY_NATURE, PLATFORM_KINDS, AccountKind
from raymart_core.ids import new_id
from support.lease_model import LeaseSteps

CUSTOMER_KINDS = ("customer_balance", "customer_receivable", "customer_dispute", "usage_clearing")
PROVIDER_KINDS = ("provider_payable", "provider_reserve", "payout_clearing")
OWNERS_PER_KIND = 2
ATTACKS = (
    "update transfer set amount = amount + 1 where id = (select max(id) from transfer)",
    "delete from transfer where id = (select max(id) from transfer)",
    "truncate transfer",
    "update ledger_account set credits_posted = credits_posted + 1",
    "delete from open_hold",
    "update transfer_code set one_owner = false",
    "update credit_lease set held = held + 1",
    (
        "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, xact_id)"
        " select 'late' || random(), debit_account_id, credit_account_id, 1, code, state, 3 from transfer"
        " where state = 'posted' limit 1"
    ),
)

Columns = list[int]
"""debits_posted, credits_posted, debits_pending, credits_pending."""


class Violation(AssertionError):
    """The database did what the model says it must not, or refused what it must do."""


@dataclass(slots=True)
class Movement:
    """A posted transfer as the model knows it."""

    key: str
    debit: int
    credit: int
    amount: int
    code: str
    is_reversed: bool = False


@dataclass(slots=True)
class Hold:
    """A hold as the model knows it; `state` is pending, posted or voided."""

    key: str
    debit: int
    credit: int
    amount: int
    state: str = "pending"
    captured: int = 0


class LedgerModel:
    """One run against `connection` (autocommit).

    The platform's accounts are shared by all, so nothing else may write to the database meanwhile.
    """

    def __init__(self, connection: psycopg.Connection, *, seed: int) -> None:
        self.connection = connection
        self.seed = seed
        self.random = random.Random(seed)
        self.operations = 0
        self.attacks_refused = 0
        self.accounts: dict[tuple[str, int], int] = {}
        self.columns: dict[int, Columns] = {}
        self.may_owe: dict[int, bool] = {}
        self.posted: list[Movement] = []
        self.holds: list[Hold] = []
        self.owners: dict[str, list[UUID]] = {"customer": [], "provider": []}
        self.rules = self.connection.execute(
            "select code, debit_kind, credit_kind from transfer_code where state = 'posted' and code <> 'reversal' order by code"
        ).fetchall()
        for role, kinds in (("customer", CUSTOMER_KINDS), ("provider", PROVIDER_KINDS)):
            for number in range(OWNERS_PER_KIND):
                owner = new_id()
                self.owners[role].append(owner)
                for kind in kinds:
                    self._open(kind, number, owner)
        for kind in PLATFORM_KINDS:
            self._open(kind.value, 0, None)
        self.leases = LeaseSteps(self)

    def run(self, operations: int) -> None:
        """Drive that many operations. Raises: Violation."""
        steps = (
            (self.post, 8), (self.replay, 2), (self.reuse_key, 1), (self.misuse_code, 1), (self.hold, 3),
            (self.capture, 3), (self.void, 2), (self.reverse, 2), (self.attack, 1),
            *self.leases.steps,
        )  # fmt: skip
        chosen = self.random.choices(
            [step for step, _ in steps], [weight for _, weight in steps], k=operations
        )
        for step in chosen:
            step()
            self.operations += 1
            self.compare(step.__name__)
        self.end()

    def end(self) -> None:
        """Give back what is leased, and pass on what single movements left in clearing, as whole statements do."""
        self.leases.end()
        for number in range(OWNERS_PER_KIND):
            clearing = self.accounts["usage_clearing", number]
            if kept := self.columns[clearing][1] - self.columns[clearing][0]:
                payable = self.accounts["provider_payable", number]
                self._post([Movement(f"model:{new_id()}", clearing, payable, kept, "usage_earning")])
                self.apply([(clearing, payable, kept, 0)])
        self.compare("end")

    # Operations ---------------------------------------------------------------------------------------------------

    def post(self) -> None:
        """A batch of one to four movements: all or none, judged by its net effect."""
        batch = [self._movement() for _ in range(self.random.randint(1, 4))]
        changes = [(m.debit, m.credit, m.amount, 0) for m in batch]
        done = self.attempt(self._post, batch, is_allowed=self.fits(changes), refusal="CheckViolation")
        if done is not None:
            self.expect(done == len(batch), f"{done} of {len(batch)} new movements were posted")
            self.apply(changes)
            self.posted += batch

    def replay(self) -> None:
        """The same keys for the same movements: nothing happens."""
        if self.posted:
            again = self.random.sample(self.posted, min(3, len(self.posted)))
            self.expect(self._post(again) == 0, "a replay posted something")

    def reuse_key(self) -> None:
        """A key for another amount is refused."""
        if self.posted:
            used = self.random.choice(self.posted)
            other = Movement(used.key, used.debit, used.credit, used.amount + 1, used.code)
            self.attempt(self._post, [other], is_allowed=False, refusal="UniqueViolation")

    def misuse_code(self) -> None:
        """A code between accounts that are not its own is refused, as is one between two owners."""
        movement = self._movement()
        wrong = self.random.choice([rule for rule in self.rules if rule[1:] != self._kinds(movement)])
        movement.code = wrong[0]
        self.attempt(self._post, [movement], is_allowed=False, refusal="CheckViolation")

    def hold(self) -> None:
        """Reserve, if the balance covers it."""
        number = self.random.randrange(OWNERS_PER_KIND)
        hold = Hold(
            f"hold:{new_id()}",
            self.accounts["customer_balance", number],
            self.accounts["usage_clearing", number],
            self.amount(),
        )
        changes = [(hold.debit, hold.credit, 0, hold.amount)]
        statement = "select ledger_hold(%s, %s, %s, %s, 'usage_hold', '1 hour')"
        asked = (hold.key, hold.debit, hold.credit, hold.amount)
        done = self.attempt(
            lambda: self.one(statement, *asked), is_allowed=self.fits(changes), refusal="CheckViolation"
        )
        if done is not None:
            self.apply(changes)
            self.holds.append(hold)

    def capture(self) -> None:
        """Post a hold in part, in full, or too much; a second time it is a no-op, or refused for another amount."""
        if not self.holds:
            return
        hold = self.random.choice(self.holds)
        amount = self.random.choice([1, hold.amount, hold.amount + 1, max(1, hold.amount // 2)])
        ask = lambda: self.one("select ledger_post_hold(%s, %s, 'usage_charge')", hold.key, amount)  # noqa: E731
        if hold.state == "pending":
            state = self.attempt(ask, is_allowed=amount <= hold.amount, refusal="CheckViolation")
            if state is not None:
                self.apply([(hold.debit, hold.credit, amount, -hold.amount)])
                hold.state, hold.captured = "posted", amount
        elif hold.state == "posted" and amount != hold.captured:
            self.attempt(ask, is_allowed=False, refusal="UniqueViolation")
        else:
            self.expect(ask() == hold.state, f"a second capture of a {hold.state} hold said something else")

    def void(self) -> None:
        """Give a hold back; a no-op once it is resolved."""
        if self.holds:
            hold = self.random.choice(self.holds)
            state = self.one("select ledger_void_hold(%s)", hold.key)
            if hold.state == "pending":
                self.apply([(hold.debit, hold.credit, 0, -hold.amount)])
                hold.state = "voided"
            self.expect(state == hold.state, f"a void said {state}, the model {hold.state}")

    def reverse(self) -> None:
        """Undo a transfer: once, and only if the money is still there."""
        if not self.posted:
            return
        movement = self.random.choice(self.posted)
        ask = lambda: self.one(  # noqa: E731
            "select ledger_reverse(array[(select id from transfer where key = %s)], 'by the model', null)",
            movement.key,
        )
        if movement.is_reversed:
            self.expect(ask() == 0, "a transfer was reversed twice")
            return
        changes = [(movement.credit, movement.debit, movement.amount, 0)]
        if self.attempt(ask, is_allowed=self.fits(changes), refusal="CheckViolation") is not None:
            self.apply(changes)
            movement.is_reversed = True

    def attack(self) -> None:
        """What nobody may do."""
        statement = self.random.choice(ATTACKS)
        try:
            self.connection.execute(statement)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
            self.attacks_refused += 1
            return
        raise Violation(f"operation {self.operations} of seed {self.seed}: not refused: {statement}")

    # Comparing ----------------------------------------------------------------------------------------------------

    def compare(self, operation: str) -> None:
        """All columns of all accounts are the model's."""
        rows = self.connection.execute(
            "select id, debits_posted, credits_posted, debits_pending, credits_pending from ledger_account"
            " where id = any(%s)",
            (list(self.columns),),
        ).fetchall()
        for account, *columns in rows:
            self.expect(
                columns == self.columns[account],
                f"after {operation}, account {account} has {columns}, the model {self.columns[account]}",
            )
        differences = self.leases.differences()
        self.expect(not differences, f"after {operation}: {differences}")

    def fits(self, changes: Sequence[tuple[int, int, int, int]]) -> bool:
        after = {account: list(columns) for account, columns in self.columns.items()}
        self.apply(changes, after)
        return all(
            self.may_owe[account] or columns[0] + columns[2] <= columns[1]
            for account, columns in after.items()
        )

    def apply(
        self, changes: Sequence[tuple[int, int, int, int]], columns: dict[int, Columns] | None = None
    ) -> None:
        """Each change is (debit, credit, posted, pending)."""
        columns = self.columns if columns is None else columns
        for debit, credit, posted, pending in changes:
            columns[debit][0] += posted
            columns[credit][1] += posted
            columns[debit][2] += pending
            columns[credit][3] += pending

    def attempt(self, ask, *arguments, is_allowed: bool, refusal: str):
        """The answer of `ask`, or None when it was refused; it must be exactly when it is not allowed."""
        try:
            answer = ask(*arguments)
        except psycopg.Error as error:
            self.expect(not is_allowed, f"refused what is allowed: {error}")
            self.expect(type(error).__name__ == refusal, f"refused by {type(error).__name__}: {error}")
            return None
        self.expect(is_allowed, f"allowed what is to be refused by {refusal}")
        return answer

    def expect(self, holds: bool, said: str) -> None:
        if not holds:
            raise Violation(f"operation {self.operations} of seed {self.seed}: {said}")

    # Asking -------------------------------------------------------------------------------------------------------

    def _open(self, kind: str, number: int, owner: object) -> None:
        account = self.one("select ledger_open_account(%s, %s, 'usd')", kind, owner)
        self.accounts[kind, number] = account
        self.may_owe[account] = AccountKind(kind) in OVERDRAWN_BY_NATURE
        self.columns[account] = list(
            self.connection.execute(
                "select debits_posted, credits_posted, debits_pending, credits_pending from ledger_account where id = %s",
                (account,),
            ).fetchone()
        )

    def _movement(self) -> Movement:
        code, debit, credit = self.random.choice(self.rules)
        number = self.random.randrange(OWNERS_PER_KIND)
        return Movement(
            f"model:{new_id()}",
            self._account(debit, number),
            self._account(credit, number),
            self.amount(),
            code,
        )

    def _account(self, kind: str, number: int) -> int:
        return self.accounts[kind, 0 if AccountKind(kind) in PLATFORM_KINDS else number]

    def _kinds(self, movement: Movement) -> tuple[str, str]:
        names = {account: kind for (kind, _), account in self.accounts.items()}
        return names[movement.debit], names[movement.credit]

    def amount(self) -> int:
        return self.random.choice([1, self.random.randint(1, 1_000), self.random.randint(1, 10**9)])

    def _post(self, batch: Sequence[Movement]) -> int:
        return self.one(
            "select ledger_post_batch(%s, %s::bigint[], %s::bigint[], %s::bigint[], %s)",
            [m.key for m in batch], [m.debit for m in batch], [m.credit for m in batch],
            [m.amount for m in batch], [m.code for m in batch],
        )  # fmt: skip

    def one(self, statement: str, *parameters: object):
        return self.connection.execute(statement, parameters).fetchone()[0]
