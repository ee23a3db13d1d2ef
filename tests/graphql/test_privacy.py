"""Copies of what is an organization's own: who has them made, who downloads them, and that they end."""

import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import select

from raymart_billing.privacy.models import PrivacyExport
from raymart_billing.privacy.requests import EXPORT_TASK
from raymart_billing.privacy.tasks import TASKS, expire_exports
from raymart_billing.work.context import Resources
from raymart_billing.work.process import open_resources
from raymart_billing.work.registry import by_name
from raymart_billing.work.worker import Worker
from raymart_core.ids import new_id
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.settings import ControlSettings
from support.api_server import Api, Person, Tenant, api_server, control_settings
from support.background import a_context

ASK = """mutation ($id: ID!) { exportOrganization(input: {organizationId: $id}) {
    export { state path sizeBytes requestedBy { email } } userErrors { code field message } } }"""
LIST = """query ($id: ID!, $first: Int, $after: String) { organization(id: $id) {
    exports(first: $first, after: $after) { nodes { state path sizeBytes expiresAt } pageInfo { hasNextPage endCursor } } } }"""


@pytest.fixture(scope="module")
def settings(
    database_url: str, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> ControlSettings:
    folder: Path = tmp_path_factory.mktemp("data")
    return control_settings(database_url, redis_url=redis_server.url, data_dir=folder)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(settings: ControlSettings) -> AsyncIterator[Api]:
    """An API that shares a data folder with its workers."""
    async with api_server(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def resources(settings: ControlSettings) -> AsyncIterator[Resources]:
    async with open_resources(settings) as resources:
        yield resources


async def work(resources: Resources) -> None:
    """Do all exports that are asked for."""
    worker = Worker(resources, by_name(TASKS, ()))
    try:
        await worker.drain()
    finally:
        await worker.close()


async def ask(api: Api, tenant: Tenant, person: Person | None = None) -> dict[str, Any]:
    answer = await api(ASK, person or tenant.owner, id=tenant.id)
    asked: dict[str, Any] = answer.data["exportOrganization"]
    return asked


async def exports(api: Api, tenant: Tenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api(LIST, tenant.owner, id=tenant.id)).data["organization"][
        "exports"
    ]["nodes"]
    return found


async def get(api: Api, path: str, person: Person | str | None) -> httpx.Response:
    credential = person.token if isinstance(person, Person) else person
    headers = {} if credential is None else {"authorization": f"Bearer {credential}"}
    return await api.client.get(path, headers=headers)


def files(settings: ControlSettings) -> Mapping[str, int]:
    """Name and mode of each file."""
    assert settings.exports_dir is not None
    return {path.name: path.stat().st_mode & 0o777 for path in settings.exports_dir.iterdir()}


class TestExport:
    async def test_is_written_by_a_worker_and_downloaded_by_its_owners_and_admins_alone(
        self, api: Api, resources: Resources, settings: ControlSettings
    ) -> None:
        customer, stranger = await api.tenant(), await api.tenant()
        platform = await api.tenant(OrganizationKind.PLATFORM)
        _, key = await api.api_key(customer)
        asked = await ask(api, customer)
        assert asked["export"] == {
            "state": "REQUESTED",
            "path": None,
            "sizeBytes": None,
            "requestedBy": {"email": customer.owner.email},
        }
        [again] = (await ask(api, customer, customer.people[Role.ADMIN]))["userErrors"]
        assert (again["code"], "is being written" in again["message"]) == ("CONFLICT", True)
        await work(resources)
        [ready] = await exports(api, customer)
        assert ready["state"] == "READY"
        for person in (customer.owner, customer.people[Role.ADMIN]):
            answer = await get(api, ready["path"], person)
            assert answer.headers["cache-control"] == "private, no-store"
            assert len(answer.content) == ready["sizeBytes"]
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                people = archive.read("user.jsonl").decode()
            assert customer.owner.email in people
            assert stranger.owner.email not in people
        name = ready["path"].rpartition("/")[2]
        assert files(settings)[name] == 0o600
        for who, status in (
            (None, 401),
            (key, 403),
            (stranger.owner, 404),
            (platform.owner, 404),
            *(
                (person, 404)
                for role, person in customer.people.items()
                if role not in {Role.OWNER, Role.ADMIN}
            ),
        ):
            assert (await get(api, ready["path"], who)).status_code == status, who
        assert (await get(api, f"/privacy/exports/{new_id().hex}.zip", customer.owner)).status_code == 404
        assert (await get(api, "/privacy/exports/..%2f..%2fetc.zip", customer.owner)).status_code == 404

    async def test_a_newer_one_takes_the_place_of_the_one_before(
        self, api: Api, resources: Resources, settings: ControlSettings
    ) -> None:
        customer = await api.tenant()
        paths = []
        for _ in range(2):
            assert not (await ask(api, customer))["userErrors"]
            await work(resources)
            paths.append((await exports(api, customer))[0]["path"])
        assert [each["state"] for each in await exports(api, customer)] == ["READY", "EXPIRED"]
        await expire_exports(a_context(resources))
        assert [(await get(api, path, customer.owner)).status_code for path in paths] == [404, 200]
        names = [path.rpartition("/")[2] for path in paths]
        assert (names[0] in files(settings), names[1] in files(settings)) == (False, True)
        page = await api(LIST, customer.owner, id=customer.id, first=1)
        after = page.data["organization"]["exports"]["pageInfo"]["endCursor"]
        rest = await api(LIST, customer.owner, id=customer.id, first=1, after=after)
        assert [each["state"] for each in rest.data["organization"]["exports"]["nodes"]] == ["EXPIRED"]

    async def test_it_ends_after_a_week(
        self, api: Api, resources: Resources, settings: ControlSettings, owner_url: str
    ) -> None:
        customer = await api.tenant()
        await ask(api, customer)
        await work(resources)
        [ready] = await exports(api, customer)
        name = ready["path"].rpartition("/")[2]
        with psycopg.connect(owner_url) as connection:
            kept = connection.execute(
                "select expires_at - clock_timestamp() between '6 days 23:00' and '7 days' from privacy_export where id = %s",
                (name.partition(".")[0],),
            ).fetchone()
            assert kept == (True,)
            connection.execute(
                "update privacy_export set expires_at = clock_timestamp() - interval '1 s' where id = %s",
                (name.partition(".")[0],),
            )
        # Nobody waits for the periodic: it is over from its moment on.
        assert (await get(api, ready["path"], customer.owner)).status_code == 404
        await expire_exports(a_context(resources))
        assert [each["state"] for each in await exports(api, customer)] == ["EXPIRED"]
        assert name not in files(settings)

    async def test_what_nobody_writes_any_more_has_failed_and_another_may_be_asked_for(
        self, api: Api, resources: Resources, settings: ControlSettings, owner_url: str
    ) -> None:
        customer = await api.tenant()
        await ask(api, customer)
        async with session_scope(api.services.sessions) as session:
            row = (
                await session.scalars(
                    select(PrivacyExport).where(PrivacyExport.organization_id == customer.organization_id)
                )
            ).one()
        await expire_exports(a_context(resources))
        assert [each["state"] for each in await exports(api, customer)] == ["REQUESTED"]
        assert settings.exports_dir is not None
        settings.exports_dir.mkdir(exist_ok=True)
        (settings.exports_dir / f"{row.id.hex}.1.part").write_text("half of it")
        with psycopg.connect(owner_url) as connection:
            connection.execute(
                "update outbox set state = 'dead', finished_at = clock_timestamp() where task = %s and key = %s",
                (EXPORT_TASK, str(row.id)),
            )
        await expire_exports(a_context(resources))
        assert [each["state"] for each in await exports(api, customer)] == ["FAILED"]
        assert not [name for name in files(settings) if name.startswith(row.id.hex)]
        assert not (await ask(api, customer))["userErrors"]
        await work(resources)
        assert [each["state"] for each in await exports(api, customer)] == ["READY", "FAILED"]

    async def test_a_repeat_after_a_crash_writes_it_anew(
        self, api: Api, resources: Resources, settings: ControlSettings
    ) -> None:
        customer = await api.tenant()
        await ask(api, customer)
        async with session_scope(api.services.sessions) as session:
            row = (
                await session.scalars(
                    select(PrivacyExport).where(PrivacyExport.organization_id == customer.organization_id)
                )
            ).one()
        assert settings.exports_dir is not None
        settings.exports_dir.mkdir(exist_ok=True)
        (settings.exports_dir / f"{row.id.hex}.1.part").write_text("half of it")
        (settings.exports_dir / f"{row.id.hex}.zip").write_text("of a run that was not done")
        await work(resources)
        [ready] = await exports(api, customer)
        answer = await get(api, ready["path"], customer.owner)
        assert zipfile.is_zipfile(io.BytesIO(answer.content))
        assert [name for name in files(settings) if name.startswith(row.id.hex)] == [f"{row.id.hex}.zip"]

    async def test_a_file_that_is_not_here_is_said_so(
        self, api: Api, resources: Resources, settings: ControlSettings
    ) -> None:
        customer = await api.tenant()
        await ask(api, customer)
        await work(resources)
        [ready] = await exports(api, customer)
        assert settings.exports_dir is not None
        (settings.exports_dir / ready["path"].rpartition("/")[2]).unlink()
        answer = await get(api, ready["path"], customer.owner)
        assert (answer.status_code, "RAYMART_DATA_DIR" in answer.text) == (503, True)
