"""What a caller may ask in an hour."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from raymart_core.ids import new_id
from raymart_graphql.points import WINDOW_S, PointsMeter, Subject
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.shared_state import make_redis
from support.api_server import Api, api_server, control_settings
from support.event_stream import followed

RATE_LIMIT = "rateLimit { limit cost remaining used resetAt nodeCount }"
PAGE = f"{{ models(first: 100) {{ nodes {{ revisions(first: 2) {{ nodes {{ id }} }} }} }} {RATE_LIMIT} }}"


@pytest_asyncio.fixture(loop_scope="session")
async def meter(api: Api, redis_server: EmbeddedRedis) -> AsyncIterator[PointsMeter]:
    redis = make_redis(redis_server.url)
    yield PointsMeter(redis, api.services.authenticator, points_per_hour=100, points_per_hour_address=10)
    await redis.aclose()


def fresh(limit: int) -> Subject:
    return Subject(key=f"test:{new_id()}", limit=limit)


class TestTake:
    async def test_points_are_taken_until_none_is_left(self, meter: PointsMeter) -> None:
        subject = fresh(10)
        first = await meter.take(subject, cost=7)
        assert (first.taken, first.used, first.remaining) == (True, 7, 3)
        refused = await meter.take(subject, cost=4)
        assert (refused.taken, refused.used, refused.remaining) == (False, 7, 3)
        last = await meter.take(subject, cost=3)
        assert (last.taken, last.used, last.remaining) == (True, 10, 0)
        assert timedelta(0) < last.reset_at - datetime.now(UTC) <= timedelta(seconds=WINDOW_S)
        assert last.reset_at - first.reset_at < timedelta(seconds=5)

    async def test_processes_that_ask_at_once_take_each_point_once(
        self, api: Api, redis_server: EmbeddedRedis
    ) -> None:
        clients = [make_redis(redis_server.url) for _ in range(2)]
        meters = [
            PointsMeter(client, api.services.authenticator, points_per_hour=1, points_per_hour_address=1)
            for client in clients
        ]
        subject = fresh(25)
        taken = await asyncio.gather(*(meters[n % 2].take(subject, cost=1) for n in range(60)))
        assert sum(allowance.taken for allowance in taken) == 25
        assert sorted(allowance.used for allowance in taken if allowance.taken) == list(range(1, 26))
        for client in clients:
            await client.aclose()

    async def test_redis_that_goes_leaves_each_process_to_count_for_itself(
        self, api: Api, tmp_path: Path
    ) -> None:
        now = 1_000.0
        with EmbeddedRedis(tmp_path) as server:
            redis = make_redis(server.url)
            meter = PointsMeter(
                redis,
                api.services.authenticator,
                points_per_hour=1,
                points_per_hour_address=1,
                monotonic=lambda: now,
            )
            subject = fresh(5)
            assert (await meter.take(subject, cost=4)).used == 4
        here = await meter.take(subject, cost=3)
        assert (here.taken, here.used) == (True, 3)
        assert not (await meter.take(subject, cost=3)).taken
        # After its hour all points are there again.
        now += WINDOW_S
        assert (await meter.take(subject, cost=5)).taken
        await redis.aclose()


class TestSubject:
    async def test_people_keys_and_addresses_are_counted_apart(self, api: Api, meter: PointsMeter) -> None:
        tenant = await api.tenant()
        key_id, key = await api.api_key(tenant)
        person = await meter.subject(f"Bearer {tenant.owner.token}".encode(), "192.0.2.1")
        machine = await meter.subject(f"Bearer {key}".encode(), "192.0.2.1")
        assert (person.key, person.limit) == (f"user:{tenant.owner.user_id}", 100)
        assert (machine.key, machine.limit) == (f"key:{key_id}", 100)
        for wrong in (None, b"", b"Bearer wrong", b"Bearer rm_live_wrong", b"Basic \xff"):
            nobody = await meter.subject(wrong, "192.0.2.1")
            assert (nobody.key, nobody.limit) == ("address:192.0.2.1", 10)

    async def test_a_network_is_one_address(self, meter: PointsMeter) -> None:
        keys = {(await meter.subject(None, f"2001:db8:1:2::{n}")).key for n in range(3)}
        assert keys == {"address:2001:db8:1:2::/64"}
        assert (await meter.subject(None, "::ffff:192.0.2.1")).key == "address:192.0.2.1"


class TestAnswers:
    async def test_field_and_headers_say_what_it_cost(self, api: Api) -> None:
        tenant = await api.tenant()
        answer = await api(PAGE, tenant.owner)
        found = answer.data["rateLimit"]
        assert found["nodeCount"] == 100 * (1 + 2)
        assert found["cost"] == 3
        assert found["used"] == 3
        assert found["remaining"] == found["limit"] - 3
        headers = {
            name: answer.response.headers[f"x-ratelimit-{name}"]
            for name in ("limit", "remaining", "used", "cost")
        }
        assert headers == {name: str(found[name]) for name in headers}
        reset = int(answer.response.headers["x-ratelimit-reset"])
        assert abs(reset - datetime.fromisoformat(found["resetAt"]).timestamp()) <= 1
        assert (await api("{ __typename }", tenant.owner)).response.headers["x-ratelimit-used"] == "4"

    async def test_writing_weighs_more(self, api: Api) -> None:
        tenant = await api.tenant()
        mutation = 'mutation { revokeApiKey(input: {apiKeyId: "key_x"}) { userErrors { code } } }'
        assert (await api(mutation, tenant.owner)).response.headers["x-ratelimit-cost"] == "5"
        login = 'mutation { login(input: {email: "a@example.com", password: "x"}) { userErrors { code } } }'
        assert (await api(login, tenant.owner)).response.headers["x-ratelimit-cost"] == "10"

    @pytest.mark.parametrize("body", [b"5", b'{"query":"{"}', b'{"query":"{ nothing }"}', b"{}"])
    async def test_what_does_not_run_takes_a_point(self, api: Api, body: bytes) -> None:
        tenant = await api.tenant()
        headers = {"content-type": "application/json", "authorization": f"Bearer {tenant.owner.token}"}
        for used in ("1", "2"):
            response = await api.client.post("/graphql", content=body, headers=headers)
            assert response.headers["x-ratelimit-used"] == used

    async def test_streams_say_it_too(self, api: Api) -> None:
        tenant = await api.tenant()
        async with followed(api, "subscription { nothing }", tenant.owner) as events:
            assert events.response.headers["x-ratelimit-used"] == "5"


class TestRefusal:
    async def test_without_points_an_operation_is_refused_before_it_runs(
        self, database_url: str, redis_server: EmbeddedRedis
    ) -> None:
        settings = control_settings(database_url, redis_url=redis_server.url, graphql_points_per_hour=7)
        async with api_server(settings) as api:
            tenant = await api.tenant()
            assert (await api(PAGE, tenant.owner)).data["rateLimit"]["remaining"] == 4
            for accept in ("application/json", "application/graphql-response+json"):
                refused = await api(
                    'mutation { revokeApiKey(input: {apiKeyId: "key_x"}) { userErrors { code } } }',
                    tenant.owner,
                    headers={"accept": accept},
                )
                assert refused.response.status_code == 429
                assert refused.code == "RATE_LIMITED"
                assert "data" not in refused.body
                assert 0 < int(refused.response.headers["retry-after"]) <= WINDOW_S
                assert refused.response.headers["x-ratelimit-cost"] == "0"
                assert refused.errors[0]["extensions"]["retryAfter"] <= WINDOW_S
            # What is small enough still runs, and others are not touched.
            assert (await api(PAGE, tenant.owner)).data["rateLimit"]["remaining"] == 1
            async with followed(api, PAGE, tenant.owner) as events:
                assert "retry-after" in events.response.headers
                [result] = await events.results()
            assert result["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
            stranger = await api.tenant()
            assert (await api(PAGE, stranger.owner)).data
