"""A customer with a past: usage and transfers that are moved to earlier months, in a database of their own.

Postings take the database's clock. A test that needs last month posts now and then moves the rows with triggers off,
which only the superuser of a test's own server can do.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from raymart_billing import invoices, ledger
from raymart_billing.connections import Pool
from raymart_billing.invoices import Invoice, InvoiceLine, Party
from raymart_billing.ledger import AccountKind, Movement, TransferCode
from raymart_billing.posting import post_requests
from raymart_billing.records.copying import copy_requests
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import FinishedRequest
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.accounts.service import create_organization
from raymart_marketplace.db.session import Sessions, session_scope
from support.books import Books, price
from support.empty_database import new_database

SELLER = Party(
    legal_name="Raymart Ltd",
    address="1 Ledger Lane\n1010 Books",
    country="AT",
    tax_id="ATU1",
    email="b@raymart.example",
)


def month_start(back: int) -> date:
    """First day of the month `back` months ago, UTC."""
    day = datetime.now(UTC).date().replace(day=1)
    for _ in range(back):
        day = (day - timedelta(days=1)).replace(day=1)
    return day


def in_month(day: date, *, days: int = 10, seconds: float = 0) -> datetime:
    """A moment in the month that begins on `day`."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=days, seconds=seconds)


def id_at(moment: datetime) -> UUID:
    """A UUIDv7 made at `moment`."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(
        int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    )


@pytest.fixture(scope="session")
def old_books_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """URL of a migrated database in which the past may be written: other tests check the books of theirs."""
    with new_database(postgres, template=migrated_template) as url:
        yield url


class OldBooks(Books):
    """Books of a customer that exists, and a hand on the clock."""

    def __init__(self, pool: Pool, sessions: Sessions) -> None:
        super().__init__(pool)
        self.sessions = sessions
        self.revision_id = new_id()

    async def found(self) -> "OldBooks":
        """Make the customer."""
        async with session_scope(self.sessions) as session:
            organization = await create_organization(
                session, name=f"Customer {secrets.token_hex(4)}", kind=OrganizationKind.CUSTOMER
            )
        self.organization_id = organization.id
        return self

    async def deposit(self, amount: int, *, at: datetime | None = None) -> None:
        """A top-up by card."""
        async with session_scope(self.sessions) as session:
            movement = Movement(
                key=f"test:{new_id()}",
                debit_account_id=await ledger.open_account(session, AccountKind.EXTERNAL_CARD),
                credit_account_id=await ledger.open_account(
                    session, AccountKind.CUSTOMER_BALANCE, self.organization_id
                ),
                amount=Money(amount),
                code=TransferCode.DEPOSIT_CARD,
            )
            await ledger.post(session, [movement])
        if at:
            await self.move(at)

    async def use(
        self, count: int = 1, *, arrived: datetime, posted: datetime | None = None, **changes: object
    ) -> Sequence[FinishedRequest]:
        """Requests that arrived then, recorded, and posted at `posted` (None: recorded only)."""
        requests = [self.request(arrived, **changes) for _ in range(count)]
        await self.record(*requests)
        if posted:
            await self.post(*requests, at=posted)
        return requests

    def request(self, arrived: datetime, **changes: object) -> FinishedRequest:
        """A request that arrived then, for this customer's one model."""
        request = self.finished(id=id_at(arrived), **changes)
        usage = request.usage and replace(request.usage, revision_id=self.revision_id)
        return replace(request, usage=usage)

    async def record(self, *requests: FinishedRequest) -> None:
        """As the gateway does, with a hold each."""
        for request in requests:
            if price(request):
                await self.hold(request.id, price(request))
        async with self.pool.connection() as connection:
            await copy_requests(connection, requests, may_exist=False)

    async def post(self, *requests: FinishedRequest, at: datetime) -> None:
        """Into the ledger, as of `at`."""
        async with self.pool.connection() as connection:
            assert await post_requests(connection, [request.id for request in requests]) == len(requests)
        await self.move(at)

    async def move(self, at: datetime) -> None:
        """Have all that happened to this customer in the last hours happened at `at`, in the same order."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            await connection.execute(
                """update transfer t set created_at = %(at)s + (t.id %% 1000000) * interval '1 microsecond'
                     from ledger_account a
                    where a.owner_id = %(owner)s and a.id in (t.debit_account_id, t.credit_account_id)
                      and t.created_at > clock_timestamp() - interval '12 hours'""",
                {"at": at, "owner": self.organization_id},
            )
            await connection.execute(
                """update usage_record set posted_at = %(at)s
                    where organization_id = %(owner)s and posted_at > clock_timestamp() - interval '12 hours'""",
                {"at": at, "owner": self.organization_id},
            )

    async def draft(self, month: date) -> Invoice | None:
        async with session_scope(self.sessions) as session:
            return await invoices.draft_invoice(
                session, organization_id=self.organization_id, period_start=month
            )

    async def finalize(self, invoice: Invoice) -> Invoice:
        async with session_scope(self.sessions) as session:
            return await invoices.finalize_invoice(session, invoice.id, seller=SELLER, actor_id=None)

    async def invoice(self, month: date) -> Invoice:
        """The final invoice of a month."""
        draft = await self.draft(month)
        assert draft is not None, f"nothing to invoice in {month}"
        return await self.finalize(draft)

    async def lines(self, invoice: Invoice) -> Sequence[InvoiceLine]:
        async with session_scope(self.sessions) as session:
            return await invoices.invoice_lines(session, invoice.id)
