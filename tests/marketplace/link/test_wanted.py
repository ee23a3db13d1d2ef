"""What nodes should hold is asked for all of them together."""

import asyncio
import dataclasses

import pytest

from raymart_core.ids import new_id
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.objects import open_objects
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.link.wanted import WantedRounds
from raymart_marketplace.supply.weights import WeightsDesk
from support.link_market import until
from support.object_settings import object_settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchedDesk(WeightsDesk):
    """A real desk whose questions are noted; the first `failures` of them find no database."""

    asked: list[set] = dataclasses.field(default_factory=list)
    failures: int = 0

    async def wanted(self, node_ids):
        self.asked.append(set(node_ids))
        if len(self.asked) <= self.failures:
            raise OSError("the database is away")
        return await WeightsDesk.wanted(self, node_ids)  # a slotted dataclass knows no super()


@pytest.fixture
async def directory(sessions):
    return Directory(sessions, refresh_s=60)


@pytest.fixture
def make_desk(sessions, tmp_path):
    def make(**changes):
        objects = open_objects(object_settings(data_dir=tmp_path, public_url="http://localhost"))
        return WatchedDesk(sessions=sessions, objects=objects, keys=ModelKeys([]), **changes)

    return make


class TestRounds:
    async def test_all_nodes_are_one_question(self, make_desk, directory):
        desk, told = make_desk(), []
        rounds = WantedRounds(desk, directory, timeout_s=5)
        nodes = [new_id() for _ in range(5)]
        for node_id in nodes:
            rounds.watch(node_id, told.append)
        await until(lambda: len(told) == 5)
        assert desk.asked == [set(nodes)]
        await directory.refresh()
        await until(lambda: len(told) == 10)
        assert desk.asked == [set(nodes), set(nodes)]

    async def test_a_burst_of_changes_is_two_looks_at_most(self, make_desk, directory):
        desk, told = make_desk(), []
        rounds = WantedRounds(desk, directory, timeout_s=5)
        rounds.watch(new_id(), told.append)
        await until(lambda: told)
        for _ in range(20):
            await directory.refresh()
        await asyncio.sleep(0.5)
        assert 2 <= len(desk.asked) <= 3

    async def test_the_link_that_a_newer_one_replaced_forgets_only_itself(self, make_desk, directory):
        older, newer, node_id = [], [], new_id()
        rounds = WantedRounds(make_desk(), directory, timeout_s=5)
        rounds.watch(node_id, older.append)
        rounds.watch(node_id, newer.append)
        rounds.forget(node_id, older.append)
        await until(lambda: newer)
        assert older == []

    async def test_nobody_is_told_anything_while_the_database_is_away(self, make_desk, directory):
        desk, told = make_desk(failures=1), []
        rounds = WantedRounds(desk, directory, timeout_s=5)
        rounds.watch(new_id(), told.append)
        await until(lambda: desk.asked)
        assert told == []
        await directory.refresh()
        await until(lambda: told == [()])

    async def test_rounds_end_with_the_last_node_and_begin_with_the_next(self, make_desk, directory):
        desk, told, node_id = make_desk(), [], new_id()
        rounds = WantedRounds(desk, directory, timeout_s=5)
        rounds.watch(node_id, told.append)
        await until(lambda: told)
        rounds.forget(node_id, told.append)
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "link.wanted"])
        rounds.watch(node_id, told.append)
        await until(lambda: len(told) == 2)
