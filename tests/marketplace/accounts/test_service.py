"""Rules of identity, on a real database."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts import service
from raymart_marketplace.accounts.api_keys import hash_key
from raymart_marketplace.accounts.models import ApiKey, OrganizationKind, Role, User
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import PASSWORD, make_customer, unique


class TestSignUp:
    async def test_user_owns_an_organization_with_a_project(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
        async with session_scope(sessions) as session:
            [(organization, role)] = await service.memberships(session, customer.user.id)
            assert (organization.kind, role) == (OrganizationKind.CUSTOMER, Role.OWNER)
            assert [each.slug for each in await service.projects(session, organization.id)] == ["default"]

    async def test_second_account_with_the_address_is_refused_however_it_is_typed(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
        with pytest.raises(Conflict, match="log in instead"):
            async with session_scope(sessions) as session:
                await service.create_user(
                    session, email=f" {customer.email.upper()} ", password=PASSWORD, name="Another"
                )

    async def test_of_twenty_at_once_one_gets_the_address(self, sessions: Sessions):
        email = f"{unique('race')}@example.com"

        async def attempt() -> bool:
            try:
                async with session_scope(sessions) as session:
                    await service.sign_up(
                        session,
                        email=email,
                        password=PASSWORD,
                        name="A person",
                        organization_name="An organization",
                        kind=OrganizationKind.CUSTOMER,
                    )
            except Conflict:
                return False
            return True

        assert sorted(await asyncio.gather(*(attempt() for _ in range(20)))) == [False] * 19 + [True]
        async with session_scope(sessions) as session:
            assert await session.scalar(select(func.count()).where(User.email == email)) == 1

    async def test_refused_sign_up_leaves_nothing(self, sessions: Sessions):
        email = f"{unique('person')}@example.com"
        with pytest.raises(InvalidRequest, match="organization_name"):
            async with session_scope(sessions) as session:
                await service.sign_up(
                    session,
                    email=email,
                    password=PASSWORD,
                    name="A person",
                    organization_name=" ",
                    kind=OrganizationKind.CUSTOMER,
                )
        async with session_scope(sessions) as session:
            assert await service.user_by_email(session, email) is None

    async def test_nobody_signs_up_as_the_platform(self, sessions: Sessions):
        with pytest.raises(Forbidden):
            async with session_scope(sessions) as session:
                await make_customer(session, kind=OrganizationKind.PLATFORM)

    async def test_password_is_not_kept(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            kept = (await session.get_one(User, customer.user.id)).password_hash
        assert PASSWORD not in kept
        assert kept.startswith("$argon2id$")

    async def test_hashing_leaves_the_loops_thread(self, sessions: Sessions, monkeypatch):
        """A hash takes 25 ms of a core: on the loop it would hold up every stream of the process."""
        threads = []
        real = service.hash_password
        monkeypatch.setattr(
            service, "hash_password", lambda text: threads.append(threading.get_ident()) or real(text)
        )
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            await service.set_password(session, user_id=customer.user.id, password=PASSWORD)
        assert len(threads) == 2
        assert threading.get_ident() not in threads


class TestMembership:
    async def test_repeat_changes_the_role(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer, other = await make_customer(session), await make_customer(session)
            for role in (Role.VIEWER, Role.ADMIN):
                await service.add_member(
                    session, organization_id=customer.organization_id, user_id=other.user.id, role=role
                )
            found = await service.role_in(
                session, organization_id=customer.organization_id, user_id=other.user.id
            )
        assert found is Role.ADMIN

    async def test_only_the_platforms_people_are_administrators(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            assert not await service.is_administrator(session, customer.user.id)
            platform = await service.platform_organization(session)
            assert (await service.platform_organization(session)).id == platform.id
            for role, expected in ((Role.VIEWER, False), (Role.DEVELOPER, False), (Role.ADMIN, True)):
                await service.add_member(
                    session, organization_id=platform.id, user_id=customer.user.id, role=role
                )
                assert await service.is_administrator(session, customer.user.id) is expected


class TestApiKeys:
    async def test_key_is_kept_as_its_hash_only(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            key, text = await service.create_api_key(
                session, project_id=customer.project_id, user_id=customer.user.id, name=" laptop "
            )
        async with session_scope(sessions) as session:
            row = (await session.execute(select(ApiKey.__table__).where(ApiKey.id == key.id))).one()
        assert row.key_hash == hash_key(text)
        assert row.prefix == text[:12]
        assert row.name == "laptop"
        assert text.encode() not in repr(row).encode()

    async def test_stranger_learns_nothing_of_the_project(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer, stranger = await make_customer(session), await make_customer(session)
            for project_id in (customer.project_id, new_id()):
                with pytest.raises(NotFound, match="there is no project"):
                    await service.create_api_key(
                        session, project_id=project_id, user_id=stranger.user.id, name="key"
                    )

    async def test_viewer_may_not_make_keys(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer, viewer = await make_customer(session), await make_customer(session)
            await service.add_member(
                session,
                organization_id=customer.organization_id,
                user_id=viewer.user.id,
                role=Role.VIEWER,
            )
            with pytest.raises(Forbidden, match="developer"):
                await service.create_api_key(
                    session, project_id=customer.project_id, user_id=viewer.user.id, name="key"
                )

    async def test_end_in_the_past_is_refused(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            with pytest.raises(InvalidRequest, match="in the past"):
                await service.create_api_key(
                    session,
                    project_id=customer.project_id,
                    user_id=customer.user.id,
                    name="key",
                    expires_at=datetime.now(UTC) - timedelta(hours=1),
                )
            await session.rollback()

    async def test_twenty_at_once_do_not_exceed_the_limit(self, sessions: Sessions, monkeypatch):
        monkeypatch.setattr(service, "LIVE_KEYS_MAX", 5)
        async with session_scope(sessions) as session:
            customer = await make_customer(session)

        async def attempt() -> bool:
            try:
                async with session_scope(sessions) as session:
                    await service.create_api_key(
                        session, project_id=customer.project_id, user_id=customer.user.id, name="key"
                    )
            except Conflict:
                return False
            return True

        assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 5

    async def test_revoked_and_expired_keys_do_not_count(self, sessions: Sessions, monkeypatch):
        monkeypatch.setattr(service, "LIVE_KEYS_MAX", 1)
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            who = {"project_id": customer.project_id, "user_id": customer.user.id, "name": "key"}
            key, _ = await service.create_api_key(session, **who)
            await service.revoke_api_key(session, api_key_id=key.id)
            key, _ = await service.create_api_key(session, **who)
            await session.execute(
                update(ApiKey).where(ApiKey.id == key.id).values(expires_at=func.clock_timestamp())
            )
            key, _ = await service.create_api_key(session, **who)
            assert [each.id for each in await service.api_keys(session, customer.project_id)] == [key.id]

    async def test_second_revocation_keeps_the_first_time(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            key, _ = await service.create_api_key(
                session, project_id=customer.project_id, user_id=customer.user.id, name="key"
            )
        times = []
        for _ in range(2):
            async with session_scope(sessions) as session:
                times.append((await service.revoke_api_key(session, api_key_id=key.id)).revoked_at)
        assert times[0] is not None
        assert times[0] == times[1]

    async def test_unknown_key_cannot_be_revoked(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            with pytest.raises(NotFound, match="key_"):
                await service.revoke_api_key(session, api_key_id=new_id())

    async def test_key_belongs_to_the_projects_organization(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            key, _ = await service.create_api_key(
                session, project_id=customer.project_id, user_id=customer.user.id, name="key"
            )
            assert await service.organization_of_key(session, key.id) == customer.organization_id
            assert await service.organization_of_key(session, new_id()) is None
