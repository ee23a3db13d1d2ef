"""`raymart invoice`: the same services from the operator's shell."""

import asyncio
import json
import re
import secrets
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from raymart_billing.connections import make_pool
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.cli import command_line
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.market import make_customer
from support.old_books import OldBooks, in_month, month_start, old_books_url
from support.pdf_text import text_of

__all__ = ["old_books_url"]

LAST = month_start(1)


class Shell:
    """A customer with a month of business, and the command line."""

    def __init__(self, books: OldBooks, email: str, requests: list[str]) -> None:
        self.books, self.email, self.requests = books, email, requests
        self.organization = show(Prefix.ORGANIZATION, books.organization_id)

    async def run(self, *arguments: str) -> Result:
        """In a thread: commands start an event loop of their own."""
        return await asyncio.to_thread(CliRunner().invoke, command_line("invoice"), ["invoice", *arguments])

    async def said(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert done.exit_code == 0, done.exception or done.output
        return done.stdout.strip()

    async def final(self) -> str:
        await self.said("draft", "--organization", self.organization)
        listed = json.loads(await self.said("list", "--organization", self.organization, "-o", "json"))
        said = await self.said("finalize", listed[0]["id"], "--actor", self.email)
        return re.findall(r"RM-\d{4}-\d{6}", said)[-1]


@pytest.fixture
async def shell(old_books_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", old_books_url)
    monkeypatch.setenv("RAYMART_TOKEN_SECRET", secrets.token_hex(32))
    engine = make_engine(old_books_url, pool_size=2)
    sessions = make_sessions(engine)
    async with make_pool(old_books_url, size_max=2) as pool:
        books = OldBooks(pool, sessions)
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
        books.organization_id = customer.organization_id
        await books.deposit(1_000, at=in_month(LAST, days=1))
        requests = await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
        yield Shell(books, customer.email, [show(Prefix.REQUEST, request.id) for request in requests])
    await engine.dispose()


class TestInvoice:
    async def test_draft_finalize_show_and_files(self, shell: Shell, tmp_path: Path):
        assert "is draft" in await shell.said(
            "draft", "--organization", shell.organization, "--month", f"{LAST:%Y-%m}"
        )
        number = await shell.final()
        lines = json.loads(await shell.said("show", number, "-o", "json"))
        assert [line["amount_usd"] for line in lines] == ["-0.000000200", "-0.000000040", "0.000001000"]
        await shell.said("pdf", number, "--file", str(tmp_path / "a.pdf"))
        assert number in text_of((tmp_path / "a.pdf").read_bytes())
        await shell.said("csv", number, "--file", str(tmp_path / "a.csv"))
        assert (tmp_path / "a.csv").read_text().count("\n") == 6
        issued_by = await shell.books.value("select issued_by from invoice where number = %s", number)
        assert issued_by is not None

    async def test_void_and_credit_note(self, shell: Shell):
        number = await shell.final()
        assert "is void" in await shell.said("void", number, "--reason", "wrong buyer")
        again = await shell.final()
        assert again != number
        said = await shell.said(
            "credit-note", again, "--line", "Bad=images=0.00000005", "--reason", "bad images"
        )
        assert "0.000000050 USD paid" in said
        assert (await shell.books.columns("customer_balance")).balance == 760 + 50

    async def test_refunds(self, shell: Shell):
        said = await shell.said(
            "refund", shell.requests[0], "--reason", "asked", "--bearer", "provider", "--key", "a"
        )
        assert "0.000000120 USD back; the provider gave 0.000000108, the platform 0.000000012" in said
        with_amount = await shell.said(
            "refund", shell.requests[1], "--reason", "asked", "--amount", "0.00000001"
        )
        assert "0.000000010 USD back" in with_amount
        listed = json.loads(await shell.said("refunds", "-o", "json"))
        assert {row["request"] for row in listed} >= set(shell.requests)
        assert (await shell.said("refund-broken", "--days", "30")).endswith("requests refunded")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["show", "RM-1999-000001"], NotFound),
            (["show", "inv_x"], InvalidRequest),
            (["draft", "--organization", "nobody-at-all"], NotFound),
            (["draft", "--organization", show(Prefix.ORGANIZATION, new_id())], NotFound),
            (["draft", "--organization", "x", "--month", "last"], InvalidRequest),
            (["refund", show(Prefix.REQUEST, new_id()), "--reason", "r"], NotFound),
            (["refund", show(Prefix.REQUEST, new_id()), "--reason", "r", "--amount", "NaN"], InvalidRequest),
        ],
    )
    async def test_what_cannot_be_done_says_why(self, shell: Shell, arguments, error):
        done = await shell.run(*arguments)
        assert isinstance(done.exception, error)

    async def test_unknown_actor_is_refused_and_nothing_done(self, shell: Shell):
        number = await shell.final()
        done = await shell.run("void", number, "--reason", "r", "--actor", "nobody@example.com")
        assert isinstance(done.exception, NotFound)
        again = await shell.run("credit-note", number, "--line", "x=1", "--reason", "r")
        assert isinstance(again.exception, Conflict)
        assert await shell.books.value("select state from invoice where number = %s", number) == "final"
