"""Topping up in USDC over GraphQL, with a wallet that pays the URL on a development chain; and what admins decide."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from raymart_billing.solana.devchain.wallet import DevWallet
from raymart_core.ids import new_id
from raymart_marketplace.db.session import make_engine, make_sessions
from support.api_server import Api, Person, Tenant, api_server, control_settings
from support.usdc_market import UsdcMarket

CREATE = """mutation ($input: CreateUsdcTopUpInput!) { createUsdcTopUp(input: $input) {
  topUp { reference url qrSvg amount { amount currency } memo status expiresAt deposits { signature } }
  userErrors { code field message } } }"""
ORGANIZATION = """query ($id: ID!) { organization(id: $id) { balance { paid { amount } }
  usdcTopUps { nodes { reference status deposits { signature state } } }
  usdcDeposits { nodes { signature state amount { amount currency } explorerUrl heldForReview attributedBy } } } }"""
UNDECIDED = """{ undecidedUsdcDeposits(last: 100) { nodes { heldReason reference organization { id }
  sources { wallet amount { amount } } deposit { signature state amount { amount } } } } }"""
ASSIGN = """mutation ($input: AssignUsdcDepositInput!) { assignUsdcDeposit(input: $input) {
  deposit { organization { id } deposit { state attributedBy } } userErrors { code field message } } }"""
REFUND = """mutation ($input: RefundUsdcDepositInput!) { refundUsdcDeposit(input: $input) {
  batchNumber deposit { deposit { state } } userErrors { code field message } } }"""
CANCEL = """mutation ($input: CancelUsdcRefundInput!) { cancelUsdcRefund(input: $input) {
  deposit { deposit { state } } userErrors { code field message } } }"""
FUND = """mutation ($input: FundTreasuryInput!) { fundTreasury(input: $input) {
  deposit { decisionReason deposit { state } } userErrors { code field message } } }"""
MARK = """mutation ($input: MarkUsdcSenderInput!) { markUsdcSender(input: $input) {
  sender { wallet mark reason } userErrors { code field message } } }"""
UNMARK = """mutation ($input: UnmarkUsdcSenderInput!) { unmarkUsdcSender(input: $input) {
  wallet userErrors { code field message } } }"""
TREASURY = "{ usdcTreasury { wallet account mint scannedAt problem gap { amount } undecided } }"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def usdc(database_url: str) -> AsyncIterator[UsdcMarket]:
    """A chain for this file."""
    engine = make_engine(database_url, pool_size=5)
    market = UsdcMarket(sessions=make_sessions(engine), database_url=database_url)
    yield market
    await market.aclose()
    await engine.dispose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def usdc_api(database_url: str, usdc: UsdcMarket) -> AsyncIterator[Api]:
    """A control plane that knows the chain's treasury, and neither its key nor an endpoint that answers."""
    settings = control_settings(
        database_url,
        solana_chain_id="solana:localnet",
        SOLANA_RPC_URL="http://127.0.0.1:1",
        treasury_address=str(usdc.market.treasury.pubkey()),
        usdc_mint=str(usdc.market.mint),
    )
    async with api_server(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(usdc_api: Api) -> Tenant:
    return await usdc_api.tenant()


@pytest_asyncio.fixture(loop_scope="session")
async def admin(usdc_api: Api) -> Person:
    return await usdc_api.admin()


async def top_up(api: Api, tenant: Tenant, **changes: Any) -> dict[str, Any]:
    """A request, or its errors."""
    given = {"organizationId": tenant.id, "amount": "25.5", "idempotencyKey": new_id().hex} | changes
    return (await api(CREATE, tenant.owner, input=given)).data["createUsdcTopUp"]


async def shown(api: Api, tenant: Tenant) -> dict[str, Any]:
    return (await api(ORGANIZATION, tenant.owner, id=tenant.id)).data["organization"]


async def unattributed(usdc: UsdcMarket) -> str:
    """The signature of a deposit that is nobody's."""
    signature = await usdc.pay(usdc.payer(), micro_usdc=3_000_000)
    await usdc.settle()
    return signature


class TestTopUp:
    async def test_paying_its_url_is_seen_then_credited_once(
        self, usdc_api: Api, usdc: UsdcMarket, tenant: Tenant
    ) -> None:
        made = await top_up(usdc_api, tenant)
        request = made["topUp"]
        assert made["userErrors"] == []
        assert (request["status"], request["amount"]["currency"]) == ("OPEN", "USDC")
        assert request["qrSvg"].startswith("<svg")
        wallet = DevWallet(usdc.chain().rpc, usdc.payer())
        signature = await wallet.pay(request["url"])
        usdc.market.chain.advance(2)
        await usdc.look()
        before = await shown(usdc_api, tenant)
        assert before["usdcTopUps"]["nodes"][0]["status"] == "SEEN"
        assert Decimal(before["balance"]["paid"]["amount"]) == 0
        for _ in range(2):
            await usdc.settle()
            after = await shown(usdc_api, tenant)
            [deposit] = after["usdcDeposits"]["nodes"]
            assert (deposit["signature"], deposit["state"]) == (signature, "CREDITED")
            assert signature in deposit["explorerUrl"]
            assert Decimal(after["balance"]["paid"]["amount"]) == Decimal("25.5")
            assert after["usdcTopUps"]["nodes"][0]["status"] == "PAID"

    async def test_same_key_gives_the_same_request(self, usdc_api: Api, tenant: Tenant) -> None:
        found = [await top_up(usdc_api, tenant, idempotencyKey="again") for _ in range(2)]
        assert found[0]["topUp"]["reference"] == found[1]["topUp"]["reference"]

    @pytest.mark.parametrize("amount", ["0", "0.5", "-1", "100001", "1.0000001"])
    async def test_unfit_amounts_are_user_errors(self, usdc_api: Api, tenant: Tenant, amount: str) -> None:
        [error] = (await top_up(usdc_api, tenant, amount=amount))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "amount"])

    async def test_without_a_chain_it_says_what_is_missing(self, api: Api, customer: Tenant) -> None:
        [error] = (await top_up(api, customer))["userErrors"]
        assert "SOLANA_RPC_URL" in error["message"]

    async def test_strangers_neither_ask_nor_see(self, usdc_api: Api, tenant: Tenant) -> None:
        stranger = await usdc_api.tenant()
        given = {"organizationId": tenant.id, "amount": "5", "idempotencyKey": "x"}
        assert (await usdc_api(CREATE, stranger.owner, input=given)).code == "FORBIDDEN"
        await top_up(usdc_api, tenant)
        assert (await usdc_api(ORGANIZATION, stranger.owner, id=tenant.id)).data["organization"] is None


