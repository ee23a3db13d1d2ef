"""A request for pictures from end to end: real gateway, billing and database; the replica is scripted."""

import asyncio
import dataclasses

import msgspec
import pytest

from raymart_core.errors import (
    InvalidRequest,
    ModelNotFound,
    NoEndpoint,
    Unavailable,
    UpstreamFailed,
)
from raymart_core.money import Money
from raymart_core.ports import Prices
from raymart_core.units import Fault
from raymart_marketplace.accounts.scopes import ModelNotAllowed, ScopeMissing
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.images.events import (
    PictureEvent,
    PictureProgress,
    PicturesBroken,
    PicturesFinished,
    PicturesStarted,
)
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.objects import open_objects
from support.gateway_market import gateway_market
from support.image_market import FUNDED, ImageMarket, last, pictures, steps
from support.object_settings import object_settings
from support.scripted_images import after, asked, finish, made, picture, progress
from support.scripted_replica import Exchange, ScriptedReplica

PIXEL_STEPS = 32 * 16 * 4
"""Of one picture of `market.asking()`."""


def prices(megapixel_step: int) -> Prices:
    return Prices(image_megapixel_step=megapixel_step)


def ask_first(market: ImageMarket, replica: ScriptedReplica) -> None:
    """Make the endpoint of `replica` the cheapest."""
    endpoint_id = list(market.directory.endpoints)[market.replicas.index(replica)]
    endpoint = market.directory.endpoints[endpoint_id]
    market.directory.endpoints[endpoint_id] = msgspec.structs.replace(endpoint, prices=prices(1))


class TestRun:
    async def test_pictures_come_whole_with_their_seeds_and_are_billed_by_pixel_steps(self, market):
        await market.add_painter()
        events = await market.events(market.asking(count=2))
        assert steps(events) == [(step, 8) for step in range(1, 9)]
        assert [(one.index, one.seed, one.steps) for one in pictures(events)] == [(0, 5, 4), (1, 6, 4)]
        assert pictures(events)[0].data == picture(32, 16, seed=5, text="a red circle\nSteps: 4, Seed: 5")
        assert pictures(events)[0].parameters == "a red circle\nSteps: 4, Seed: 5"
        end = last(events)
        assert isinstance(end, PicturesFinished)
        assert (end.pixel_steps, end.cost, end.attempts) == (2 * PIXEL_STEPS, Money(2 * PIXEL_STEPS + 7), 1)
        assert await market.pixel_steps() == [(2 * PIXEL_STEPS, 1, 2 * PIXEL_STEPS + 7, 2 * PIXEL_STEPS + 7)]
        assert (await market.requests())[0][1:] == ("completed", "stop", None)
        await market.settle()
        assert await market.balance() == (FUNDED - 2 * PIXEL_STEPS - 7, 0)

    async def test_the_replica_is_asked_for_what_the_customer_asked_for(self, market):
        replica = await market.add_painter()
        await market.events(
            market.asking(negative_prompt="blue", guidance=3.5, scheduler="Euler a", format="webp")
        )
        request = asked(replica.exchanges[0])
        assert (request.prompt, request.negative_prompt, request.guidance) == ("a red circle", "blue", 3.5)
        assert (request.scheduler, request.format, request.seed, request.count) == ("Euler a", "webp", 5, 1)

    async def test_a_seed_is_chosen_when_none_is_given_and_told(self, market):
        await market.add_painter()
        first, second = [pictures(await market.events(market.asking(seed=None)))[0].seed for _ in range(2)]
        assert first != second

    async def test_an_input_picture_is_billed_by_the_steps_that_were_run(self, market):
        await market.add_painter()
        events = await market.events(market.asking(image=picture(64, 64), strength=0.5))
        assert last(events).pixel_steps == PIXEL_STEPS // 2

    async def test_kept_pictures_lie_among_the_objects_of_their_organization(self, market):
        await market.add_painter()
        events = await market.events(market.asking(count=2, format="jpeg"), keep=True)
        request_id = last(events).request_id
        keys = [one.key for one in pictures(events)]
        assert keys == [f"images/{market.caller.organization_id}/{request_id}/{n}.jpg" for n in range(2)]
        assert await market.objects.get(keys[1], bytes_max=10_000) == pictures(events)[1].data

    async def test_what_is_not_to_be_kept_is_nowhere(self, market):
        await market.add_painter()
        events = await market.events()
        assert pictures(events)[0].key is None
        assert [page async for page in market.objects.list("images/")] in ([], [[]])

    async def test_a_picture_that_cannot_be_kept_is_delivered_without_a_key(self, market):
        await market.add_painter()
        nowhere = market.make_images(objects=open_objects(object_settings()))
        events = await market.events(keep=True, images=nowhere)
        assert pictures(events)[0].key is None
        assert isinstance(last(events), PicturesFinished)

    async def test_a_revision_may_be_named(self, market):
        await market.add_painter(aliases=("stable",))
        assert isinstance(
            last(await market.events(market.asking(model=f"{market.slug}@stable"))), PicturesFinished
        )
        with pytest.raises(NoEndpoint):
            await market.events(market.asking(model=f"{market.slug}@next"))

    async def test_the_cheapest_endpoint_by_pixel_steps_is_asked_first(self, market):
        dear = await market.add_painter(prices=prices(2_000_000))
        cheap = await market.add_painter(prices=prices(1_000_000))
        await market.events()
        assert (len(dear.exchanges), len(cheap.exchanges)) == (0, 1)


