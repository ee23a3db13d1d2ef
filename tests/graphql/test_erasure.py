"""The end of an organization: asked for, cancelled, refused, done; and that nothing tells afterwards who it was."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import select

from raymart_billing.audit.verify import verify as verify_audit
from raymart_billing.ledger.verify import verify as verify_ledger
from raymart_billing.privacy.erasing import erase
from raymart_billing.privacy.export import ROWS
from raymart_billing.privacy.tasks import TASKS, enqueue_due_erasures, erase_organization
from raymart_billing.work.context import Resources, TaskContext
from raymart_billing.work.process import open_resources
from raymart_billing.work.registry import by_name
from raymart_billing.work.worker import Worker
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import Organization, OrganizationKind, Role
from raymart_marketplace.catalog.aliases import aliases, publish_as_latest
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import Modality, Model, RevisionState
from raymart_marketplace.catalog.registry_models import Artifact
from raymart_marketplace.catalog.revisions import draft_revision
from raymart_marketplace.catalog.service import ensure_model, revisions
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Answer, Api, Person, Seller, Tenant
from support.background import a_context

KEYS = ModelKeys([b"key" * 20])
ERASE = """mutation ($id: ID!, $name: String!) { eraseOrganization(input: {organizationId: $id, confirmName: $name}) {
    erasure { dueAt erasedAt } userErrors { code field message } } }"""
CANCEL = "mutation ($id: ID!) { cancelErasure(input: {organizationId: $id}) { erasure { cancelledAt } userErrors { code } } }"
SHOW = "query ($id: ID!) { organization(id: $id) { name slug erasure { dueAt waitsFor erasedAt } } }"
LOGIN = "mutation ($email: String!, $password: String!) { login(input: {email: $email, password: $password}) { token userErrors { message } } }"


@pytest_asyncio.fixture(loop_scope="session")
async def resources(api: Api) -> AsyncIterator[Resources]:
    async with open_resources(api.services.settings) as resources:
        yield resources


async def shown(api: Api, tenant: Tenant, person: Person) -> dict[str, Any]:
    found: dict[str, Any] = (await api(SHOW, person, id=tenant.id)).data["organization"]
    return found


async def ask(api: Api, tenant: Tenant, person: Person | None = None) -> Answer:
    name = (await shown(api, tenant, tenant.owner))["name"]
    return await api(ERASE, person or tenant.owner, id=tenant.id, name=name)


def make_due(owner_url: str, tenant: Tenant) -> None:
    """A week goes by."""
    with psycopg.connect(owner_url) as connection:
        connection.execute(
            "update organization_erasure set due_at = clock_timestamp() - interval '1 s' where organization_id = %s",
            (tenant.organization_id,),
        )


async def work(resources: Resources) -> None:
    """Ask for what is due, and do it."""
    await enqueue_due_erasures(a_context(resources))
    worker = Worker(resources, by_name(TASKS, ()))
    try:
        await worker.drain()
    finally:
        await worker.close()


@dataclass(frozen=True, slots=True)
class Traces:
    """A tenant with a row of every kind that tells who it is."""

    tenant: Tenant
    needles: Sequence[str]
    """What must not be found anywhere afterwards."""
    key: str
    stays: Person
    """A member who is in another organization as well."""


async def leave_traces(api: Api, seller: Seller, owner_url: str) -> Traces:
    tenant, unique = await api.tenant(), new_id().hex[-12:]
    headers = {"user-agent": f"agent-{unique}"}

    async def do(document: str, **variables: Any) -> dict[str, Any]:
        answer = await api(document, tenant.owner, headers=headers, **variables)
        [done] = answer.data.values()
        assert not done.get("userErrors"), done
        result: dict[str, Any] = done
        return result

    await do(
        "mutation ($id: ID!, $name: String!) { updateOrganization(input: {organizationId: $id, name: $name}) { userErrors { message } } }",
        id=tenant.id,
        name=f"Lovelace {unique}",
    )
    await do(
        'mutation ($id: ID!, $u: String!) { setBillingProfile(input: {organizationId: $id, legalName: $u, address: $u, country: "DE",'
        ' taxId: $u, email: "bill@example.com"}) { userErrors { message } } }',
        id=tenant.id,
        u=f"profile-{unique}",
    )
    invite = "mutation ($id: ID!, $email: String!) { inviteMember(input: {organizationId: $id, email: $email, role: VIEWER}) { userErrors { message } } }"
    await do(invite, id=tenant.id, email=f"invited-{unique}@example.com")
    await do(
        "mutation ($id: ID!, $name: String!) { createServiceAccount(input: {organizationId: $id, name: $name, role: VIEWER}) { userErrors { message } } }",
        id=tenant.id,
        name=f"robot-{unique}",
    )
    made = await do(
        "mutation ($id: ID!, $name: String!) { createApiKey(input: {projectId: $id, name: $name}) { secret userErrors { message } } }",
        id=tenant.project,
        name=f"key-{unique}",
    )
    login = await api(LOGIN, headers=headers, email=tenant.owner.email, password=PASSWORD)
    assert login.data["login"]["token"], login.data
    await api.use(tenant, seller, 2)
    stays = tenant.people[Role.ADMIN]
    async with session_scope(api.services.sessions) as session:
        other = await accounts.create_organization(session, name="Other", kind=OrganizationKind.CUSTOMER)
        await accounts.add_member(session, organization_id=other.id, user_id=stays.user_id, role=Role.OWNER)
    with psycopg.connect(owner_url) as connection:
        given = {
            "o": tenant.organization_id,
            "u": tenant.owner.user_id,
            "t": f"trace-{unique}",
            "p": tenant.project_id,
        }
        for statement in (
            "insert into oidc_identity (id, user_id, issuer, subject, email) values (gen_random_uuid(), %(u)s, 'i', %(t)s, %(t)s)",
            "insert into totp_credential (user_id, secret_sealed) values (%(u)s, convert_to(%(t)s, 'UTF8'))",
            (
                "insert into wallet_proof (id, organization_id, user_id, address, message, signature) values (gen_random_uuid(),"
                " %(o)s, %(u)s, rpad(%(t)s, 40, 'x'), %(t)s, sha256('a') || sha256('b'))"
            ),
            (
                "insert into retained_exchange (request_id, organization_id, api_key_id, sealed, expires_at) select gen_random_uuid(),"
                " %(o)s, id, convert_to(%(t)s, 'UTF8'), now() + interval '1 day' from api_key where project_id = %(p)s limit 1"
            ),
            (
                "insert into support_access (id, organization_id, user_id, reason, expires_at)"
                " values (gen_random_uuid(), %(o)s, %(u)s, %(t)s, clock_timestamp() + interval '1 hour')"
            ),
        ):
            assert connection.execute(statement, given).rowcount == 1, statement
    name = await leave_a_private_model(api, tenant, unique)
    people = [person.email for person in tenant.people.values() if person is not stays]
    plain = [*people, f"Lovelace {unique}", f"profile-{unique}", f"invited-{unique}", f"robot-{unique}"]
    plain += [f"key-{unique}", made["secret"][:12], f"agent-{unique}", f"trace-{unique}"]
    plain += [name, f"model-{unique}", (await shown(api, tenant, tenant.owner))["slug"]]
    return Traces(tenant, plain, made["secret"], stays)


async def leave_a_private_model(api: Api, tenant: Tenant, unique: str) -> str:
    """The slug of a model of its own, which is published and has one sealed file."""
    async with session_scope(api.services.sessions) as session:
        organization = await session.get_one(Organization, tenant.organization_id)
        model = await ensure_model(
            session,
            slug=f"{organization.slug}/secret",
            name=f"model-{unique}",
            description=f"model-{unique}",
            modality=Modality.CHAT,
            licence="MIT",
            organization_id=organization.id,
        )
        sha256 = new_id().hex * 2
        key_id, wrapped = KEYS.wrap(KEYS.new_key(), sha256=sha256, organization_id=organization.id)
        sealed = Artifact(
            organization_id=organization.id, sha256=sha256, size_bytes=7, stored_sha256=new_id().hex * 2, stored_bytes=43,
            key_id=key_id, sealed_key=wrapped,
        )  # fmt: skip
        session.add(sealed)
        await session.flush()
        manifest = Manifest(
            engine="llama_cpp",
            files=(ManifestFile(path="m.gguf", bytes=7, sha256=sha256),),
            quantization="q8_0",
            context_length=512,
            capabilities=("chat",),
        )
        draft = await draft_revision(session, model=model, manifest=manifest, artifacts={"m.gguf": sealed.id})
        await publish_as_latest(session, revision_id=draft.id)
        assert KEYS.unwrap(sealed)
    return model.slug


def found_of(owner_url: str, needles: Sequence[str]) -> dict[str, set[str]]:
    """Which of `needles` are anywhere in the database, in the clear or as bytes; by needle the tables."""
    found: dict[str, set[str]] = {needle: set() for needle in needles}
    with psycopg.connect(owner_url) as connection:
        tables = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        ).fetchall()
        assert len(tables) > 70
        for (table,) in tables:
            # Invoices keep their buyer: docs/privacy.md.
            row = "to_jsonb(x) - 'buyer'" if table == "invoice" else "to_jsonb(x)"
            for needle in needles:
                hit = connection.execute(
                    f'select 1 from "{table}" x where strpos(({row})::text, %s) > 0 or strpos(({row})::text, %s) > 0 limit 1',
                    (needle, needle.encode().hex()),
                ).fetchone()
                if hit is not None:
                    found[needle].add(table)
    return found


def rows_of(owner_url: str, organization_id: UUID, tables: Sequence[str]) -> dict[str, list[str]]:
    with psycopg.connect(owner_url) as connection:
        return {
            table: sorted(
                json.dumps(row)
                for (row,) in connection.execute(
                    f'select to_jsonb(x) from "{table}" x where '
                    + ROWS[table].replace(":id", f"'{organization_id}'::uuid")
                ).fetchall()
            )
            for table in tables
        }


BOOKS = (
    "ledger_account",
    "transfer",
    "usage_record",
    "usage_day",
    "invoice",
    "credit_grant",
    "request",
    "attempt",
)


class TestErasure:
    async def test_afterwards_nothing_tells_who_it_was_and_the_books_stand(
        self, api: Api, resources: Resources, seller: Seller, stranger: Tenant, owner_url: str
    ) -> None:
        traces = await leave_traces(api, seller, owner_url)
        tenant, admin = traces.tenant, await api.admin()
        await api.api_key(stranger)
        assert [n for n, tables in found_of(owner_url, traces.needles).items() if not tables] == []
        assert not (await ask(api, tenant)).data["eraseOrganization"]["userErrors"]
        make_due(owner_url, tenant)
        others = rows_of(owner_url, stranger.organization_id, sorted(ROWS))
        books = rows_of(owner_url, tenant.organization_id, BOOKS)
        entries = rows_of(owner_url, tenant.organization_id, ["audit_entry"])["audit_entry"]
        async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
            before = (
                (await verify_ledger(connection, key=None, head=None)).findings,
                (await verify_audit(connection, key=None, head=None)).findings,
            )
            await work(resources)
            after = (
                (await verify_ledger(connection, key=None, head=None)).findings,
                (await verify_audit(connection, key=None, head=None)).findings,
            )
        assert after == before
        found = found_of(owner_url, traces.needles)
        assert {needle: tables for needle, tables in found.items() if tables} == {}
        assert rows_of(owner_url, stranger.organization_id, sorted(ROWS)) == others
        assert rows_of(owner_url, tenant.organization_id, BOOKS) == books
        kept = rows_of(owner_url, tenant.organization_id, ["audit_entry"])["audit_entry"]
        assert set(entries) <= set(kept)
        await self._private_models_are_noise(api, tenant)
        # Its people and its keys are gone from the running process too.
        for person in tenant.people.values():
            login = await api(LOGIN, email=person.email, password=PASSWORD)
            assert (login.data["login"]["token"] is not None) == (person is traces.stays), person
        infer = await api.client.get("/v1/models", headers={"authorization": f"Bearer {traces.key}"})
        assert infer.status_code == 401
        async with asyncio.timeout(30):  # The worker's news is on its way.
            while not (refused := await api("{ viewer { user { email } } }", tenant.owner)).errors:
                await asyncio.sleep(0.02)
        assert refused.code == "UNAUTHENTICATED"
        stays = await api("{ viewer { user { email } organizations { nodes { name } } } }", traces.stays)
        assert stays.data["viewer"]["user"]["email"] == traces.stays.email
        assert [each["name"] for each in stays.data["viewer"]["organizations"]["nodes"]] == ["Other"]
        # What is left is shown as what it is, and nothing begins in it.
        left = await shown(api, tenant, admin)
        assert left["erasure"]["erasedAt"] is not None
        assert left["name"] == left["slug"]
        assert left["name"].startswith("erased-")
        grant = await api(
            'mutation ($id: ID!) { grantCredit(input: {organizationId: $id, amount: "5", idempotencyKey: "k", reason: "r"})'
            " { userErrors { code message } } }",
            admin,
            id=tenant.id,
        )
        assert [error["code"] for error in grant.data["grantCredit"]["userErrors"]] == ["CONFLICT"]
        with psycopg.connect(owner_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "insert into membership (id, organization_id, user_id, role) values (gen_random_uuid(), %s, %s, 'owner')",
                (tenant.organization_id, admin.user_id),
            )

    async def _private_models_are_noise(self, api: Api, tenant: Tenant) -> None:
        """No key opens their files any more, and none is served or named."""
        async with session_scope(api.services.sessions) as session:
            [artifact] = await session.scalars(
                select(Artifact).where(Artifact.organization_id == tenant.organization_id)
            )
            assert artifact.sealed_key == b""
            with pytest.raises(Unavailable, match="cannot be unwrapped"):
                KEYS.unwrap(artifact)
            [model] = await session.scalars(
                select(Model).where(Model.organization_id == tenant.organization_id)
            )
            assert await aliases(session, model.id) == []
            assert [each.state for each in await revisions(session, model)] == [RevisionState.WITHDRAWN]

    async def test_a_second_run_changes_nothing(
        self, api: Api, resources: Resources, customer: Tenant, owner_url: str
    ) -> None:
        await ask(api, customer)
        make_due(owner_url, customer)
        await work(resources)
        once = rows_of(owner_url, customer.organization_id, sorted(ROWS))
        with psycopg.connect(owner_url) as connection:
            row = connection.execute(
                "select id from organization_erasure where organization_id = %s", (customer.organization_id,)
            ).fetchone()
            assert row is not None
            connection.execute(
                "update outbox set state = 'ready', finished_at = null, due_at = clock_timestamp() where subject = %s",
                (str(row[0]),),
            )
        await work(resources)
        assert rows_of(owner_url, customer.organization_id, sorted(ROWS)) == once
        with psycopg.connect(owner_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("update organization_erasure set erased_at = null where erased_at is not null")

    async def test_before_its_time_and_after_it_was_cancelled_nothing_happens(
        self, api: Api, resources: Resources, customer: Tenant, owner_url: str
    ) -> None:
        untouched = rows_of(
            owner_url, customer.organization_id, ["organization", "user", "membership", "project"]
        )
        await ask(api, customer)
        with psycopg.connect(owner_url) as connection:
            row = connection.execute(
                "select id, due_at - clock_timestamp() between '6 days 23:00' and '7 days' from organization_erasure"
                " where organization_id = %s",
                (customer.organization_id,),
            ).fetchone()
        assert row is not None
        assert row[1] is True
        await work(resources)
        context = TaskContext(resources, run_id=new_id(), fence=1, outbox_id=new_id(), attempt=1)
        # Whoever runs it early: the row's own time is asked, not the outbox's. (Then its row of work is not found.)
        with pytest.raises(Exception, match="no longer the row's"):
            await erase_organization(context, str(row[0]))
        assert (await shown(api, customer, customer.owner))["erasure"]["erasedAt"] is None
        again = await ask(api, customer)
        assert "already" in again.data["eraseOrganization"]["userErrors"][0]["message"]
        cancelled = await api(CANCEL, customer.owner, id=customer.id)
        assert cancelled.data["cancelErasure"]["erasure"]["cancelledAt"] is not None
        twice = await api(CANCEL, customer.owner, id=customer.id)
        assert [error["code"] for error in twice.data["cancelErasure"]["userErrors"]] == ["CONFLICT"]
        make_due(owner_url, customer)
        await work(resources)
        assert (await shown(api, customer, customer.owner))["erasure"] is None
        tables = ["organization", "user", "membership", "project"]
        assert rows_of(owner_url, customer.organization_id, tables) == untouched
        assert not (await ask(api, customer)).data["eraseOrganization"]["userErrors"]

    async def test_it_is_refused_with_what_to_do(self, api: Api, customer: Tenant, stranger: Tenant) -> None:
        wrong = await api(ERASE, customer.owner, id=customer.id, name="another")
        assert "name" in wrong.data["eraseOrganization"]["userErrors"][0]["message"]
        for person in (customer.people[Role.ADMIN], stranger.owner, await api.admin()):
            assert (await ask(api, customer, person)).code == "FORBIDDEN"
        await api.credit(customer)
        [error] = (await ask(api, customer)).data["eraseOrganization"]["userErrors"]
        assert (error["code"], "spend it" in error["message"]) == ("CONFLICT", True)
        platform = await api.tenant(OrganizationKind.PLATFORM)
        [error] = (await ask(api, platform)).data["eraseOrganization"]["userErrors"]
        assert "runs the marketplace itself" in error["message"]

    async def test_what_came_in_the_way_meanwhile_is_shown_and_waited_for(
        self, api: Api, resources: Resources, customer: Tenant, owner_url: str
    ) -> None:
        await ask(api, customer)
        await api.credit(customer)
        make_due(owner_url, customer)
        await work(resources)
        waiting = await shown(api, customer, customer.owner)
        assert waiting["erasure"]["erasedAt"] is None
        assert "spend it" in waiting["erasure"]["waitsFor"]
        # Nothing was begun: not even the block that keeps leases away meanwhile.
        block = await api(
            "query ($id: ID!) { organization(id: $id) { billingBlock { reason } } }",
            customer.owner,
            id=customer.id,
        )
        assert block.data["organization"]["billingBlock"] is None

    async def test_what_begins_at_the_same_moment_is_refused(
        self, api: Api, customer: Tenant, owner_url: str
    ) -> None:
        """Whoever inserts waits for the erasure's lock, and then finds the organization erased."""
        await ask(api, customer)
        make_due(owner_url, customer)
        connect = psycopg.AsyncConnection.connect
        async with await connect(owner_url, autocommit=True) as watching, await connect(owner_url) as other:
            row = await (
                await watching.execute(
                    "select id from organization_erasure where organization_id = %s",
                    (customer.organization_id,),
                )
            ).fetchone()
            assert row is not None
            async with session_scope(api.services.sessions) as session:
                assert await erase(session, row[0]) is not None
                beginning = asyncio.create_task(
                    other.execute(
                        "insert into project (id, organization_id, slug, name) values (gen_random_uuid(), %s, 'late', 'Late')",
                        (customer.organization_id,),
                    )
                )
                async with asyncio.timeout(30):
                    while not await is_waiting(watching, other.info.backend_pid):
                        await asyncio.sleep(0.01)
            with pytest.raises(psycopg.errors.CheckViolation, match="is erased"):
                await beginning


async def is_waiting(watching: psycopg.AsyncConnection, pid: int) -> bool:
    """Whether the process of the server waits for another's lock."""
    row = await (await watching.execute("select cardinality(pg_blocking_pids(%s)) > 0", (pid,))).fetchone()
    assert row is not None
    return bool(row[0])
