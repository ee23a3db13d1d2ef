"""Leases in plain Python, beside the model of the books: taken, grown, returned, posted from, expired, and broken into."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from raymart_core.ids import new_id

Change = tuple[int, int, int, int]
"""(debit, credit, posted, pending) of two accounts."""
BY_FORCE = (
    "select ledger_void_hold(%s)",
    "select ledger_void_holds(array[%s], 'hold_released')",
    "select ledger_post_hold(%s, 1, 'usage_charge')",
    "select ledger_post_hold(%s, 0, 'usage_charge')",
)
"""What resolves a hold; never a lease's."""


@dataclass(slots=True)
class Lease:
    """A lease as the model knows it."""

    id: UUID
    number: int
    """Of its customer."""
    single_use: bool
    is_due: bool
    held: int = 0
    step: int = 0
    generation: int = 0
    is_open: bool = True

    @property
    def key(self) -> str:
        """Of its hold."""
        return f"lease:{self.id}:{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A usage that was posted from a lease, to post it again."""

    requests: Sequence[UUID]
    charges: Sequence[int]
    lease: Lease
    provider: int


class LeaseSteps:
    """Operations on leases of `model`'s customers; `model` compares the accounts, `differences` the leases."""

    def __init__(self, model) -> None:
        self.model = model
        self.random = model.random
        self.gateway_id = new_id()
        self.leases: list[Lease] = []
        self.posted: list[Usage] = []

    @property
    def steps(self) -> Sequence[tuple[object, int]]:
        """Operations and their weights."""
        return (
            (self.take, 3), (self.grow, 2), (self.give_back, 2), (self.post_from, 3), (self.post_again, 1),
            (self.expire, 1), (self.resolve_by_force, 2),
        )  # fmt: skip

    def take(self) -> None:
        """Open a lease, if the balance covers it."""
        number = self.random.randrange(len(self.model.owners["customer"]))
        is_single, is_due = self.random.random() < 0.3, self.random.random() < 0.3
        lease = Lease(new_id(), number, single_use=is_single, is_due=is_due)
        if self._take(lease, self.model.amount()):
            self.leases.append(lease)

    def grow(self) -> None:
        """Enlarge a lease; a repeat of the step changes nothing, a closed or single-use one is refused."""
        if (lease := self._any()) is None:
            return
        if self.random.random() < 0.3 and lease.is_open:
            granted = self._ask_take(lease, lease.step, 1)
            self.model.expect(granted is not None, "a repeated step was refused")
            return
        self._take(lease, self.model.amount())

    def give_back(self) -> None:
        """Return some of a lease, or all of it; a step that was taken already changes nothing."""
        if (lease := self._any()) is None:
            return
        step = lease.step + self.random.choice([0, 1, 1])
        amount, closes = self.model.amount(), self.random.random() < 0.3
        changed = self.model.one(
            "select lease_return(%s, %s, %s, %s::bigint[], %s)",
            self.gateway_id, [lease.id], [step], [amount], [closes],
        )  # fmt: skip
        counts = lease.is_open and step > lease.step
        self.model.expect(changed == counts, f"a return changed {changed} leases")
        if counts:
            lease.step = step
            self._resize(lease, 0 if closes else max(lease.held - amount, 0))
            lease.is_open = not closes

    def post_from(self) -> None:
        """Usages of one lease: from its hold, what it lacks from the balance, and then the platform's loss."""
        if (lease := self._any()) is None:
            return
        count = self.random.randint(1, 3)
        usage = Usage(
            requests=sorted(new_id() for _ in range(count)),
            charges=[
                self.random.choice([1, max(1, lease.held // 2), self.model.amount()]) for _ in range(count)
            ],
            lease=lease,
            provider=self.random.randrange(len(self.model.owners["provider"])),
        )
        self._ask_capture(usage)
        self.posted.append(usage)
        self.model.apply(self._captured(usage))

    def post_again(self) -> None:
        """The same usages: nothing happens."""
        if self.posted:
            self.model.expect(
                self._ask_capture(self.random.choice(self.posted)) == 0, "a usage was posted twice"
            )

    def expire(self) -> None:
        """Void what is due: its gateway never lived."""
        due = [lease for lease in self.leases if lease.is_open and lease.is_due]
        expired, broken = self.model.connection.execute(
            "select expired, coalesce(cardinality(broken), 0) from lease_expire(1000, '0')"
        ).fetchone()
        self.model.expect(
            expired >= len(due) and broken == 0, f"{expired} leases expired, {broken} are broken"
        )
        for lease in due:
            self._resize(lease, 0)
            lease.is_open = False

    def resolve_by_force(self) -> None:
        """What nobody may do to a lease's hold."""
        held = [lease for lease in self.leases if lease.held]
        if held:
            key = self.random.choice(held).key
            statement = self.random.choice(BY_FORCE)
            self.model.attempt(
                lambda: self.model.one(statement, key), is_allowed=False, refusal="CheckViolation"
            )

    def end(self) -> None:
        """Give everything back, so that nothing comes up for expiry in another run."""
        for lease in self.leases:
            if lease.is_open:
                self.model.one(
                    "select lease_return(%s, %s, %s, '{0}', '{true}')",
                    self.gateway_id, [lease.id], [lease.step + 1],
                )  # fmt: skip
                lease.step += 1
                self._resize(lease, 0)
                lease.is_open = False

    def differences(self) -> str:
        """In which leases the database differs from the model; empty when in none."""
        rows = self.model.connection.execute(
            "select id, held, step, generation, closed_at is null from credit_lease where gateway_id = %s",
            (self.gateway_id,),
        ).fetchall()
        here = {lease.id: (lease.held, lease.step, lease.generation, lease.is_open) for lease in self.leases}
        there = {lease_id: tuple(columns) for lease_id, *columns in rows}
        return "" if here == there else f"leases {set(there.items()) ^ set(here.items())}"

    def _any(self) -> Lease | None:
        return self.random.choice(self.leases) if self.leases else None

    def _accounts(self, lease: Lease) -> tuple[int, int]:
        accounts = self.model.accounts
        return accounts["customer_balance", lease.number], accounts["usage_clearing", lease.number]

    def _take(self, lease: Lease, amount: int) -> bool:
        """Whether it was granted."""
        allowed = lease.is_open and (lease.step == 0 or not lease.single_use)
        changes = [(*self._accounts(lease), 0, amount)]
        granted = self.model.attempt(
            lambda: self._ask_take(lease, lease.step + 1, amount),
            is_allowed=allowed and self.model.fits(changes),
            refusal="CheckViolation",
        )
        if granted is None:
            return False
        self.model.expect(granted == amount, f"{granted} was granted for {amount}")
        lease.step += 1
        self._resize(lease, lease.held + amount)
        return True

    def _ask_take(self, lease: Lease, step: int, amount: int) -> int:
        return self.model.one(
            "select granted from lease_take(%s, %s, %s, %s, %s, null, %s, %s, 1, %s::interval, %s)",
            lease.id, step, self.gateway_id, self.model.owners["customer"][lease.number], new_id(), amount, amount,
            "1 microsecond" if lease.is_due else "1 hour", lease.single_use,
        )  # fmt: skip

    def _ask_capture(self, usage: Usage) -> int:
        """How many transfers were written."""
        count, fees = len(usage.requests), [charge // 10 for charge in usage.charges]
        rows = self.model.connection.execute(
            "select transfers from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[], %s)",
            (
                usage.requests,
                [self.model.owners["customer"][usage.lease.number]] * count,
                [self.model.owners["provider"][usage.provider]] * count,
                usage.charges,
                [charge - fee for charge, fee in zip(usage.charges, fees, strict=True)],
                fees,
                [usage.lease.id] * count,
            ),
        ).fetchall()
        return sum(transfers for (transfers,) in rows)

    def _captured(self, usage: Usage) -> list[Change]:
        """What a capture moves; the lease is left as it leaves it."""
        lease, accounts = usage.lease, self.model.accounts
        balance, clearing = self._accounts(lease)
        captured = min(sum(usage.charges), lease.held)
        self._resize(lease, 0 if lease.single_use else lease.held - captured)
        lease.is_open = lease.is_open and not lease.single_use
        changes: list[Change] = [(balance, clearing, captured, 0)]
        left = captured
        uncovered = []
        for charge in usage.charges:
            uncovered.append(charge - min(charge, left))
            left -= min(charge, left)
            changes += [
                (clearing, accounts["provider_payable", usage.provider], charge - charge // 10, 0),
                (clearing, accounts["platform_fee", 0], charge // 10, 0),
            ]
        columns, asked = self.model.columns[balance], 0
        available = columns[1] - columns[0] - columns[2] - captured
        for rest in sorted(uncovered):
            asked += rest
            changes.append(
                (balance if asked <= available else accounts["platform_loss", 0], clearing, rest, 0)
            )
        return changes

    def _resize(self, lease: Lease, held: int) -> None:
        """Whatever changes what a lease holds opens its next generation."""
        if held != lease.held:
            self.model.apply([(*self._accounts(lease), 0, held - lease.held)])
            lease.generation += held > 0
            lease.held = held
