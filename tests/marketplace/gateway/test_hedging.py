"""A second endpoint beside a late first one: one serves and is paid, the other is stopped, and nothing stays behind."""

import asyncio
import dataclasses

import msgspec
import pytest
from marketplace.gateway.test_chat_route import events_of
from marketplace.routing.test_route import endpoint

from raymart_core.ports import Prices
from raymart_core.units import Fault
from raymart_marketplace.gateway import hedging
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.hedge import LEAST_S, TIMES, USUAL_S, Hedge, hedge_after_s
from raymart_marketplace.gateway.hedging import ABANDONED, BEATEN, Hedging
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.retry_budget import RetryBudget
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.metering.models import Surface
from support.scripted_replica import answer

CHEAP = Prices(token_prompt=1, token_completion=1)
WISH = {"provider": {"hedge": True, "trace": True}}
FUNDS = 1_000_000
SERVED = ("delivered", "none", "", 4)
LOSER = ("cancelled", "none", BEATEN, 0)


async def silent(exchange):
    """Takes the prompt, and is never heard of again."""
    exchange.prompt()
    await exchange.gone.wait()


def once(event, then=answer):
    """Does nothing until `event`."""

    async def script(exchange):
        await event.wait()
        await then(exchange)

    return script


async def dies(exchange):
    exchange.cut()


async def malformed(exchange):
    exchange.refuse(400, "no", Fault.CUSTOMER)


class Pair:
    """A cheap endpoint that is asked first, and another one."""

    def __init__(self, market):
        self.market = market
        self.second_asked = asyncio.Event()

    async def open(self):
        await self.market.books.fund(FUNDS)
        self.first = await self.market.add_endpoint(provider="first", prices=CHEAP)
        self.second = await self.market.add_endpoint(provider="second")
        self.ids = list(self.market.directory.endpoints)
        self.second_answers(answer)

    def second_answers(self, script):
        async def noted(exchange):
            self.second_asked.set()
            await script(exchange)

        self.second.script = noted

    async def closed(self):
        """Everything that the gateway held is given back."""
        await self.market.settle()
        await self.market.wait_for_no_hold()
        assert set(self.market.directory.running.values()) == {0}
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "hedging"]


@pytest.fixture
async def pair(market):
    pair = Pair(market)
    await pair.open()
    return pair


@pytest.fixture(autouse=True)
def late_at_once(monkeypatch):
    """No test waits to find somebody late; one that is about being in time sets it."""
    monkeypatch.setattr(hedging, "hedge_after_s", lambda endpoint, *, tokens_prompt_max: 0.0)


@pytest.fixture
def judged(monkeypatch):
    """Set once it is decided whether a second endpoint is asked."""
    event, verdict = asyncio.Event(), Hedging._verdict

    def noted(*arguments):
        event.set()
        return verdict(*arguments)

    monkeypatch.setattr(Hedging, "_verdict", noted)
    return event


async def gone(exchange):
    async with asyncio.timeout(30):
        await exchange.gone.wait()


def hedge_of(response):
    return response.json()["routing"]["hedge"]


