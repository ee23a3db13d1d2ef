"""What is published stays as it is, begins now or later, and leaves no two prices effective at a moment."""

import asyncio
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.units import Unit
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.pricing import service
from raymart_marketplace.pricing.book import database_now, load_book
from raymart_marketplace.pricing.effective import caps_of, card_prices
from raymart_marketplace.pricing.models import FeeSchedule, Price, PriceCap, RateCard, RateCardState
from support.market import make_provider, make_revision

PROMPT, COMPLETION = Unit.TOKEN_PROMPT, Unit.TOKEN_COMPLETION
PRICES = {PROMPT: 50, COMPLETION: 150}
HOUR = timedelta(hours=1)


@pytest.fixture
async def revision(sessions: Sessions):
    async with session_scope(sessions) as session:
        return await make_revision(session)


@pytest.fixture
def model_id(revision) -> UUID:
    return revision.model_id


async def publish(sessions: Sessions, model_id: UUID, prices=None, **changes) -> RateCard:
    async with session_scope(sessions) as session:
        return await service.publish_rate_card(
            session, model_id=model_id, prices=PRICES if prices is None else prices, actor_id=None, **changes
        )


async def set_cap(sessions: Sessions, model_id: UUID | None, **changes) -> PriceCap | None:
    values = {"unit": PROMPT, "max_nano_usd": 100, "reason": "a test", "actor_id": None}
    async with session_scope(sessions) as session:
        return await service.set_price_cap(session, **(values | {"model_id": model_id} | changes))


async def set_fee(sessions: Sessions, **changes) -> FeeSchedule:
    values = {"basis_points": 500, "reason": "a test", "actor_id": None}
    async with session_scope(sessions) as session:
        return await service.set_fee_schedule(session, **(values | changes))


async def now_of(sessions: Sessions):
    async with session_scope(sessions) as session:
        return await database_now(session)


async def cards_at(sessions: Sessions, model_id: UUID, at=None):
    async with session_scope(sessions) as session:
        book = await load_book(session, fee_basis_points=0)
        moment = at or await database_now(session)
    return card_prices(book, model_id=model_id, revision_id=None, at=moment)


