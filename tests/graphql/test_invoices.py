"""Invoices, credit notes and refunds over GraphQL and as files, on an API with a past of its own."""

import csv
import io
import secrets
from collections.abc import AsyncIterator

import pytest_asyncio

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import Role
from support.api_server import Api, Person, Tenant, api_server, control_settings
from support.old_books import OldBooks, in_month, month_start, old_books_url
from support.pdf_text import text_of

__all__ = ["old_books_url"]

LAST, BEFORE = month_start(1), month_start(2)
DRAFT = """mutation ($o: ID!, $m: Date!) { draftInvoice(input: {organizationId: $o, periodStart: $m}) {
  invoice { id state number } userErrors { code field message } } }"""
FINALIZE = """mutation ($id: ID!) { finalizeInvoice(input: {invoiceId: $id}) {
  invoice { id state number issuedAt contentSha256 } userErrors { code message } } }"""
VOID = """mutation ($id: ID!, $r: String!) { voidInvoice(input: {invoiceId: $id, reason: $r}) {
  invoice { state voidReason } userErrors { code field message } } }"""
CREDIT = """mutation ($id: ID!, $a: Decimal!) { createCreditNote(input: {invoiceId: $id, reason: "bad images",
  lines: [{description: "one image", amount: $a}]}) { creditNote { id state amount { amount } } userErrors { code field } } }"""
ISSUE = """mutation ($id: ID!) { issueCreditNote(input: {creditNoteId: $id}) {
  creditNote { id state number pdfPath invoice { id } } userErrors { code message } } }"""
REFUND = """mutation ($id: ID!, $a: Decimal, $k: String!) { refundRequest(input: {requestId: $id, amount: $a,
  bearer: PROVIDER, reason: "it was wrong", idempotencyKey: $k}) {
  refund { id kind amount { amount } requestId borneBy { clawback { amount } fee { amount } expense { amount } actorId } }
  userErrors { code field message } } }"""
MINE = """query ($id: ID!) { organization(id: $id) {
  invoices { nodes { id state number periodStart openingBalance { amount } closingBalance { amount } charged { amount }
    lines(first: 2) { nodes { kind unit quantity scale count unitPrice { amount } amount { amount } } pageInfo { hasNextPage } }
    creditNotes { nodes { number amount { amount } } } } }
  refunds { nodes { amount { amount } reason borneBy { fee { amount } } } }
  billingProfile { legalName country } } }"""
PROFILE = """mutation ($o: ID!, $name: String!, $country: String!, $address: String!) {
  setBillingProfile(input: {organizationId: $o, legalName: $name, address: $address, country: $country,
    taxId: "ATU1", email: "Books@Example.com"}) {
  billingProfile { legalName address country taxId email } userErrors { code field message } } }"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(old_books_url: str) -> AsyncIterator[Api]:
    """An API on a database in which the past may be written."""
    async with api_server(control_settings(old_books_url, seller_legal_name="The House")) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def admin(api: Api) -> Person:
    return await api.admin()


@pytest_asyncio.fixture(loop_scope="session")
async def books(api: Api, customer: Tenant) -> OldBooks:
    """The customer's: 1,000 nano-USD paid in and two requests of 120, last month."""
    books = OldBooks(api.services.pool, api.services.sessions)
    books.organization_id = customer.organization_id
    await books.deposit(1_000, at=in_month(LAST, days=1))
    books.requests = await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
    return books


@pytest_asyncio.fixture(loop_scope="session")
async def final(api: Api, admin: Person, customer: Tenant, books: OldBooks) -> dict:
    draft = (await api(DRAFT, admin, o=customer.id, m=str(LAST))).data["draftInvoice"]["invoice"]
    return (await api(FINALIZE, admin, id=draft["id"])).data["finalizeInvoice"]["invoice"]