class TestTheRace:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_second_serves_where_the_first_is_late(self, pair, stream, monkeypatch):
        market, held = pair.market, []
        hold = market.hold_gate.hold

        async def noted(**asked):
            held.append(asked["amount"])
            return await hold(**asked)

        monkeypatch.setattr(market.hold_gate, "hold", noted)
        pair.first.script = silent
        response = await market.chat(stream=stream, **WISH)
        assert response.text.count("tok ") == 4
        assert response.headers["x-raymart-provider"] == "second"
        assert response.headers["x-raymart-attempts"] == "2"
        await gone(pair.first.exchanges[0])
        await pair.closed()
        assert await market.attempts() == [LOSER, SERVED]
        assert await market.usage() == [(3, 4, 26)]
        assert await market.balance() == (FUNDS - 26, 0)
        assert market.directory.failures == []
        assert market.directory.successes == [pair.ids[1]]
        # One hold, of what the dearer one could have cost: "hi", a template around it, and four tokens.
        [amount] = held
        assert amount.amount == (2 + 16 + 32) * 2 + 4 * 5

    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_first_serves_where_it_is_late_and_sooner_all_the_same(self, pair, stream):
        pair.first.script = once(pair.second_asked)
        pair.second_answers(silent)
        response = await pair.market.chat(stream=stream, **WISH)
        assert response.text.count("tok ") == 4
        assert response.headers["x-raymart-provider"] == "first"
        await gone(pair.second.exchanges[0])
        await pair.closed()
        assert await pair.market.attempts() == [LOSER, SERVED]
        assert await pair.market.usage() == [(3, 4, 7)]
        assert pair.market.directory.failures == []
        assert pair.market.directory.successes == [pair.ids[0]]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_nobody_else_is_asked_where_the_first_is_in_time(self, pair, stream, monkeypatch):
        monkeypatch.setattr(hedging, "hedge_after_s", lambda endpoint, *, tokens_prompt_max: 60.0)
        response = await pair.market.chat(stream=stream, **WISH)
        assert response.headers["x-raymart-provider"] == "first"
        await pair.closed()
        assert pair.second.exchanges == []
        assert await pair.market.attempts() == [SERVED]
        assert pair.market.inference.hedging.outcomes == {Hedge.NOT_NEEDED: 1}

    async def test_engines_are_not_asked_to_collect_their_steps(self, pair):
        for each in pair.ids:
            known = msgspec.structs.replace(pair.market.directory.endpoints[each], first_token_ms=5.0)
            pair.market.directory.endpoints[each] = known
        pair.first.script = silent
        for _ in range(3):
            assert (await pair.market.chat(**WISH)).status_code == 200
        exchanges = pair.first.exchanges + pair.second.exchanges
        assert len(exchanges) == 6
        assert not any(exchange.request.whole for exchange in exchanges)

    async def test_a_winner_that_breaks_is_gone_on_with(self, pair):
        """What bounds the waits is the winner's own now, and the loser may be asked again."""

        async def breaks(exchange):
            exchange.prompt()
            exchange.step()
            exchange.step()
            await asyncio.sleep(0.01)
            exchange.cut()

        pair.first.scripts = [silent]
        pair.second_answers(breaks)
        response = await pair.market.chat(stream=True, **WISH)
        assert response.text.count("tok ") == 4
        assert events_of(response.text)[-1] == "[DONE]"
        await pair.closed()
        assert await pair.market.attempts() == [
            LOSER,
            ("failed", "provider", "the replica closed the connection", 2),
            ("delivered", "none", "", 2),
        ]
        assert [tokens for _, tokens, _ in await pair.market.usage()] == [2, 2]


class TestWhoAsks:
    @pytest.fixture(autouse=True)
    def _no_race(self, monkeypatch):
        def begin(*arguments, **named):
            raise AssertionError("nobody asked for a second endpoint")

        monkeypatch.setattr(Hedging, "begin", begin)

    @pytest.mark.parametrize("wish", [{}, {"provider": {"hedge": False}}, {"provider": {"trace": True}}])
    async def test_nobody_is_given_a_second_endpoint_unasked(self, pair, wish):
        response = await pair.market.chat(**wish)
        assert response.headers["x-raymart-attempts"] == "1"
        assert pair.second.exchanges == []

    async def test_the_wish_is_ignored_where_it_is_forbidden(self, pair):
        limits = dataclasses.replace(pair.market.limits, hedging=False)
        client = await pair.market.serve(pair.market.make_inference(limits=limits))
        response = await pair.market.chat(client, **WISH)
        assert response.headers["x-raymart-attempts"] == "1"
        assert hedge_of(response) == "off"