class TestCode:
    async def test_members_get_the_code_as_a_file_and_nobody_else(
        self, usdc_api: Api, tenant: Tenant
    ) -> None:
        request = (await top_up(usdc_api, tenant))["topUp"]
        path = f"/billing/usdc-top-ups/{request['reference']}.svg"

        async def fetch(person: Person | None, path: str = path) -> tuple[int, str]:
            headers = {} if person is None else {"authorization": f"Bearer {person.token}"}
            reply = await usdc_api.client.get(path, headers=headers)
            assert reply.headers["x-content-type-options"] == "nosniff"
            return reply.status_code, reply.text

        assert await fetch(tenant.owner) == (200, request["qrSvg"])
        stranger = await usdc_api.tenant()
        assert (await fetch(stranger.owner))[0] == 404
        assert (await fetch(None))[0] == 401
        for odd in ("/billing/usdc-top-ups/%00.svg", "/billing/usdc-top-ups/%C3%A9.svg"):
            assert (await fetch(tenant.owner, odd))[0] == 404


class TestDecisions:
    async def test_an_admin_assigns_what_nobody_could_tell(
        self, usdc_api: Api, usdc: UsdcMarket, tenant: Tenant, admin: Person
    ) -> None:
        signature = await unattributed(usdc)
        listed = (await usdc_api(UNDECIDED, admin)).data["undecidedUsdcDeposits"]["nodes"]
        [found] = [each for each in listed if each["deposit"]["signature"] == signature]
        assert (found["heldReason"], found["organization"]) == ("it names no request", None)
        given = {"signature": signature, "organizationId": tenant.id, "reason": "told by mail"}
        done = (await usdc_api(ASSIGN, admin, input=given)).data["assignUsdcDeposit"]
        assert done["userErrors"] == []
        assert done["deposit"]["organization"]["id"] == tenant.id
        assert done["deposit"]["deposit"] == {"state": "CREDITED", "attributedBy": "PERSON"}
        assert Decimal((await shown(usdc_api, tenant))["balance"]["paid"]["amount"]) == 3
        [error] = (await usdc_api(ASSIGN, admin, input=given)).data["assignUsdcDeposit"]["userErrors"]
        assert error["code"] == "CONFLICT"

    async def test_an_admin_sends_a_deposit_back_and_takes_that_back(
        self, usdc_api: Api, usdc: UsdcMarket, tenant: Tenant, admin: Person
    ) -> None:
        request = (await top_up(usdc_api, tenant, amount="7"))["topUp"]
        signature = await DevWallet(usdc.chain().rpc, usdc.payer()).pay(request["url"])
        await usdc.settle()
        given = {"signature": signature, "reason": "by mistake"}
        asked = (await usdc_api(REFUND, admin, input=given)).data["refundUsdcDeposit"]
        assert (asked["userErrors"], asked["deposit"]["deposit"]["state"]) == ([], "REFUNDING")
        assert int(asked["batchNumber"]) > 0
        assert Decimal((await shown(usdc_api, tenant))["balance"]["paid"]["amount"]) == 0
        back = (await usdc_api(CANCEL, admin, input=given)).data["cancelUsdcRefund"]
        assert back["deposit"]["deposit"]["state"] == "CREDITED"
        assert Decimal((await shown(usdc_api, tenant))["balance"]["paid"]["amount"]) == 7

    async def test_an_admin_books_the_platforms_own(
        self, usdc_api: Api, usdc: UsdcMarket, admin: Person
    ) -> None:
        signature = await unattributed(usdc)
        given = {"signature": signature, "reason": "refill of November"}
        done = (await usdc_api(FUND, admin, input=given)).data["fundTreasury"]
        assert done["deposit"] == {"decisionReason": "refill of November", "deposit": {"state": "FUNDING"}}

    async def test_an_admin_marks_senders_and_sees_the_treasury(
        self, usdc_api: Api, usdc: UsdcMarket, admin: Person
    ) -> None:
        wallet = str(usdc.payer().pubkey())
        given = {"wallet": wallet, "mark": "BLOCKED", "reason": "stolen"}
        assert (await usdc_api(MARK, admin, input=given)).data["markUsdcSender"]["sender"] == given
        gone = (await usdc_api(UNMARK, admin, input={"wallet": wallet})).data["unmarkUsdcSender"]
        assert gone == {"wallet": wallet, "userErrors": []}
        await usdc.settle()
        treasury = (await usdc_api(TREASURY, admin)).data["usdcTreasury"]
        assert (treasury["account"], treasury["problem"], treasury["gap"]) == (usdc.account, None, None)
        assert treasury["scannedAt"] is not None

    @pytest.mark.parametrize("statement", [UNDECIDED, TREASURY])
    async def test_customers_see_none_of_it(self, usdc_api: Api, tenant: Tenant, statement: str) -> None:
        answer = await usdc_api(statement, tenant.owner)
        assert answer.code == "FORBIDDEN"