class TestInvoices:
    async def test_month_goes_from_draft_to_final_and_customers_read_it(
        self, api: Api, admin: Person, customer: Tenant, books: OldBooks
    ) -> None:
        drafted = (await api(DRAFT, admin, o=customer.id, m=str(LAST))).data["draftInvoice"]
        assert drafted["userErrors"] == []
        assert (drafted["invoice"]["state"], drafted["invoice"]["number"]) == ("DRAFT", None)
        final = (await api(FINALIZE, admin, id=drafted["invoice"]["id"])).data["finalizeInvoice"]["invoice"]
        assert final["state"] == "FINAL"
        assert len(final["contentSha256"]) == 64
        [invoice] = (await api(MINE, customer.people[Role.VIEWER], id=customer.id)).data["organization"][
            "invoices"
        ]["nodes"]
        assert invoice["number"] == final["number"]
        assert invoice["closingBalance"]["amount"] == "0.000000760"
        assert invoice["lines"]["nodes"][0] == {
            "kind": "USAGE", "unit": "token.completion", "quantity": "40", "scale": "1", "count": "2",
            "unitPrice": {"amount": "0.000000005"}, "amount": {"amount": "-0.000000200"},
        }  # fmt: skip
        assert invoice["lines"]["pageInfo"]["hasNextPage"]

    async def test_administrators_list_all_invoices(self, api: Api, admin: Person, final: dict) -> None:
        nodes = (await api("{ invoices { nodes { id number } } }", admin)).data["invoices"]["nodes"]
        assert nodes[0]["number"] == final["number"]

    async def test_month_that_runs_is_an_expected_failure(
        self, api: Api, admin: Person, customer: Tenant
    ) -> None:
        answer = (await api(DRAFT, admin, o=customer.id, m=str(month_start(0)))).data["draftInvoice"]
        assert answer["userErrors"][0]["code"] == "INVALID"

    async def test_void_needs_a_reason_and_shows_it(self, api: Api, admin: Person, final: dict) -> None:
        refused = (await api(VOID, admin, id=final["id"], r=" ")).data["voidInvoice"]
        assert refused["userErrors"][0]["field"] == ["input", "reason"]
        done = (await api(VOID, admin, id=final["id"], r="wrong buyer")).data["voidInvoice"]
        assert done["invoice"] == {"state": "VOID", "voidReason": "wrong buyer"}

    async def test_unknown_invoice_is_not_found(self, api: Api, admin: Person) -> None:
        answer = await api(FINALIZE, admin, id=show(Prefix.INVOICE, new_id()))
        assert answer.data["finalizeInvoice"]["userErrors"][0]["code"] == "NOT_FOUND"


class TestCreditNotes:
    async def test_is_paid_when_it_is_issued(
        self, api: Api, admin: Person, customer: Tenant, books: OldBooks, final: dict
    ) -> None:
        note = (await api(CREDIT, admin, id=final["id"], a="0.00000005")).data["createCreditNote"][
            "creditNote"
        ]
        assert note["state"] == "DRAFT"
        issued = (await api(ISSUE, admin, id=note["id"])).data["issueCreditNote"]["creditNote"]
        assert issued["number"].startswith("RMC-")
        assert issued["invoice"] == {"id": final["id"]}
        assert (await books.columns("customer_balance")).balance == 760 + 50
        organization = (await api(MINE, customer.owner, id=customer.id)).data["organization"]
        assert organization["invoices"]["nodes"][0]["creditNotes"]["nodes"] == [
            {"number": issued["number"], "amount": {"amount": "0.000000050"}}
        ]
        pdf = await api.client.get(issued["pdfPath"], headers=bearer(customer.owner))
        assert issued["number"] in text_of(pdf.content)

    async def test_more_than_is_left_is_a_conflict(self, api: Api, admin: Person, final: dict) -> None:
        note = (await api(CREDIT, admin, id=final["id"], a="1")).data["createCreditNote"]["creditNote"]
        answer = (await api(ISSUE, admin, id=note["id"])).data["issueCreditNote"]
        assert answer["userErrors"][0]["code"] == "CONFLICT"

    async def test_amount_out_of_range_is_an_expected_failure(
        self, api: Api, admin: Person, final: dict
    ) -> None:
        for amount in ("0", "-1", "0.0000000001", "9223372037"):
            answer = (await api(CREDIT, admin, id=final["id"], a=amount)).data["createCreditNote"]
            assert answer["userErrors"] == [{"code": "INVALID", "field": ["input", "lines", "0", "amount"]}]

    async def test_what_is_no_exact_number_is_refused(self, api: Api, admin: Person, final: dict) -> None:
        for amount in ("NaN", "Infinity", 1.5, "1e400"):
            answer = await api(CREDIT, admin, id=final["id"], a=amount)
            assert answer.errors or answer.data["createCreditNote"]["userErrors"], amount

    async def test_draft_can_be_dropped(self, api: Api, admin: Person, final: dict) -> None:
        note = (await api(CREDIT, admin, id=final["id"], a="0.00000005")).data["createCreditNote"][
            "creditNote"
        ]
        void = "mutation ($id: ID!) { voidCreditNote(input: {creditNoteId: $id}) { creditNote { state } } }"
        assert (await api(void, admin, id=note["id"])).data["voidCreditNote"]["creditNote"] == {
            "state": "VOID"
        }


