"""The sweeper gives back what is due, and nothing else."""

from raymart_billing.holds import sweep_holds
from raymart_core.ids import new_id


async def sweep(pool, limit=1_000):
    async with pool.connection() as connection:
        return await sweep_holds(connection, limit=limit)


class TestSweepHolds:
    async def test_only_holds_past_their_time_are_voided(self, pool, books):
        await books.fund(1_000)
        due, running = new_id(), new_id()
        await books.hold(due, 100, "1 microsecond")
        await books.hold(running, 200, "1 minute")

        assert await sweep(pool) >= 1
        assert await books.columns("customer_balance") == (0, 1_000, 200, 0)
        assert (await books.states_of(due))[1:] == [("hold_expired", "voided", 100)]
        assert (await books.states_of(running))[1:] == []

    async def test_a_second_sweep_finds_nothing(self, pool, books):
        await books.fund(1_000)
        await books.hold(new_id(), 100, "1 microsecond")
        await sweep(pool)
        assert await sweep(pool) == 0

    async def test_a_sweep_takes_no_more_than_its_limit_and_the_oldest_first(self, pool, books):
        await books.fund(1_000)
        await sweep(pool)
        requests = [new_id() for _ in range(5)]
        for request_id in requests:
            await books.hold(request_id, 10, "1 microsecond")

        assert await sweep(pool, limit=2) == 2
        assert [len(await books.states_of(request_id)) for request_id in requests] == [2, 2, 1, 1, 1]
        assert await sweep(pool) == 3

    async def test_its_cost_does_not_grow_with_history(self, pool, books):
        """It reads the open holds, not all that ever were."""
        await books.fund(10_000)
        for _ in range(20):
            await books.hold(new_id(), 10, "1 microsecond")
        await sweep(pool)
        assert (
            await books.value(
                "select count(*) from open_hold o join transfer t on t.id = o.transfer_id where t.debit_account_id = %s",
                await books.account_id("customer_balance"),
            )
            == 0
        )