class TestRefusals:
    async def test_a_model_that_makes_text_is_refused_before_anything_is_asked(self, sessions, pool, market):
        async with gateway_market(sessions, pool, modality=Modality.CHAT) as chat:
            replica = await chat.add_endpoint()
            images = market.make_images(directory=chat.directory, plan=chat.inference.planner.plan)
            with pytest.raises(InvalidRequest, match="is a model for chat, not for image") as refused:
                await market.events(market.asking(model=chat.slug), images=images)
        assert refused.value.param == "model"
        assert not replica.exchanges

    async def test_a_model_that_is_not_there_is_not_found(self, market):
        with pytest.raises(ModelNotFound):
            await market.events(market.asking(model="nobody/nothing"))

    async def test_a_key_for_other_things_makes_none(self, market):
        await market.add_painter()
        for changes, refusal in (
            ({"scopes": frozenset()}, ScopeMissing),
            ({"models": frozenset({"x/y"})}, ModelNotAllowed),
        ):
            caller = dataclasses.replace(market.caller, **changes)
            with pytest.raises(refusal):
                await anext(
                    market.images.run(
                        caller, market.asking(), surface=Surface.REST, streamed=False, keep=False
                    )
                )
        assert await market.requests() == []

    async def test_what_the_replica_finds_malformed_is_the_customers_to_know(self, market):
        async def refuse(exchange: Exchange) -> None:
            exchange.refuse(400, "there is no LoRA 'x'; there are: y", Fault.CUSTOMER, "loras")

        replica = await market.add_painter()
        replica.script = refuse
        with pytest.raises(InvalidRequest, match="no LoRA 'x'") as refused:
            await market.events()
        assert refused.value.param == "loras"
        assert market.directory.failures == []
        await market.settle()
        assert await market.balance() == (FUNDED, 0)


BREAKS = {
    "dies": (lambda exchange: exchange.cut(), ""),
    "fails": (lambda exchange: exchange.fail("out of memory"), "the replica reports an error"),
    "ends-early": (lambda exchange: exchange.end(), "ended without a finish"),
    "no-event": (lambda exchange: exchange.line(b'{"e":"?"}'), "a line that is no event"),
    "other-seed": (lambda exchange: made(exchange, seed=6), "another seed, size or format"),
    "other-size": (lambda exchange: made(exchange, width=16), "another seed, size or format"),
    "other-file": (lambda exchange: made(exchange, data=picture(16, 16)), "not of the size or format"),
    "other-kind": (
        lambda exchange: made(exchange, data=picture(32, 16, kind="jpeg")),
        "not of the size or format",
    ),
    "half-a-file": (lambda exchange: made(exchange, data=picture(32, 16)[:-30]), "cannot be decoded"),
    "no-file": (lambda exchange: made(exchange, data=b""), "not of the size or format"),
    "too-many-steps": (lambda exchange: made(exchange, steps=5), "a picture of 5 steps; 4"),
    "no-steps": (lambda exchange: made(exchange, steps=0), "a picture of 0 steps"),
    "second-first": (lambda exchange: made(exchange, index=1), "picture 1 after 0 pictures"),
    "huge-file": (lambda exchange: made(exchange, data=picture(32, 16) + bytes(265_000)), "a picture of 265"),
    "long-words": (lambda exchange: made(exchange, parameters="x" * 70_000), "a picture of"),
    "step-again": (lambda exchange: progress(exchange, 2, 4), "step 2 of 4 after step 2"),
    "step-beyond": (lambda exchange: progress(exchange, 5, 4), "step 5 of 4"),
    "endless-steps": (lambda exchange: progress(exchange, 3, 10_000), "step 3 of 10000"),
    "long-line": (
        lambda exchange: exchange.raw(b"%x\r\n%b" % (2_000_000, b"A" * 2_000_000)),
        "a line of more than",
    ),
}
"""How an endpoint fails, and what is said of it to operators."""