class TestRefunds:
    async def test_customer_sees_the_refund_and_not_who_bore_it(
        self, api: Api, admin: Person, customer: Tenant, books: OldBooks
    ) -> None:
        request_id = show(Prefix.REQUEST, books.requests[0].id)
        done = (await api(REFUND, admin, id=request_id, k=secrets.token_hex(8))).data["refundRequest"]
        assert done["userErrors"] == []
        assert done["refund"]["amount"] == {"amount": "0.000000120"}
        assert done["refund"]["requestId"] == request_id
        assert done["refund"]["borneBy"] == {
            "clawback": {"amount": "0.000000108"},
            "fee": {"amount": "0.000000012"},
            "expense": {"amount": "0.000000000"},
            "actorId": show(Prefix.USER, admin.user_id),
        }
        organization = (await api(MINE, customer.owner, id=customer.id)).data["organization"]
        assert organization["refunds"]["nodes"] == [
            {"amount": {"amount": "0.000000120"}, "reason": "it was wrong", "borneBy": None}
        ]
        listed = (await api("{ refunds(first: 1) { nodes { id } } }", admin)).data["refunds"]["nodes"]
        assert listed == [{"id": done["refund"]["id"]}]

    async def test_same_key_refunds_once_and_more_than_the_charge_is_refused(
        self, api: Api, admin: Person, books: OldBooks
    ) -> None:
        request_id, key = show(Prefix.REQUEST, books.requests[0].id), secrets.token_hex(8)
        ids = {
            (await api(REFUND, admin, id=request_id, a="0.0000001", k=key)).data["refundRequest"]["refund"][
                "id"
            ]
            for _ in range(2)
        }
        assert len(ids) == 1
        again = (await api(REFUND, admin, id=request_id, a="0.0000001", k=key + "2")).data["refundRequest"]
        assert again["userErrors"][0]["code"] == "CONFLICT"


class TestBillingProfile:
    async def test_is_kept_and_frozen_into_the_invoice(
        self, api: Api, admin: Person, customer: Tenant, books: OldBooks
    ) -> None:
        answer = await api(
            PROFILE,
            customer.owner,
            o=customer.id,
            name=" Ärger  & Söhne ",
            country="at",
            address="Weg 1\n\nWien",
        )
        assert answer.data["setBillingProfile"]["billingProfile"] == {
            "legalName": "Ärger & Söhne",
            "address": "Weg 1\nWien",
            "country": "AT",
            "taxId": "ATU1",
            "email": "books@example.com",
        }
        draft = (await api(DRAFT, admin, o=customer.id, m=str(LAST))).data["draftInvoice"]["invoice"]
        final = (await api(FINALIZE, admin, id=draft["id"])).data["finalizeInvoice"]["invoice"]
        await api(PROFILE, customer.owner, o=customer.id, name="Another", country="DE", address="x")
        pdf = await api.client.get(f"/billing/invoices/{final['id']}.pdf", headers=bearer(customer.owner))
        said = text_of(pdf.content)
        assert "Ärger&Söhne" in said
        assert "TheHouse" in said
        assert "Another" not in said

    async def test_what_cannot_be_printed_is_refused(self, api: Api, customer: Tenant) -> None:
        for change, field in (
            ({"name": ""}, "legalName"),
            ({"name": "x" * 201}, "legalName"),
            ({"name": "A\u202eB"}, "legalName"),
            ({"name": "A\u0007B"}, "legalName"),
            ({"country": "Austria"}, "country"),
            ({"address": "\n".join("abcdefg")}, "address"),
            ({"address": "x" * 501}, "address"),
            ({"address": ""}, "address"),
        ):
            values = {"name": "A", "country": "AT", "address": "B"} | change
            answer = (await api(PROFILE, customer.owner, o=customer.id, **values)).data["setBillingProfile"]
            assert [error["field"] for error in answer["userErrors"]] == [["input", field]]


