"""Demand in a real Redis, told by several gateways."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.planning import demand as module
from raymart_marketplace.supply.planning.demand import Demands


@pytest.fixture
async def demands(redis_server, monkeypatch) -> AsyncIterator[Demands]:
    unique = uuid4().hex
    monkeypatch.setattr(module, "WAITING_KEY", f"test:{unique}:waiting")
    monkeypatch.setattr(module, "ASKED_KEY", f"test:{unique}:asked")
    redis = make_redis(redis_server.url)
    yield Demands(redis)
    await redis.aclose()


class TestDemands:
    async def test_what_waits_is_added_up_over_gateways(self, demands: Demands):
        await demands.tell("one", waiting={"aa": 2}, queued={"sha256:x": 5})
        await demands.tell("two", waiting={"aa": 3, "bb": 1}, queued={})
        found = await demands.read()
        assert (found.waiting, found.queued) == ({"aa": 5, "bb": 1}, {"sha256:x": 5})

    async def test_a_gateway_replaces_its_own_only(self, demands: Demands):
        await demands.tell("one", waiting={"aa": 2}, queued={})
        await demands.tell("two", waiting={"aa": 3}, queued={})
        await demands.tell("one", waiting={"bb": 0}, queued={})
        assert (await demands.read()).waiting == {"aa": 3}

    async def test_a_gateway_that_is_gone_waits_for_nothing(self, demands: Demands, monkeypatch):
        monkeypatch.setattr(module, "WAITING_TTL_S", 0)
        await demands.tell("gone", waiting={"aa": 2}, queued={})
        found = await demands.read()
        assert not found.is_any

    async def test_requests_are_counted_by_model(self, demands: Demands):
        await demands.count({"a/b": 2})
        await demands.count({"a/b": 1, "c/d": 4})
        assert (await demands.read()).asked == {"a/b": 3, "c/d": 4}

    async def test_without_redis_nothing_waits_and_nothing_raises(self):
        redis = make_redis("redis://127.0.0.1:1/0")
        away = Demands(redis)
        assert not await away.tell("one", waiting={"aa": 1}, queued={})
        assert not await away.count({"a/b": 1})
        assert not (await away.read()).is_any
        await redis.aclose()


class TestBoard:
    async def test_what_waits_here_is_known_at_once_and_elsewhere_soon(self, demands: Demands):
        board, kicks, offer_id = DemandBoard(demands, gateway_id="here"), [], uuid4()
        stop = board.subscribe(lambda: kicks.append(1))
        board.start()
        with board.waiting(offer_id), board.waiting(offer_id):
            assert (await board.read()).waiting == {offer_id.hex: 2}
            assert kicks == [1, 1]
            while (await demands.read()).waiting != {offer_id.hex: 2}:
                pass
        while (await demands.read()).is_any:
            pass
        stop()
        await board.stop()

    async def test_what_was_asked_is_counted(self, demands: Demands):
        board = DemandBoard(demands, gateway_id="here")
        board.asked("a/b")
        board.asked("a/b")
        board.start()
        while (await demands.read()).asked != {"a/b": 2}:
            pass
        await board.stop()

    async def test_queues_of_nodes_are_added_up_until_they_are_gone(self, demands: Demands):
        board = DemandBoard(demands, gateway_id="here")
        one, two = uuid4(), uuid4()
        board.queued(one, {"sha256:x": 2})
        board.queued(two, {"sha256:x": 3})
        assert (await board.read()).queued == {"sha256:x": 5}
        board.queued(one, {})
        assert (await board.read()).queued == {"sha256:x": 3}