class TestFailover:
    async def test_what_is_no_usable_picture_costs_nothing_and_another_endpoint_takes_over(self, market):
        bad, _ = await market.add_painter(), await market.add_painter()
        ask_first(market, bad)
        for name, (breaking, reason) in BREAKS.items():
            bad.scripts.append(after(2, breaking))
            events = await market.events()
            assert isinstance(last(events), PicturesFinished), name
            assert last(events).attempts == 2, name
            assert pictures(events)[0].data == picture(32, 16, seed=5, text="a red circle\nSteps: 4, Seed: 5")
            failed, delivered = (await market.attempts())[-2:]
            assert (failed[:2], delivered[:2]) == (("failed", "provider"), ("delivered", "none")), name
            assert reason in failed[2], name
            assert steps(events)[-4:] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert len(market.directory.failures) == len(BREAKS)
        whole = (PIXEL_STEPS, 1, PIXEL_STEPS + 7, PIXEL_STEPS + 7)
        assert await market.pixel_steps() == [whole] * len(BREAKS)

    async def test_an_end_without_all_pictures_is_no_end(self, market):
        async def stingy(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            finish(exchange)

        bad = await market.add_painter()
        bad.script = stingy
        with pytest.raises(UpstreamFailed, match="an end after 1 pictures; 2"):
            await market.events(market.asking(count=2))
        assert await market.pixel_steps() == []

    async def test_another_revision_is_not_believed(self, market):
        async def other(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            finish(exchange, revision="sha256:" + "cd" * 32)

        (await market.add_painter()).script = other
        with pytest.raises(UpstreamFailed, match="another revision"):
            await market.events()

    async def test_when_all_fail_nothing_is_billed_and_the_request_is_recorded_as_failed(self, market):
        for _ in range(4):
            (await market.add_painter()).script = after(1, BREAKS["fails"][0])
        with pytest.raises(UpstreamFailed, match="3 endpoints"):
            await market.events()
        assert (await market.requests())[0][1:] == ("failed", None, "upstream_failed")
        await market.settle()
        assert await market.balance() == (FUNDED, 0)
        assert await market.pixel_steps() == []

    async def test_an_endpoint_that_is_silent_is_left(self, market):
        async def silent(exchange: Exchange) -> None:
            exchange.head()
            await exchange.gone.wait()

        bad = await market.add_painter()
        await market.add_painter()
        bad.script = silent
        ask_first(market, bad)
        quick = market.make_images(limits=dataclasses.replace(market.limits, first_token_timeout_s=1.0))
        events = await market.events(images=quick)
        assert last(events).attempts == 2
        assert "no step within 1 s" in (await market.attempts())[0][2]
        async with asyncio.timeout(30):
            await bad.exchanges[0].gone.wait()

    async def test_nothing_made_for_an_unstreamed_request_is_billed_when_all_fail_after_pictures(
        self, market
    ):
        async def one_and_out(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            exchange.cut()

        (await market.add_painter()).script = one_and_out
        with pytest.raises(UpstreamFailed):
            await market.events(market.asking(count=2))
        assert await market.pixel_steps() == []


class TestStreamed:
    async def test_pictures_are_handed_out_as_they_come(self, market):
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            exchange.head()
            made(exchange, 0)
            await release.wait()
            made(exchange, 1)
            finish(exchange)

        (await market.add_painter()).script = slow
        running = market.images.run(
            market.caller, market.asking(count=2), surface=Surface.REST, streamed=True, keep=False
        )
        started = await anext(running)
        assert isinstance(started, PicturesStarted)
        assert (started.model, started.attempts) == (market.slug, 1)
        assert (await anext(running)).index == 0
        release.set()
        rest = [event async for event in running]
        assert rest[0].index == 1
        assert last(rest).pixel_steps == 2 * PIXEL_STEPS

    async def test_what_breaks_after_the_first_picture_bills_that_alone(self, market):
        async def one_and_out(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            exchange.cut()

        bad, other = await market.add_painter(), await market.add_painter()
        bad.script = one_and_out
        ask_first(market, bad)
        events = await market.events(market.asking(count=2), streamed=True)
        end = last(events)
        assert isinstance(end, PicturesBroken)
        assert [one.index for one in pictures(events)] == [0]
        assert (end.pixel_steps, end.error.code, end.attempts) == (PIXEL_STEPS, "upstream_failed", 1)
        assert [row[0] for row in await market.pixel_steps()] == [PIXEL_STEPS]
        assert (await market.requests())[0][1:] == ("failed", "error", "upstream_failed")
        assert other.exchanges == []

    async def test_a_failure_before_the_first_picture_moves_the_stream_elsewhere(self, market):
        bad, _ = await market.add_painter(), await market.add_painter()
        bad.script = after(3, BREAKS["dies"][0])
        ask_first(market, bad)
        events = await market.events(streamed=True)
        assert steps(events) == [(1, 4), (2, 4), (3, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
        assert isinstance(last(events), PicturesFinished)

    async def test_a_client_that_leaves_stops_the_engine_and_pays_for_whole_pictures(self, market):
        async def endless(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            progress(exchange, 5, 8)
            await exchange.gone.wait()

        replica = await market.add_painter()
        replica.script = endless
        running = market.images.run(
            market.caller, market.asking(count=2), surface=Surface.REST, streamed=True, keep=False
        )
        assert isinstance(await anext(running), PicturesStarted)
        assert (await anext(running)).index == 0
        assert isinstance(await anext(running), PictureProgress)
        await running.aclose()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        assert (await market.requests())[0][1:] == ("cancelled", "abort", None)
        assert await market.pixel_steps() == [(PIXEL_STEPS, 1, PIXEL_STEPS + 7, PIXEL_STEPS + 7)]
        await market.wait_for_no_hold()


class Bug(Exception):
    """Nothing that anybody expects."""


class Faulty:
    """An object store that takes `puts_good` pictures and then shows that it has a mistake."""

    def __init__(self, *, puts_good: int) -> None:
        self._puts_good = puts_good

    async def put(self, key: str, data: bytes) -> None:
        self._puts_good -= 1
        if self._puts_good < 0:
            raise Bug


class TestRecord:
    async def test_pictures_that_cannot_be_recorded_are_not_handed_out_or_billed(self, market):
        class Away:
            def watch(self, running: object) -> None: ...

            async def record(self, request: object) -> None:
                raise Unavailable("the database is away")

        await market.add_painter()
        images = market.make_images(usage_sink=Away())
        got: list[PictureEvent] = []
        with pytest.raises(Unavailable):
            await market.events(images=images, into=got)
        assert len(steps(got)) == 4
        assert pictures(got) == []
        assert await market.pixel_steps() == []

    async def test_an_error_of_ours_before_anything_was_handed_out_costs_nothing(self, market):
        await market.add_painter()
        images = market.make_images(objects=Faulty(puts_good=0))
        for streamed in (False, True):
            got: list[PictureEvent] = []
            with pytest.raises(Bug):
                await market.events(images=images, keep=True, streamed=streamed, into=got)
            assert pictures(got) == []
        failed = ("failed", "error", "internal_error")
        assert [row[1:] for row in await market.requests()] == [failed, failed]
        assert [row[:3] for row in await market.attempts()] == [("failed", "platform", "Bug")] * 2
        assert await market.pixel_steps() == []
        await market.wait_for_no_hold()
        assert await market.balance() == (FUNDED, 0)

    async def test_an_error_of_ours_after_the_first_picture_bills_that_alone(self, market):
        await market.add_painter()
        images = market.make_images(objects=Faulty(puts_good=1))
        got: list[PictureEvent] = []
        with pytest.raises(Bug):
            await market.events(market.asking(count=2), images=images, keep=True, streamed=True, into=got)
        assert [one.index for one in pictures(got)] == [0]
        assert [row[0] for row in await market.pixel_steps()] == [PIXEL_STEPS]
        await market.settle()
        assert await market.balance() == (FUNDED - PIXEL_STEPS - 7, 0)

    async def test_the_hold_is_the_most_that_can_be_asked(self, market):
        held = []
        gate = market.hold_gate

        class Watching:
            async def hold(self, *, amount: Money, **rest: object):
                held.append(amount)
                return await gate.hold(amount=amount, **rest)

            async def release(self, **rest: object) -> None:
                await gate.release(**rest)

        await market.add_painter()
        images = market.make_images(hold_gate=Watching())
        await market.events(market.asking(count=3), images=images)
        await market.events(market.asking(image=picture(8, 8), strength=0.3), images=images)
        assert held == [Money(3 * PIXEL_STEPS + 7), Money(32 * 16 * 2 + 7)]