class TestObstacles:
    async def test_no_retry_is_left(self, pair, judged):
        entrance = Entrance(
            shedder=LoadShedder(pair.market.directory), retries=RetryBudget(share=0.0, reserve_per_s=0.0)
        )
        client = await pair.market.serve(pair.market.make_inference(entrance=entrance))
        await self._first_serves(pair, judged, "no_budget", client)

    async def test_half_of_the_retries_are_for_requests_that_failed(self, pair):
        budget = RetryBudget(share=0.0, reserve_per_s=0.2)
        entrance = Entrance(shedder=LoadShedder(pair.market.directory), retries=budget)
        assert entrance.may_hedge()
        assert not entrance.may_hedge()
        assert entrance.may_retry()
        assert not entrance.may_retry()

    async def test_the_next_has_no_free_slot(self, pair, judged):
        known = pair.market.directory.endpoints[pair.ids[1]]
        pair.market.directory.endpoints[pair.ids[1]] = msgspec.structs.replace(known, capacity=1)
        pair.market.directory.running[pair.ids[1]] = 1
        await self._first_serves(pair, judged, "no_room")

    async def test_the_next_left_since_it_was_chosen(self, pair, judged):
        acquire = pair.market.directory.acquire
        pair.market.directory.acquire = lambda each: None if each == pair.ids[1] else acquire(each)
        await self._first_serves(pair, judged, "no_room")

    async def test_there_is_no_next(self, pair, judged):
        del pair.market.directory.endpoints[pair.ids[1]]
        await self._first_serves(pair, judged, "no_room")

    async def test_the_next_could_not_begin_before_the_deadline(self, pair, judged):
        known = pair.market.directory.endpoints[pair.ids[1]]
        slow = msgspec.structs.replace(known, first_token_ms=1e6, observations=9.0)
        pair.market.directory.endpoints[pair.ids[1]] = slow
        await self._first_serves(pair, judged, "no_time")

    async def _first_serves(self, pair, judged, told, client=None):
        pair.first.script = once(judged)
        response = await pair.market.chat(client, **WISH)
        assert response.headers["x-raymart-provider"] == "first"
        assert hedge_of(response) == told
        assert pair.second.exchanges == []
        assert await pair.market.attempts() == [SERVED]


class TestFailures:
    @pytest.mark.parametrize("fails", [dies, malformed])
    async def test_the_second_goes_on_alone(self, pair, fails):
        answered = asyncio.Event()
        pair.first.script = once(pair.second_asked, fails)
        pair.second_answers(once(answered))
        asking = asyncio.create_task(pair.market.chat(**WISH))
        async with asyncio.timeout(30):
            while not pair.first.exchanges or not await self._is_over(pair, 0):
                await asyncio.sleep(0.01)
        answered.set()
        response = await asking
        assert response.headers["x-raymart-provider"] == "second"
        assert hedge_of(response) == "won"
        await pair.closed()
        [failed, served] = await pair.market.attempts()
        assert (failed[0], failed[3], served) == ("failed", 0, SERVED)
        blamed = [pair.ids[0]] if fails is dies else []
        assert [each for each, _ in pair.market.directory.failures] == blamed

    async def test_the_first_goes_on_alone(self, pair):
        answered = asyncio.Event()
        pair.first.script = once(answered)
        pair.second_answers(dies)
        asking = asyncio.create_task(pair.market.chat(**WISH))
        async with asyncio.timeout(30):
            while not pair.second.exchanges or not await self._is_over(pair, 1):
                await asyncio.sleep(0.01)
        answered.set()
        response = await asking
        assert response.headers["x-raymart-provider"] == "first"
        assert hedge_of(response) == "lost"
        await pair.closed()
        [failed, served] = await pair.market.attempts()
        assert (failed[:2], served) == (("failed", "provider"), SERVED)
        assert [each for each, _ in pair.market.directory.failures] == [pair.ids[1]]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_when_both_fail_the_next_is_tried_once_and_alone(self, pair, stream):
        third = await pair.market.add_endpoint(
            provider="third", prices=Prices(token_prompt=3, token_completion=9)
        )
        fourth = await pair.market.add_endpoint(prices=Prices(token_prompt=4, token_completion=10))
        pair.first.script = once(pair.second_asked, dies)
        pair.second_answers(dies)
        limits = dataclasses.replace(pair.market.limits, attempts_max=4)
        client = await pair.market.serve(pair.market.make_inference(limits=limits))
        response = await pair.market.chat(client, stream=stream, **WISH)
        assert response.headers["x-raymart-provider"] == "third"
        assert response.headers["x-raymart-attempts"] == "3"
        await pair.closed()
        assert [each[0] for each in await pair.market.attempts()] == ["failed", "failed", "delivered"]
        assert (len(third.exchanges), len(fourth.exchanges)) == (1, 0)
        assert len(pair.market.directory.failures) == 2

    async def test_when_all_fail_nothing_is_charged(self, pair):
        pair.first.script = once(pair.second_asked, dies)
        pair.second_answers(dies)
        response = await pair.market.chat(**WISH)
        assert response.status_code == 502
        assert "2 endpoints" in response.json()["error"]["message"]
        await pair.closed()
        assert [each[0] for each in await pair.market.attempts()] == ["failed", "failed"]
        assert await pair.market.balance() == (FUNDS, 0)
        assert pair.market.inference.hedging.outcomes == {Hedge.ASKED: 1}

    async def test_the_deadline_ends_both(self, pair):
        pair.first.script = silent
        pair.second_answers(silent)
        limits = dataclasses.replace(pair.market.limits, request_deadline_s=1.0)
        client = await pair.market.serve(pair.market.make_inference(limits=limits))
        response = await pair.market.chat(client, **WISH)
        assert response.status_code == 504
        await gone(pair.first.exchanges[0])
        await gone(pair.second.exchanges[0])
        await pair.closed()
        assert await pair.market.attempts() == [("failed", "none", "deadline", 0)] * 2
        assert pair.market.directory.failures == []

    async def _is_over(self, pair, which):
        return pair.market.directory.running[pair.ids[which]] == 0


