"""The second wall: a resolver that forgets its condition still sees and writes one tenant's rows only."""

from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import ProgrammingError

from raymart_core.ids import new_id
from raymart_graphql.context import Client, Operation
from raymart_graphql.loaders import Loaders
from raymart_graphql.reading import Reading
from raymart_marketplace.accounts.models import OrganizationKind, Project
from raymart_marketplace.metering.models import UsageRecord
from support.api_server import Api, Person, Seller, Tenant

EVERYTHING = select(UsageRecord.organization_id).distinct()


def operation_of(api: Api, person: Person | None) -> Operation:
    client = Client(
        services=api.services,
        authorization=f"Bearer {person.token}".encode() if person else None,
        request_id="req_test",
        address="127.0.0.1",
    )
    reading = Reading(api.services.sessions)
    return Operation(client=client, reading=reading, loaders=Loaders(reading))


async def seen(operation: Operation) -> set[UUID]:
    """Whose usage a statement without any condition finds."""
    try:
        async with operation.reading.session() as session:
            return set(await session.scalars(EVERYTHING))
    finally:
        await operation.reading.aclose()


class TestReading:
    async def test_a_statement_without_a_condition_finds_the_viewers_rows(
        self, api: Api, customer: Tenant, stranger: Tenant, seller: Seller
    ) -> None:
        for tenant in (customer, stranger):
            await api.use(tenant, seller, 1)
        for who, expected in ((customer.owner, {customer.organization_id}), (None, set())):
            operation = operation_of(api, who)
            await operation.recognise()
            assert await seen(operation) == expected
        # A provider sees what it sold, to whomever.
        operation = operation_of(api, seller.tenant.owner)
        await operation.recognise()
        assert await seen(operation) == {customer.organization_id, stranger.organization_id}

    async def test_nothing_is_seen_before_it_is_known_who_asks(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        await api.use(customer, seller, 1)
        assert await seen(operation_of(api, customer.owner)) == set()

    async def test_the_platforms_administrators_see_all_and_its_support_none(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        await api.use(customer, seller, 1)
        platform = await api.tenant(OrganizationKind.PLATFORM)
        for role, person in platform.people.items():
            operation = operation_of(api, person)
            await operation.recognise()
            assert (customer.organization_id in await seen(operation)) == (role.value != "support"), role

    async def test_connections_go_back_as_they_came(self, api: Api, customer: Tenant) -> None:
        operation = operation_of(api, customer.owner)
        await operation.recognise()
        await seen(operation)
        async with api.services.sessions() as session:
            found = await session.execute(
                text(
                    "select current_setting('role'), coalesce(current_setting('app.organizations', true), '')"
                )
            )
            assert found.one() == ("none", "")


class TestWriting:
    async def test_another_tenants_rows_are_out_of_reach_of_the_mutation(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        operation = operation_of(api, customer.owner)
        operation.acting_for = customer.organization_id
        async with operation.writing() as session:
            changed = await session.execute(
                update(Project).values(name="Taken").where(Project.id == stranger.project_id)
            )
            assert changed.rowcount == 0
            changed = await session.execute(
                update(Project).values(name="Mine").where(Project.id == customer.project_id)
            )
            assert changed.rowcount == 1

    async def test_nothing_is_written_into_another_tenant(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        operation = operation_of(api, customer.owner)
        operation.acting_for = customer.organization_id
        with pytest.raises(ProgrammingError, match="row-level security"):
            async with operation.writing() as session:
                session.add(
                    Project(organization_id=stranger.organization_id, slug=new_id().hex, name="Planted")
                )

    async def test_one_rule_acts_for_one_organization_not_for_all_of_the_persons(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        operation = operation_of(api, customer.owner)
        operation.acting_for = stranger.organization_id
        async with operation.writing() as session:
            assert set(await session.scalars(select(Project.organization_id))) == {stranger.organization_id}