class TestPublish:
    async def test_a_card_is_effective_at_once(self, sessions, model_id):
        card = await publish(sessions, model_id)
        assert (card.version, card.state, card.effective_to) == (1, RateCardState.PUBLISHED, None)
        assert await cards_at(sessions, model_id) == PRICES

    async def test_the_next_version_ends_the_one_before(self, sessions, model_id):
        first = await publish(sessions, model_id)
        second = await publish(sessions, model_id, {PROMPT: 1, COMPLETION: 2})
        assert second.version == 2
        async with session_scope(sessions) as session:
            kept = await session.get_one(RateCard, first.id)
        assert (kept.state, kept.effective_to) == (RateCardState.RETIRED, second.effective_from)
        assert await cards_at(sessions, model_id) == {PROMPT: 1, COMPLETION: 2}

    async def test_a_scheduled_card_waits_for_its_moment(self, sessions, model_id):
        await publish(sessions, model_id)
        starts = await now_of(sessions) + HOUR
        await publish(sessions, model_id, {PROMPT: 9, COMPLETION: 9}, effective_from=starts)
        assert await cards_at(sessions, model_id) == PRICES
        assert await cards_at(sessions, model_id, starts - timedelta(microseconds=1)) == PRICES
        assert await cards_at(sessions, model_id, starts) == {PROMPT: 9, COMPLETION: 9}

    async def test_a_card_fits_before_one_that_is_scheduled_when_it_ends_by_then(self, sessions, model_id):
        starts = await now_of(sessions) + HOUR
        await publish(sessions, model_id, effective_from=starts)
        with pytest.raises(Conflict, match="another one takes effect at"):
            await publish(sessions, model_id, {PROMPT: 1})
        await publish(sessions, model_id, {PROMPT: 1}, effective_to=starts)
        assert await cards_at(sessions, model_id) == {PROMPT: 1}

    async def test_a_revision_has_cards_of_its_own(self, sessions, revision):
        await publish(sessions, revision.model_id)
        card = await publish(sessions, revision.model_id, {PROMPT: 1}, revision_id=revision.id)
        assert card.version == 1
        async with session_scope(sessions) as session:
            book, now = await load_book(session, fee_basis_points=0), await database_now(session)
        found = card_prices(book, model_id=revision.model_id, revision_id=revision.id, at=now)
        assert found == {PROMPT: 1, COMPLETION: 150}

    async def test_ten_at_once_make_ten_versions_of_which_one_is_effective(self, sessions, model_id):
        await asyncio.gather(*(publish(sessions, model_id, {PROMPT: n, COMPLETION: n}) for n in range(10)))
        async with session_scope(sessions) as session:
            rows = (await session.scalars(select(RateCard).where(RateCard.model_id == model_id))).all()
        assert sorted(row.version for row in rows) == list(range(1, 11))
        assert [row.version for row in rows if row.effective_to is None] == [10]

    async def test_a_past_start_is_refused_with_both_times(self, sessions, model_id):
        past = await now_of(sessions) - HOUR
        with pytest.raises(InvalidRequest, match=r"is past; it is .* now or later") as refusal:
            await publish(sessions, model_id, effective_from=past)
        assert refusal.value.param == "effective_from"

    async def test_an_end_before_the_start_is_refused(self, sessions, model_id):
        starts = await now_of(sessions) + HOUR
        with pytest.raises(InvalidRequest, match="is not after the start"):
            await publish(sessions, model_id, effective_from=starts, effective_to=starts)

    @pytest.mark.parametrize("wrong", [-1, 1_000_000_001, 2**63, 1.5, float("nan"), "7", True, None])
    async def test_what_is_no_price_is_refused_with_its_unit_and_limit(self, sessions, model_id, wrong):
        with pytest.raises(InvalidRequest, match=r"for token.prompt is no whole number from 0 to 1000000000"):
            await publish(sessions, model_id, {PROMPT: wrong})

    async def test_a_card_without_prices_is_refused(self, sessions, model_id):
        with pytest.raises(InvalidRequest, match="one unit at least"):
            await publish(sessions, model_id, {})

    async def test_a_price_above_the_cap_is_refused(self, sessions, model_id):
        await set_cap(sessions, model_id, max_nano_usd=49)
        with pytest.raises(
            InvalidRequest, match=r"price of 50 nano-USD .* above the cap of 49; ask 49 at most"
        ):
            await publish(sessions, model_id)

    async def test_unknown_models_and_revisions_of_others_are_refused(self, sessions, model_id):
        with pytest.raises(NotFound):
            await publish(sessions, new_id())
        async with session_scope(sessions) as session:
            other = await make_revision(session)
        with pytest.raises(NotFound):
            await publish(sessions, model_id, revision_id=other.id)


class TestRetire:
    async def test_a_retired_card_prices_nothing_and_a_repeat_changes_nothing(self, sessions, model_id):
        await publish(sessions, model_id)
        ends = []
        for _ in range(2):
            async with session_scope(sessions) as session:
                card = await service.retire_rate_card(session, model_id=model_id, version=1)
                ends.append(card.effective_to)
        assert ends[0] == ends[1]
        assert await cards_at(sessions, model_id) == {}
        with pytest.raises(NotFound, match="version 2"):
            async with session_scope(sessions) as session:
                await service.retire_rate_card(session, model_id=model_id, version=2)

    async def test_a_scheduled_card_is_withdrawn_before_it_begins(self, sessions, model_id):
        starts = await now_of(sessions) + HOUR
        await publish(sessions, model_id, effective_from=starts)
        async with session_scope(sessions) as session:
            await service.retire_rate_card(session, model_id=model_id, version=1)
        assert await cards_at(sessions, model_id, starts) == {}
        await publish(sessions, model_id)
        assert await cards_at(sessions, model_id, starts) == PRICES


