"""Two tenants never share a salt, and nobody can follow one by it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from raymart_core import clock
from raymart_core.ids import new_id
from raymart_marketplace.gateway.cache_salts import CacheSalts

ORGANIZATION, NODE = new_id(), new_id()


def salt(secret: bytes = b"secret", organization_id: UUID = ORGANIZATION, node_id: UUID = NODE) -> str:
    return CacheSalts(secret).salt(organization_id=organization_id, node_id=node_id)


class TestSalt:
    @pytest.fixture(autouse=True)
    def _one_moment(self, monkeypatch: pytest.MonkeyPatch):
        self.now = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def test_a_tenant_has_one_a_node_and_day_in_every_process(self):
        assert salt() == salt()
        assert len(salt()) == 32
        assert ORGANIZATION.hex not in salt()

    def test_another_tenant_node_or_installation_has_another(self):
        salts = {salt(), salt(organization_id=new_id()), salt(node_id=new_id()), salt(b"other")}
        assert len(salts) == 4

    def test_tomorrow_it_is_another(self):
        today = salt()
        self.now += timedelta(minutes=2)
        assert salt() != today