class TestLeaving:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_both_are_stopped_and_nothing_is_charged(self, pair, stream):
        pair.first.script = silent
        pair.second_answers(silent)
        asking = asyncio.create_task(pair.market.chat(stream=stream, **WISH))
        async with asyncio.timeout(30):
            await pair.second_asked.wait()
        asking.cancel()
        await gone(pair.first.exchanges[0])
        await gone(pair.second.exchanges[0])
        async with asyncio.timeout(30):
            while not await pair.market.attempts():
                await asyncio.sleep(0.01)
        await pair.closed()
        assert await pair.market.attempts() == [
            ("cancelled", "none", ABANDONED, 0),
            ("cancelled", "customer", "the client left", 0),
        ]
        assert await pair.market.usage() == []
        assert await pair.market.balance() == (FUNDS, 0)
        assert pair.market.directory.failures == []

    @pytest.mark.parametrize("second", [answer, silent, dies])
    async def test_whatever_is_awaited_nothing_is_left_behind(self, pair, second):
        pair.first.script = once(pair.second_asked, dies if second is silent else silent)
        pair.second_answers(second)
        request = parse_chat(msgspec.json.encode(pair.market.body(**WISH))).request
        for ticks in range(0, 60, 2):
            pair.second_asked.clear()
            asking = asyncio.create_task(
                pair.market.inference.run_whole(pair.market.caller, request, surface=Surface.REST)
            )
            for _ in range(ticks):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            await pair.market.inference.drain(timeout_s=30)
            assert set(pair.market.directory.running.values()) == {0}
        for exchange in pair.first.exchanges:
            await gone(exchange)
        await pair.closed()
        # Who served is paid for, and nothing else. (What is pending may be the next lease, which was asked for in advance.)
        posted, _ = await pair.market.balance()
        assert posted == FUNDS - sum(nano_usd for *_, nano_usd in await pair.market.usage())


class TestTheWait:
    QUICK = endpoint(1, first_token_ms=20.0, observations=9.0)
    USUAL = endpoint(1, first_token_ms=400.0, observations=9.0)

    def test_it_is_twice_the_usual(self):
        assert hedge_after_s(self.USUAL, tokens_prompt_max=0) == pytest.approx(TIMES * 0.4)

    def test_who_is_quick_is_given_the_least(self):
        assert hedge_after_s(self.QUICK, tokens_prompt_max=0) == LEAST_S

    def test_a_long_prompt_takes_longer(self):
        assert hedge_after_s(self.QUICK, tokens_prompt_max=4_000) == pytest.approx(3 * LEAST_S)

    @pytest.mark.parametrize("change", [{"first_token_ms": None}, {"observations": 2.9}])
    def test_who_is_hardly_known_is_given_a_guess(self, change):
        unknown = msgspec.structs.replace(self.USUAL, **change)
        assert hedge_after_s(unknown, tokens_prompt_max=0) == TIMES * USUAL_S
