"""What is forgotten, and when."""

import pytest

from raymart_billing.work.process import open_resources
from raymart_billing.work.prune import prune
from raymart_core.ids import new_id
from support.background import a_context, control_settings

OUTBOX = """
    insert into outbox (id, task, subject, state, finished_at)
    values (%s, 'test.prune', 'a', %s, clock_timestamp() - make_interval(days => %s))
"""
RUN = """
    insert into task_run (id, name, subject, attempt, fence, worker, state, finished_at)
    values (%s, 'test.prune', '', 1, 1, 1, %s, clock_timestamp() - make_interval(days => %s))
"""


@pytest.fixture
async def pruned(database_url):
    async with open_resources(control_settings(database_url)) as resources:
        yield lambda: prune(a_context(resources))


class TestPrune:
    @pytest.mark.parametrize(
        ("state", "days", "is_kept"),
        [("done", 29, True), ("done", 31, False), ("cancelled", 31, False), ("dead", 400, True)],
    )
    async def test_ended_rows_go_after_30_days_but_dead_ones_wait(self, books, pruned, state, days, is_kept):
        outbox_id = new_id()
        await books.fetch(OUTBOX, outbox_id, state, days)
        await pruned()
        assert await books.value("select exists (select from outbox where id = %s)", outbox_id) is is_kept

    @pytest.mark.parametrize(
        ("state", "days", "is_kept"),
        [("done", 0, True), ("done", 2, False), ("failed", 2, True), ("lost", 31, False)],
    )
    async def test_runs_of_periodics_go_after_a_day_unless_they_failed(
        self, books, pruned, state, days, is_kept
    ):
        run_id = new_id()
        await books.fetch(RUN, run_id, state, days)
        await pruned()
        assert await books.value("select exists (select from task_run where id = %s)", run_id) is is_kept

    async def test_messages_go_after_90_days(self, books, pruned):
        for days in (89, 91):
            await books.fetch(
                "insert into inbox values (%s, 'm', clock_timestamp() - make_interval(days => %s))",
                f"{books.organization_id}:{days}",
                days,
            )
        await pruned()
        kept = await books.fetch("select source from inbox where source like %s", f"{books.organization_id}%")
        assert kept == [(f"{books.organization_id}:89",)]
