"""What the platform's staff see of its health."""

import pytest

from raymart_local.redis import EmbeddedRedis
from support.api_server import Api, api_server, control_settings


async def get(api: Api, path: str, token: str | None):
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return await api.client.get(f"/admin/v1{path}", headers=headers)


class TestOnlyStaff:
    @pytest.mark.parametrize("path", ["/health", "/signs", "/endpoints"])
    async def test_everybody_else_is_refused(self, api, customer, path):
        _, key = await api.api_key(customer)
        assert (await get(api, path, None)).status_code == 401
        assert (await get(api, path, "nonsense")).status_code == 401
        for token in (customer.owner.token, key):
            refused = await get(api, path, token)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await get(api, path, (await api.admin()).token)).status_code == 200


class TestHealth:
    async def test_each_part_is_asked(self, api, replica):
        found = (await get(api, "/health", (await api.admin()).token)).json()
        parts = {part["name"]: part for part in found["parts"]}
        assert set(parts) == {"database", "migrations", "redis", "broker", "money", "supply"}
        assert {name: parts[name]["state"] for name in ("database", "migrations", "redis", "supply")} == {
            "database": "ok",
            "migrations": "ok",
            "redis": "ok",
            "supply": "ok",
        }

    async def test_part_that_is_away_is_named_and_the_worst_counts(self, database_url, tmp_path):
        with EmbeddedRedis(tmp_path / "redis") as redis:
            settings = control_settings(database_url, redis_url=redis.url, broker_url=redis.url)
            async with api_server(settings) as api:
                admin = await api.admin()
                before = (await get(api, "/health", admin.token)).json()
                redis.stop()
                after = (await get(api, "/health", admin.token)).json()
        states = [
            {part["name"]: part["state"] for part in found["parts"] if part["name"] in {"redis", "broker"}}
            for found in (before, after)
        ]
        assert states == [{"redis": "ok", "broker": "ok"}, {"redis": "away", "broker": "away"}]
        assert (before["state"], after["state"]) == ("alarm", "away")  # Nobody serves here: supply alarms.


class TestSigns:
    async def test_each_has_the_value_that_alarms(self, api):
        signs = (await get(api, "/signs", (await api.admin()).token)).json()
        by_name = {sign["name"]: sign for sign in signs}
        assert by_name["raymart_work_overdue_seconds"]["alarm_above"] == 60
        assert all(not sign["alarms"] for sign in signs if sign["value"] <= sign["alarm_above"])


class TestEndpoints:
    async def test_what_is_live_is_listed(self, api, seller, replica):
        listed = (await get(api, "/endpoints", (await api.admin()).token)).json()
        assert seller.model_slug in {endpoint["model"] for endpoint in listed}
