"""An organization's copy of what is its own: all of it, nothing of anybody else's, no secret."""

import json
import zipfile
from pathlib import Path

import psycopg
import pytest

from raymart_billing.privacy.columns import COLUMNS, ColumnClass
from raymart_billing.privacy.export import ROWS, export_organization
from raymart_core.errors import NotFound
from raymart_core.ids import new_id
from support.api_server import Api, Seller, Tenant


def rows_of(path: Path) -> dict[str, list[dict[str, object]]]:
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".jsonl"): [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
            if name.endswith(".jsonl")
        }


class TestExport:
    async def test_holds_what_is_its_own_and_nothing_of_anothers(
        self, api: Api, customer: Tenant, stranger: Tenant, seller: Seller, tmp_path: Path
    ) -> None:
        for tenant in (customer, stranger):
            await api.credit(tenant)
            await api.api_key(tenant)
            await api.use(tenant, seller, 3)
        path = tmp_path / "export.zip"
        counts = await export_organization(api.services.sessions, customer.organization_id, path)
        found = rows_of(path)
        assert {table: len(rows) for table, rows in found.items()} == dict(counts)
        assert set(found) == set(ROWS)
        assert (counts["organization"], counts["project"], counts["api_key"]) == (1, 1, 1)
        assert (counts["request"], counts["attempt"], counts["usage_record"]) == (3, 3, 3)
        assert counts["membership"] == counts["user"] == len(customer.people)
        assert counts["transfer"] >= 1
        assert {row["email"] for row in found["user"]} == {each.email for each in customer.people.values()}
        everything = json.dumps(found)
        strangers = [
            stranger.organization_id,
            stranger.project_id,
            *(p.user_id for p in stranger.people.values()),
        ]
        assert [each for each in strangers if str(each) in everything] == []
        assert path.stat().st_mode & 0o777 == 0o600

    async def test_holds_no_secret(self, api: Api, customer: Tenant, owner_url: str, tmp_path: Path) -> None:
        _, key = await api.api_key(customer)
        path = tmp_path / "export.zip"
        await export_organization(api.services.sessions, customer.organization_id, path)
        with zipfile.ZipFile(path) as archive:
            everything = "".join(archive.read(name).decode() for name in archive.namelist())
        assert key not in everything
        with psycopg.connect(owner_url) as connection:
            for table, names in COLUMNS.items():
                for name in (name for name, kind in names.items() if kind is ColumnClass.SECRET):
                    values = connection.execute(f'select distinct "{name}"::text from "{table}"').fetchall()
                    # Other tests have secrets of a letter or two, which are in every text.
                    secrets = [value.strip("\\x") for (value,) in values if value]
                    assert [secret for secret in secrets if len(secret) >= 8 and secret in everything] == []

    async def test_a_sellers_has_its_machines_and_offers(
        self, api: Api, seller: Seller, tmp_path: Path
    ) -> None:
        counts = await export_organization(
            api.services.sessions, seller.tenant.organization_id, tmp_path / "export.zip"
        )
        assert (counts["provider"], counts["node"], counts["offer"], counts["pool"]) == (1, 1, 1, 1)

    async def test_of_nobody_leaves_no_file(self, api: Api, customer: Tenant, tmp_path: Path) -> None:
        path = tmp_path / "export.zip"
        with pytest.raises(NotFound):
            await export_organization(api.services.sessions, new_id(), path)
        assert not path.exists()
        path.write_text("mine")
        with pytest.raises(FileExistsError):
            await export_organization(api.services.sessions, customer.organization_id, path)
        assert path.read_text() == "mine"


class TestWithoutADataFolder:
    async def test_an_export_is_refused_with_what_to_do(self, api: Api, customer: Tenant) -> None:
        assert api.services.settings.data_dir is None
        ask = "mutation ($id: ID!) { exportOrganization(input: {organizationId: $id}) { userErrors { message } } }"
        answer = await api(ask, customer.owner, id=customer.id)
        assert "ask its operator" in str(answer.response.json())