def bearer(person: Person) -> dict[str, str]:
    return {"authorization": f"Bearer {person.token}"}


class TestFiles:
    async def test_members_and_administrators_get_the_pdf(
        self, api: Api, admin: Person, customer: Tenant, final: dict
    ) -> None:
        for person in (customer.people[Role.VIEWER], admin):
            reply = await api.client.get(f"/billing/invoices/{final['id']}.pdf", headers=bearer(person))
            assert reply.status_code == 200
            assert reply.headers["content-type"] == "application/pdf"
            assert reply.headers["cache-control"] == "private, no-store"
            assert final["number"] in reply.headers["content-disposition"]
            assert f"Invoice{final['number']}" in text_of(reply.content)

    async def test_same_invoice_gives_the_same_bytes(self, api: Api, customer: Tenant, final: dict) -> None:
        path, headers = f"/billing/invoices/{final['id']}.pdf", bearer(customer.owner)
        first, second = (
            await api.client.get(path, headers=headers),
            await api.client.get(path, headers=headers),
        )
        assert first.content == second.content

    async def test_csv_has_the_lines(self, api: Api, customer: Tenant, final: dict) -> None:
        reply = await api.client.get(f"/billing/invoices/{final['id']}.csv", headers=bearer(customer.owner))
        rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
        assert [row["amount_usd"] for row in rows] == [
            "0.000000000", "-0.000000200", "-0.000000040", "0.000001000", "0.000000760",
        ]  # fmt: skip

    async def test_draft_is_marked(self, api: Api, admin: Person, customer: Tenant, books: OldBooks) -> None:
        draft = (await api(DRAFT, admin, o=customer.id, m=str(LAST))).data["draftInvoice"]["invoice"]
        reply = await api.client.get(f"/billing/invoices/{draft['id']}.pdf", headers=bearer(customer.owner))
        assert "DRAFT" in text_of(reply.content)

    async def test_strangers_get_what_those_get_who_name_nothing(
        self, api: Api, stranger: Tenant, final: dict
    ) -> None:
        for ending in ("pdf", "csv"):
            for name in (final["id"], show(Prefix.INVOICE, new_id())):
                reply = await api.client.get(
                    f"/billing/invoices/{name}.{ending}", headers=bearer(stranger.owner)
                )
                assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")

    async def test_what_is_no_id_is_not_found(self, api: Api, customer: Tenant) -> None:
        for name in ("x", "inv_1", "..%2f..%2fetc%2fpasswd", "inv_" + "g" * 32, "org_" + "0" * 32):
            reply = await api.client.get(f"/billing/invoices/{name}.pdf", headers=bearer(customer.owner))
            assert reply.status_code == 404

    async def test_credentials_are_needed_and_a_key_is_not_enough(
        self, api: Api, customer: Tenant, final: dict
    ) -> None:
        path = f"/billing/invoices/{final['id']}.pdf"
        _, secret = await api.api_key(customer)
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer nonsense"}, 401),
            ({"authorization": f"Bearer {secret}"}, 403),
        ):
            reply = await api.client.get(path, headers=headers)
            assert reply.status_code == status
            assert reply.headers["cache-control"] == "private, no-store"

    async def test_other_tenants_cannot_reach_it_by_its_global_id(
        self, api: Api, customer: Tenant, stranger: Tenant, final: dict
    ) -> None:
        node = "query ($id: ID!) { node(id: $id) { ... on Invoice { number } } }"
        assert (await api(node, customer.owner, id=final["id"])).data["node"] == {"number": final["number"]}
        assert (await api(node, stranger.owner, id=final["id"])).data["node"] is None