class TestCap:
    async def test_a_cap_is_replaced_and_taken_away(self, sessions, model_id):
        async def cap_now():
            async with session_scope(sessions) as session:
                book, now = await load_book(session, fee_basis_points=0), await database_now(session)
            return caps_of(book, model_id=model_id, at=now)

        await set_cap(sessions, model_id)
        assert await cap_now() == {PROMPT: 100}
        await set_cap(sessions, model_id, max_nano_usd=70)
        assert await cap_now() == {PROMPT: 70}
        assert await set_cap(sessions, model_id, max_nano_usd=None) is None
        assert await cap_now() == {}

    async def test_caps_for_everything_and_for_a_model_stand_side_by_side(self, sessions, model_id):
        unit = Unit.IMAGE_MEGAPIXEL_STEP
        await set_cap(sessions, None, unit=unit, max_nano_usd=80)
        try:
            await set_cap(sessions, model_id, unit=unit, max_nano_usd=90)
            with pytest.raises(InvalidRequest, match="above the cap of 80"):
                await publish(sessions, model_id, {unit: 85})
        finally:
            await set_cap(sessions, None, unit=unit, max_nano_usd=None)
        await publish(sessions, model_id, {unit: 85})

    @pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\0b"])
    async def test_it_needs_a_reason(self, sessions, model_id, reason):
        with pytest.raises(InvalidRequest, match="a reason has 1 to 500 characters"):
            await set_cap(sessions, model_id, reason=reason)

    @pytest.mark.parametrize("wrong", [-1, 1_000_000_001, 2**63, 0.5, float("inf")])
    async def test_what_is_no_price_is_refused(self, sessions, model_id, wrong):
        with pytest.raises(InvalidRequest, match="no whole number"):
            await set_cap(sessions, model_id, max_nano_usd=wrong)


class TestFee:
    async def test_versions_count_over_all_schedules(self, sessions, model_id):
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
        first = await set_fee(sessions, provider_id=provider.id)
        second = await set_fee(sessions, provider_id=provider.id, basis_points=0)
        both = await set_fee(sessions, provider_id=provider.id, model_id=model_id)
        assert first.version < second.version < both.version
        async with session_scope(sessions) as session:
            kept = await session.get_one(FeeSchedule, first.id)
        assert kept.effective_to == second.effective_from

    @pytest.mark.parametrize("wrong", [-1, 10_001, 2**63, 12.5, float("nan"), True])
    async def test_what_is_no_share_is_refused_with_value_and_limit(self, sessions, wrong):
        with pytest.raises(InvalidRequest, match="outside 0 to 10000"):
            await set_fee(sessions, basis_points=wrong, provider_id=new_id())

    async def test_unknown_providers_and_models_are_refused(self, sessions):
        with pytest.raises(NotFound):
            await set_fee(sessions, provider_id=new_id())
        with pytest.raises(NotFound):
            await set_fee(sessions, model_id=new_id())


async def refused(sessions: Sessions, statement, error: type[Exception], match: str) -> None:
    with pytest.raises(DBAPIError, match=match) as refusal:
        async with session_scope(sessions) as session:
            await session.execute(statement)
    assert isinstance(refusal.value.orig, error)


