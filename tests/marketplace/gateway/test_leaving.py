"""Many clients leave at one moment: promise 10 in small, in one process."""

import asyncio

from chaos.promise_10_leaving import FLOWING, PAUSING, Client, Replica

CLIENTS = 24


class TestManyClientsLeave:
    async def test_engines_stop_and_each_is_billed_for_what_was_delivered(self, market):
        await market.books.fund(10**9)
        noted = Replica()
        replica = await market.add_endpoint()
        replica.script = noted.serve
        host, port = market.client.base_url.host, market.client.base_url.port
        crowd = []
        for number in range(CLIENTS):
            wanted = PAUSING + 1 + number if number % 2 else FLOWING
            _, client = await asyncio.get_running_loop().create_connection(
                lambda wanted=wanted: Client(wanted), host, port
            )
            client.ask(market.slug, f"Bearer {market.key}")
            crowd.append(client)
        async with asyncio.timeout(30):
            while not all(
                client.received == client.wanted - PAUSING if client.wanted > PAUSING else client.received
                for client in crowd
            ):
                await asyncio.sleep(0.01)
        assert not any(engine.idle_at for engine in noted.engines.values())
        for number, client in enumerate(crowd):
            client.leave(by_reset=number % 2 == 0)
        async with asyncio.timeout(30):
            while not all(engine.idle_at for engine in noted.engines.values()):
                await asyncio.sleep(0.01)
            while len(await market.usage()) < CLIENTS:
                await asyncio.sleep(0.01)
        await market.settle()
        assert (await market.balance())[1] == 0
        billed = dict(
            await market.books.fetch(
                "select id, tokens_completion from usage_record where organization_id = %s",
                market.books.organization_id,
            )
        )
        for client in crowd:
            tokens, engine = billed[client.request_id], noted.engines[client.request_id]
            assert client.received <= tokens <= engine.tokens
            if client.wanted > PAUSING:
                assert client.received == tokens == engine.tokens
