"""A model of the books in plain Python, and the real database driven beside it: they agree after every step."""

from collections import defaultdict
from itertools import count
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from raymart_core.ids import new_id

CUSTOMERS, PROVIDERS = 2, 2
amounts = st.one_of(st.integers(1, 1_000), st.integers(1, 10**12))
customers = st.integers(0, CUSTOMERS - 1)
providers = st.integers(0, PROVIDERS - 1)


class Hold:
    """A hold in the model: what it reserves, and until when it is open."""

    def __init__(self, customer: int, amount: int, *, is_due: bool) -> None:
        self.customer, self.amount, self.is_due = customer, amount, is_due
        self.is_open = True


class BooksMachine(RuleBasedStateMachine):
    """Every way to write to the ledger, including replays and what must be refused."""

    requests = Bundle("requests")
    grants = Bundle("grants")
    steps = count()

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__()
        self.connection = connection
        self.balance = [self.open("customer_balance", new_id()) for _ in range(CUSTOMERS)]
        self.owner = [
            self.one("select owner_id from ledger_account where id = %s", account) for account in self.balance
        ]
        self.clearing = [self.open("usage_clearing", owner) for owner in self.owner]
        self.provider = [new_id() for _ in range(PROVIDERS)]
        self.payable = [self.open("provider_payable", provider) for provider in self.provider]
        self.platform = {
            kind: self.open(kind, None) for kind in ("platform_fee", "promotional_credit", "platform_loss")
        }
        self.at_start = {kind: self.columns(account) for kind, account in self.platform.items()}
        # The model.
        self.credited, self.charged = [0] * CUSTOMERS, [0] * CUSTOMERS
        self.covered_by_platform = [0] * CUSTOMERS
        self.earned, self.fees, self.granted, self.lost = [0] * PROVIDERS, 0, 0, 0
        self.holds: dict[UUID, Hold] = {}
        self.paid: set[UUID] = set()

    # What the model knows.

    def pending(self, customer: int) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.is_open and hold.customer == customer)

    def available(self, customer: int) -> int:
        return self.credited[customer] - self.charged[customer] - self.pending(customer)

    # How the database is asked.

    def one(self, statement: str, *parameters: object):
        return self.connection.execute(statement, parameters).fetchone()[0]

    def open(self, kind: str, owner: UUID | None) -> int:
        return self.one("select ledger_open_account(%s, %s, 'usd')", kind, owner)

    def columns(self, account: int) -> tuple[int, int, int, int]:
        return self.connection.execute(
            "select debits_posted, credits_posted, debits_pending, credits_pending from ledger_account where id = %s",
            (account,),
        ).fetchone()

    def post_grant(self, key: str, customer: int, amount: int) -> int:
        return self.one(
            "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
            [key], [self.platform["promotional_credit"]], [self.balance[customer]], [amount], ["credit_grant"],
        )  # fmt: skip

    def post_hold(self, request: UUID, customer: int, amount: int, *, is_due: bool) -> int:
        return self.one(
            "select ledger_hold(%s, %s, %s, %s, 'usage_hold', %s::interval)",
            f"hold:{request}", self.balance[customer], self.clearing[customer], amount,
            "1 microsecond" if is_due else "1 hour",
        )  # fmt: skip

    # Rules.

    @rule(target=grants, customer=customers, amount=amounts)
    def grant(self, customer, amount):
        key = f"grant:{new_id()}"
        assert self.post_grant(key, customer, amount) == 1
        self.credited[customer] += amount
        self.granted += amount
        return key, customer, amount

    @rule(grant=grants)
    def replay_grant(self, grant):
        assert self.post_grant(*grant) == 0

    @rule(grant=grants)
    def reuse_key_of_grant(self, grant):
        key, customer, amount = grant
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.post_grant(key, customer, amount + 1)

    @rule(target=requests, customer=customers, amount=amounts, is_due=st.booleans())
    def hold(self, customer, amount, is_due):
        request = new_id()
        if amount > self.available(customer):
            with pytest.raises(psycopg.errors.CheckViolation):
                self.post_hold(request, customer, amount, is_due=is_due)
        else:
            self.post_hold(request, customer, amount, is_due=is_due)
            self.holds[request] = Hold(customer, amount, is_due=is_due)
        return request, customer

    @rule(target=requests, customer=customers, percent=st.integers(1, 100))
    def hold_a_part_of_what_there_is(self, customer, percent):
        if amount := self.available(customer) * percent // 100:
            request = new_id()
            self.post_hold(request, customer, amount, is_due=False)
            self.holds[request] = Hold(customer, amount, is_due=False)
            return request, customer
        return multiple()

    @rule(request=requests)
    def replay_hold(self, request):
        request_id, customer = request
        if hold := self.holds.get(request_id):
            self.post_hold(request_id, customer, hold.amount, is_due=hold.is_due)

    @rule(request=requests)
    def release(self, request):
        request_id, _ = request
        state = self.one("select ledger_void_hold(%s)", f"hold:{request_id}")
        if hold := self.holds.get(request_id):
            assert state == ("voided" if hold.is_open else state)
            hold.is_open = False
        else:
            assert state is None

    @rule(limit=st.integers(1, 3))
    def expire(self, limit):
        due = [hold for hold in self.holds.values() if hold.is_open and hold.is_due]
        expired = self.one("select ledger_expire_holds(%s)", limit)
        assert expired == min(limit, len(due))
        still_open = {
            UUID(key.removeprefix("hold:"))
            for (key,) in self.connection.execute(
                "select t.key from open_hold o join transfer t on t.id = o.transfer_id where t.debit_account_id = any(%s)",
                (self.balance,),
            )
        }
        for request_id, hold in self.holds.items():
            if hold.is_open and hold.is_due:
                hold.is_open = request_id in still_open

    @rule(
        batch=st.lists(
            st.tuples(requests, providers, st.integers(0, 130)),
            min_size=1,
            max_size=5,
            unique_by=lambda use: use[0],
        ),
        fee_percent=st.integers(0, 100),
    )
    def capture(self, batch, fee_percent):
        """Usages of 0 to 130 % of their holds: open, expired, refused at the time, or paid for already."""
        charges = [self.charge_of(request_id, percent) for (request_id, _), _, percent in batch]
        fees = [charge * fee_percent // 100 for charge in charges]
        self.connection.execute(
            "select ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[])",
            (
                [request_id for (request_id, _), _, _ in batch],
                [self.owner[customer] for (_, customer), _, _ in batch],
                [self.provider[provider] for _, provider, _ in batch],
                charges,
                [charge - fee for charge, fee in zip(charges, fees, strict=True)],
                fees,
            ),
        )
        uncovered = defaultdict(list)
        for ((request_id, customer), provider, _), charge, fee in zip(batch, charges, fees, strict=True):
            if request_id in self.paid:
                continue
            captured = 0
            if (hold := self.holds.get(request_id)) and hold.is_open:
                captured, hold.is_open = min(charge, hold.amount), False
            self.charged[customer] += captured
            if charge > captured:
                uncovered[customer].append(charge - captured)
            if charge:
                self.paid.add(request_id)
            self.earned[provider] += charge - fee
            self.fees += fee
        for customer, rests in uncovered.items():
            for rest in sorted(rests):
                if rest <= self.available(customer):
                    self.charged[customer] += rest
                else:
                    self.covered_by_platform[customer] += rest
                    self.lost += rest

    def charge_of(self, request_id: UUID, percent: int) -> int:
        hold = self.holds.get(request_id)
        return (hold.amount if hold else 1_000) * percent // 100

    @precondition(lambda self: any(hold.is_open for hold in self.holds.values()))
    @rule(percent=st.integers(0, 100), provider=providers)
    def post_hold_and_pay_out(self, percent, provider):
        """The generic way, as a lease will use it: post a hold, then pay from clearing, in one transaction."""
        request_id, hold = next((key, hold) for key, hold in self.holds.items() if hold.is_open)
        amount = hold.amount * percent // 100
        with self.connection.transaction():
            state = self.one("select ledger_post_hold(%s, %s, 'usage_charge')", f"hold:{request_id}", amount)
            assert state == ("posted" if amount else "voided")
            if amount:
                self.one(
                    "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
                    [str(new_id())], [self.clearing[hold.customer]], [self.payable[provider]], [amount],
                    ["usage_earning"],
                )  # fmt: skip
        hold.is_open = False
        self.charged[hold.customer] += amount
        self.earned[provider] += amount

    @rule(customer=customers, amount=amounts)
    def batch_with_one_overdraft_is_refused_whole(self, customer, amount):
        balance, clearing = self.balance[customer], self.clearing[customer]
        too_much = self.available(customer) + 1
        with pytest.raises(psycopg.errors.CheckViolation):
            self.one(
                "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
                [str(new_id()), str(new_id())], [self.platform["platform_loss"], balance],
                [self.payable[0], clearing], [amount, too_much], ["usage_earning", "usage_charge"],
            )  # fmt: skip

    # What is true after every step.

    @invariant()
    def balances_are_the_models(self):
        next(BooksMachine.steps)
        for customer in range(CUSTOMERS):
            pending = self.pending(customer)
            assert self.columns(self.balance[customer]) == (
                self.charged[customer],
                self.credited[customer],
                pending,
                0,
            )
            passed_on = self.charged[customer] + self.covered_by_platform[customer]
            assert self.columns(self.clearing[customer]) == (passed_on, passed_on, 0, pending)
        for provider in range(PROVIDERS):
            assert self.columns(self.payable[provider]) == (0, self.earned[provider], 0, 0)

    @invariant()
    def the_platforms_accounts_are_the_models(self):
        moved = {
            kind: tuple(
                now - then for now, then in zip(self.columns(account), self.at_start[kind], strict=True)
            )
            for kind, account in self.platform.items()
        }
        assert moved == {
            "platform_fee": (0, self.fees, 0, 0),
            "promotional_credit": (self.granted, 0, 0, 0),
            "platform_loss": (self.lost, 0, 0, 0),
        }

    def teardown(self):
        """The books as a whole: both sides equal, and equal to the transfers; nothing held that the model does not hold."""
        debited, credited, posted = self.connection.execute(
            "select sum(debits_posted), sum(credits_posted), (select coalesce(sum(amount), 0) from transfer where state = 'posted')"
            "  from ledger_account"
        ).fetchone()
        assert debited == credited == posted
        held = self.one(
            "select count(*) from open_hold o join transfer t on t.id = o.transfer_id where t.debit_account_id = any(%s)",
            self.balance,
        )
        assert held == sum(hold.is_open for hold in self.holds.values())
        for request_id, hold in self.holds.items():
            if hold.is_open:
                self.one("select ledger_void_hold(%s)", f"hold:{request_id}")


def drive(database_url: str, *, machines: int, steps: int) -> int:
    """Run the machine; returns the number of steps checked."""
    before = next(BooksMachine.steps)
    with psycopg.connect(database_url, autocommit=True) as connection:
        # Holds of earlier tests must not come up for expiry. Those of leases end with their lease, and only there.
        connection.execute(
            "select ledger_void_holds(array_agg(t.key), 'hold_released')"
            " from open_hold o join transfer t on t.id = o.transfer_id where t.key not like 'lease:%'"
        )
        run_state_machine_as_test(
            lambda: BooksMachine(connection),
            settings=settings(
                max_examples=machines,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                print_blob=True,
            ),
        )
    return next(BooksMachine.steps) - before


def test_the_books_agree_with_the_model(database_url):
    assert drive(database_url, machines=80, steps=40) > 1_000


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_books_agree_with_the_model_for_long(database_url):
    assert drive(database_url, machines=600, steps=60) > 10_000