class TestDatabase:
    """The same rules once more, against whoever writes past the service."""

    async def test_a_published_card_and_its_prices_cannot_be_changed(self, sessions, model_id):
        card = await publish(sessions, model_id)
        privilege = psycopg.errors.InsufficientPrivilege
        of_card = RateCard.id == card.id
        for change in (
            update(RateCard).where(of_card).values(effective_from=RateCard.effective_from - HOUR),
            update(RateCard).where(of_card).values(version=7),
            update(RateCard).where(of_card).values(effective_to=func.now() - HOUR),
            update(RateCard).where(of_card).values(state="draft"),
            delete(RateCard).where(of_card),
            update(Price).where(Price.rate_card_id == card.id).values(nano_usd=1),
            delete(Price).where(Price.rate_card_id == card.id),
            text(f"insert into price values ('{card.id}', 'request', 5)"),
        ):
            await refused(sessions, change, privilege, "is refused")
        # The runtime's role has no right to that at all.
        await refused(sessions, text("truncate rate_card cascade"), privilege, "permission denied")
        assert await cards_at(sessions, model_id) == PRICES

    async def test_an_end_can_only_come_nearer(self, sessions, model_id):
        ends = await now_of(sessions) + HOUR
        card = await publish(sessions, model_id, effective_to=ends)
        later = update(RateCard).where(RateCard.id == card.id)
        for change in (ends + HOUR, None):
            await refused(
                sessions,
                later.values(effective_to=change),
                psycopg.errors.InsufficientPrivilege,
                "only its end may be set",
            )
        async with session_scope(sessions) as session:
            await session.execute(later.values(effective_to=ends - HOUR / 2))

    async def test_two_cards_cannot_be_effective_at_once(self, sessions, model_id):
        await publish(sessions, model_id)
        rogue = text(
            "with made as (insert into rate_card (id, model_id, version, effective_from, state)"
            f" values (gen_random_uuid(), '{model_id}', 2, now() + interval '1 hour', 'draft') returning id)"
            " select id from made"
        )
        async with session_scope(sessions) as session:
            rogue_id = await session.scalar(rogue)
        publish_it = update(RateCard).where(RateCard.id == rogue_id).values(state="published")
        await refused(sessions, publish_it, psycopg.errors.ExclusionViolation, "ex_rate_card_effective")

    async def test_nothing_is_backdated(self, sessions, model_id):
        for statement in (
            (
                f"insert into price_cap (id, unit, model_id, max_nano_usd, effective_from, reason)"
                f" values (gen_random_uuid(), 'request', '{model_id}', 5, now() - interval '1 second', 'x')"
            ),
            (
                f"insert into fee_schedule (id, version, basis_points, model_id, effective_from, reason)"
                f" values (gen_random_uuid(), 1000000, 5, '{model_id}', now() - interval '1 second', 'x')"
            ),
        ):
            await refused(sessions, text(statement), psycopg.errors.CheckViolation, "which is past")

    async def test_two_caps_and_two_fees_of_one_scope_cannot_overlap(self, sessions, model_id):
        await set_cap(sessions, model_id)
        await set_fee(sessions, model_id=model_id)
        for statement, name in (
            (
                (
                    "insert into price_cap (id, unit, model_id, max_nano_usd, effective_from, reason)"
                    f" values (gen_random_uuid(), 'token.prompt', '{model_id}', 5, now() + interval '1 h', 'x')"
                ),
                "ex_price_cap_effective",
            ),
            (
                (
                    "insert into fee_schedule (id, version, basis_points, model_id, effective_from, reason)"
                    f" values (gen_random_uuid(), 1000000, 5, '{model_id}', now() + interval '1 h', 'x')"
                ),
                "ex_fee_schedule_effective",
            ),
        ):
            await refused(sessions, text(statement), psycopg.errors.ExclusionViolation, name)

    @pytest.mark.parametrize("amount", ["-1", "1000000001", "9223372036854775808", "'NaN'::float8"])
    async def test_amounts_out_of_range_are_refused(self, sessions, model_id, amount):
        for statement in (
            (
                f"insert into price_cap (id, unit, model_id, max_nano_usd, effective_from, reason)"
                f" values (gen_random_uuid(), 'request', '{model_id}', {amount}, now(), 'x')"
            ),
            f"insert into offer_ask (offer_id, unit, price_nano_usd) values ('{model_id}', 'request', {amount})",
            f"insert into price values ('{model_id}', 'request', {amount})",
        ):
            with pytest.raises((IntegrityError, DBAPIError)) as refusal:
                async with session_scope(sessions) as session:
                    await session.execute(text(statement))
            assert isinstance(
                refusal.value.orig, psycopg.errors.CheckViolation | psycopg.errors.NumericValueOutOfRange
            )

    async def test_published_rows_of_caps_and_fees_are_kept(self, sessions, model_id):
        cap = await set_cap(sessions, model_id)
        fee = await set_fee(sessions, model_id=model_id)
        privilege = psycopg.errors.InsufficientPrivilege
        for change in (
            update(PriceCap).where(PriceCap.id == cap.id).values(max_nano_usd=1),
            delete(PriceCap).where(PriceCap.id == cap.id),
            update(FeeSchedule).where(FeeSchedule.id == fee.id).values(basis_points=1),
            delete(FeeSchedule).where(FeeSchedule.id == fee.id),
        ):
            await refused(sessions, change, privilege, "is refused")
        await refused(sessions, text("truncate fee_schedule"), privilege, "permission denied")
