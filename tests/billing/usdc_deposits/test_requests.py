"""Promise: each request has a key of its own; the same idempotency key gives the same request."""

import asyncio

import pytest

from raymart_billing.usdc_deposits import requests
from raymart_billing.usdc_deposits.models import UsdcTopUp
from raymart_billing.usdc_deposits.rail import open_usdc_rail, required
from raymart_billing.usdc_deposits.requests import create_top_up
from raymart_billing.usdc_deposits.solana_pay import parse
from raymart_core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.settings import ControlSettings
from support.usdc_market import UsdcCustomer, UsdcMarket


async def ask(usdc: UsdcMarket, customer: UsdcCustomer, usd: str | None, *, key: str = "k") -> UsdcTopUp:
    """A request with this key."""
    async with session_scope(usdc.sessions) as session:
        return await create_top_up(
            session,
            usdc.rail,
            organization_id=customer.organization_id,
            amount=None if usd is None else Money.parse(usd, Asset.USDC),
            key=key,
            actor_id=customer.user_id,
        )


class TestRequest:
    async def test_its_url_asks_for_what_was_asked_to_the_treasurys_wallet(
        self, usdc: UsdcMarket, customer: UsdcCustomer
    ):
        row = await ask(usdc, customer, "12.345678")
        read = parse(row.url)
        assert (read.recipient, read.mint, read.amount) == (
            usdc.market.treasury.pubkey(),
            usdc.market.mint,
            Money(12_345_678, Asset.USDC),
        )
        assert [str(key) for key in read.references] == [row.reference]
        assert read.memo == f"raymart:{row.reference}"

    async def test_without_an_amount_the_payer_chooses(self, usdc: UsdcMarket, customer: UsdcCustomer):
        assert parse((await ask(usdc, customer, None)).url).amount is None

    async def test_a_repeat_is_the_same_request_also_at_once(self, usdc: UsdcMarket, customer: UsdcCustomer):
        rows = await asyncio.gather(*(ask(usdc, customer, "5") for _ in range(4)))
        assert len({row.id for row in rows}) == 1
        with pytest.raises(Conflict):
            await ask(usdc, customer, "6")
        assert (await ask(usdc, customer, "5", key="other")).reference != rows[0].reference

    @pytest.mark.parametrize("usd", ["0.999999", "100000.000001", "0", "-5"])
    async def test_amounts_outside_the_limits_are_refused(
        self, usdc: UsdcMarket, customer: UsdcCustomer, usd: str
    ):
        with pytest.raises(InvalidRequest, match="USDC"):
            await ask(usdc, customer, usd)

    @pytest.mark.parametrize("usd", ["1", "100000"])
    async def test_the_limits_themselves_are_allowed(
        self, usdc: UsdcMarket, customer: UsdcCustomer, usd: str
    ):
        assert (await ask(usdc, customer, usd)).amount_micro_usdc == int(usd) * 1_000_000

    @pytest.mark.parametrize("key", ["", "x" * 129])
    async def test_keys_of_another_length_are_refused(
        self, usdc: UsdcMarket, customer: UsdcCustomer, key: str
    ):
        with pytest.raises(InvalidRequest):
            await ask(usdc, customer, "5", key=key)

    async def test_open_requests_are_limited(
        self, usdc: UsdcMarket, customer: UsdcCustomer, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(requests, "OPEN_MAX", 2)
        for key in ("a", "b"):
            await ask(usdc, customer, "5", key=key)
        with pytest.raises(Conflict, match="2 requests are open"):
            await ask(usdc, customer, "5", key="c")

    async def test_nobody_asks_for_an_unknown_organization(self, usdc: UsdcMarket, customer: UsdcCustomer):
        nobody = UsdcCustomer(organization_id=new_id(), user_id=customer.user_id)
        with pytest.raises(NotFound):
            await ask(usdc, nobody, "5")


class TestRail:
    def test_without_a_chain_there_is_none(self, database_url: str):
        rail = open_usdc_rail(ControlSettings(DATABASE_URL=database_url, token_secret="s" * 32))
        assert rail is None
        with pytest.raises(Unavailable, match="SOLANA_RPC_URL"):
            required(rail)

    def test_a_providers_key_in_an_endpoints_address_is_not_shown(self, database_url: str):
        settings = ControlSettings(
            DATABASE_URL=database_url,
            token_secret="s" * 32,
            SOLANA_RPC_URL="https://rpc.example/secret-key",
            treasury_address="EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        )
        assert "secret-key" not in required(open_usdc_rail(settings)).link("5" * 88)
