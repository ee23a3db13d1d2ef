"""What reviewers are told of payees."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.connections import Pool
from raymart_billing.payouts.facts import facts_of
from raymart_billing.payouts.outliers import ItemFacts, OutlierKind, outliers_of
from raymart_billing.payouts.running import run_now
from raymart_billing.payouts.trust import set_trust
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, session_scope
from support.own_database import database_url, owner_url
from support.payout_batches import MINT
from support.provider_earnings import USD, Earners

__all__ = ["database_url", "owner_url"]


def usdc(amount: int) -> Money:
    return Money(amount, Asset.USDC)


USUAL = ItemFacts(
    amount=usdc(1_000_000),
    trust=50,
    payouts_before=5,
    average_before=usdc(900_000),
    is_known_wallet=True,
    is_present_wallet=True,
    wallet_warnings=(),
    usage_flags=0,
    gross=Money(1_000_000_000),
    clawed_back=Money(0),
)


class TestOutliers:
    def test_nothing_is_said_of_what_is_usual(self):
        assert outliers_of(USUAL) == []

    @pytest.mark.parametrize(
        ("changes", "kind", "text"),
        [
            ({"usage_flags": 2}, OutlierKind.FLAGGED_USAGE, "2 usages"),
            ({"is_present_wallet": False}, OutlierKind.WALLET_CHANGED, "present"),
            ({"is_known_wallet": False}, OutlierKind.NEW_WALLET, "last 5"),
            ({"amount": usdc(2_700_001)}, OutlierKind.JUMP, "3.0 times"),
            ({"trust": 39}, OutlierKind.LOW_TRUST, "39 of 100"),
            ({"clawed_back": Money(101_000_000)}, OutlierKind.REFUND_SHARE, "10.1 %"),
            ({"wallet_warnings": ("exchange",)}, OutlierKind.WALLET_WARNING, "exchange"),
            (
                {"payouts_before": 0, "average_before": None, "is_known_wallet": False},
                OutlierKind.FIRST_PAYOUT,
                "nothing was paid",
            ),
        ],
    )
    def test_each_is_named_alone_with_its_figure(self, changes, kind, text):
        [found] = outliers_of(replace(USUAL, **changes))
        assert found.kind is kind
        assert text in found.text

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount": usdc(2_700_000)},
            {"amount": usdc(10**12), "payouts_before": 1},
            {"trust": 40},
            {"clawed_back": Money(100_000_000)},
        ],
    )
    def test_at_the_limit_nothing_is_said(self, changes):
        assert outliers_of(replace(USUAL, **changes)) == []

    @given(gross=st.integers(0, 10**15), taken=st.integers(0, 10**15))
    def test_a_share_is_between_nothing_and_all(self, gross, taken):
        share = replace(USUAL, gross=Money(gross), clawed_back=Money(taken)).refund_share
        assert 0 <= share <= 10_000
        assert (share == 0) == (taken * 10_000 < gross or taken == 0)


class TestFacts:
    async def test_are_those_of_the_rows(self, pool: Pool, sessions: Sessions):
        earners = Earners(pool, sessions)
        payee, other = await earners.provider(), await earners.provider()
        for amount in (10, 20):
            for each in (payee, other):
                await earners.earn(each, amount * USD)
            await run_now(sessions, mint=MINT, ends_epoch=True, created_by=None)
            await earners.books.fetch("update payout_item set state = 'paid' where state = 'planned'")
        request_id = await earners.earn(payee, 100 * USD)
        await earners.claw_back(payee, 5 * USD)
        planned = await run_now(sessions, mint=MINT, ends_epoch=True, created_by=None)
        async with session_scope(sessions) as session:
            await set_trust(session, payee.provider_id, score=20, reason="young", actor_id=None)
        await earners.books.fetch(
            "insert into usage_flag (id, usage_id, organization_id, provider_id, reason, actor_id)"
            " values (%s, %s, %s, %s, 'r', %s)",
            new_id(),
            request_id,
            payee.organization_id,
            payee.provider_id,
            payee.owner_id,
        )
        [[item_id]] = await earners.books.fetch(
            "select id from payout_item where state = 'planned' and batch_id = any (%s)",
            list(planned.plan.batches),
        )
        async with session_scope(sessions) as session:
            found = (await facts_of(session, [item_id]))[item_id]
        assert found == ItemFacts(
            amount=usdc(85_500_000),
            trust=20,
            payouts_before=2,
            average_before=usdc(13_500_000),
            is_known_wallet=True,
            is_present_wallet=True,
            wallet_warnings=(),
            usage_flags=1,
            gross=Money(100 * USD),
            clawed_back=Money(5 * USD),
        )
        kinds = {outlier.kind for outlier in outliers_of(found)}
        assert kinds == {OutlierKind.FLAGGED_USAGE, OutlierKind.JUMP, OutlierKind.LOW_TRUST}

    async def test_a_wallet_that_is_not_the_providers_is_noticed(
        self, pool: Pool, sessions: Sessions, batches
    ):
        batch = await batches.batch(1_000_000)
        await batches.fetch(
            "update wallet_proof set withdrawn_at = now() where address ="
            " (select wallet from payout_item where id = %s)",
            batch.items[0],
        )
        async with session_scope(sessions) as session:
            found = (await facts_of(session, batch.items))[batch.items[0]]
        assert (found.is_present_wallet, found.payouts_before, found.average_before) == (False, 0, None)
