"""A change and its entry are committed together or not at all."""

import contextlib
from collections.abc import Sequence

import pytest
from sqlalchemy import func, insert, select, update

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace import audit
from raymart_marketplace.accounts.models import Organization, OrganizationKind, Project, User
from raymart_marketplace.accounts.service import create_organization
from raymart_marketplace.audit import Act, Actor, ActorKind, AuditEntry, AuditOrigin, AuditOutcome, Origin
from raymart_marketplace.db.session import Sessions, session_scope


class Changed(Exception):
    """Somebody's mind."""


def act(**changes: object) -> Act:
    return Act(
        **{
            "action": "testIt",
            "actor": Actor(kind=ActorKind.USER, id=new_id()),
            "request_id": new_id(),
            "origin": Origin(address="192.0.2.7", user_agent="test/1"),
        }
        | changes
    )


async def entries(sessions: Sessions, done: Act) -> Sequence[AuditEntry]:
    async with session_scope(sessions) as session:
        rows = await session.scalars(
            select(AuditEntry).where(AuditEntry.request_id == done.request_id).order_by(AuditEntry.id)
        )
        return rows.all()


class TestCommit:
    async def test_a_change_has_one_entry_with_all_that_is_known(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            owner = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        done = act(action="createProject")
        made = Project(id=new_id(), organization_id=owner.id, slug="new", name="New")
        with audit.acting(done):
            async with session_scope(sessions) as session:
                session.add(made)
        [entry] = await entries(sessions, done)
        assert (entry.actor_kind, entry.actor_id, entry.action) == (
            ActorKind.USER,
            done.actor.id,
            done.action,
        )
        assert (entry.subject_kind, entry.subject_id) == ("proj", made.id)
        assert (entry.organization_id, entry.mentions) == (owner.id, [made.id])
        assert entry.outcome is AuditOutcome.DONE
        assert entry.detail["changes"] == [
            {
                "insert": "project",
                "id": str(made.id),
                "values": {"organization_id": str(owner.id), "slug": "new", "name": "[hidden]"},
            }
        ]
        async with session_scope(sessions) as session:
            origin = await session.get_one(AuditOrigin, entry.id)
        assert (origin.address, origin.user_agent) == ("192.0.2.7", "test/1")

    async def test_an_update_shows_before_and_after(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            made = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                row = await session.get_one(Organization, made.id)
                row.slug, row.name = f"{row.slug}-2", "Another"
        [entry] = await entries(sessions, done)
        [change] = entry.detail["changes"]
        assert change == {
            "update": "organization",
            "id": str(made.id),
            "values": {"slug": [made.slug, f"{made.slug}-2"], "name": ["[hidden]", "[hidden]"]},
        }
        assert entry.organization_id == made.id

    async def test_a_statement_past_the_orm_has_its_entry(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            made = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                await session.execute(
                    update(Organization).where(Organization.id == made.id).values(name="Another")
                )
        [entry] = await entries(sessions, done)
        assert entry.detail["changes"] == [{"update": "organization", "id": None}]

    async def test_an_insert_of_many_rows_has_its_entry_and_is_done(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            owner = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        done = act()
        rows = [
            {"id": new_id(), "organization_id": owner.id, "slug": f"bulk-{number}", "name": "Bulk"}
            for number in range(2)
        ]
        with audit.acting(done):
            async with session_scope(sessions) as session:
                await session.execute(insert(Project), rows)
        [entry] = await entries(sessions, done)
        assert entry.detail["changes"] == [{"insert": "project", "id": None}]
        async with session_scope(sessions) as session:
            made = await session.scalars(select(Project.slug).where(Project.organization_id == owner.id))
            assert {"bulk-0", "bulk-1"} <= set(made)

    async def test_reading_has_none(self, sessions: Sessions):
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                await session.scalar(select(func.count()).select_from(Organization))
        assert await entries(sessions, done) == []
        assert done.entries == 0

    async def test_what_is_rolled_back_has_none(self, sessions: Sessions):
        done = act()

        async def fail() -> None:
            async with session_scope(sessions) as session:
                await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
                raise Changed

        with audit.acting(done), pytest.raises(Changed):
            await fail()
        assert await entries(sessions, done) == []

    async def test_no_change_is_committed_without_its_entry(self, sessions: Sessions):
        """An entry that the database refuses takes its change with it."""
        done = act(actor=Actor(kind=ActorKind.USER))
        name = f"Ada {new_id().hex}"
        with audit.acting(done), pytest.raises(Exception, match="ck_audit_entry_actor_is_named"):
            async with session_scope(sessions) as session:
                await create_organization(session, name=name, kind=OrganizationKind.CUSTOMER)
        async with session_scope(sessions) as session:
            assert await session.scalar(select(Organization.id).where(Organization.name == name)) is None

    async def test_a_savepoint_that_is_rolled_back_is_not_described(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            made = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                session.add(Project(id=new_id(), organization_id=made.id, slug="kept", name="Kept"))
                with contextlib.suppress(Changed):
                    async with session.begin_nested():
                        session.add(Project(id=new_id(), organization_id=made.id, slug="gone", name="Gone"))
                        await session.flush()
                        raise Changed
                async with session.begin_nested():
                    session.add(Project(id=new_id(), organization_id=made.id, slug="also", name="Also"))
        [entry] = await entries(sessions, done)
        assert [change["values"]["slug"] for change in entry.detail["changes"]] == ["kept", "also"]

    async def test_without_an_act_nothing_is_written(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            before = await session.scalar(select(func.max(AuditEntry.id)))
            made = await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        async with session_scope(sessions) as session:
            found = await session.scalar(
                select(func.count())
                .select_from(AuditEntry)
                .where(AuditEntry.id > (before or 0), AuditEntry.organization_id == made.id)
            )
        assert found == 0

    async def test_a_huge_act_is_cut_and_not_lost(self, sessions: Sessions):
        done = act(
            input={"reason": "é" * 30_000},
            mentions=[new_id() for _ in range(200)],
            origin=Origin(address="x" * 100, user_agent="y\0" * 400),
        )
        with audit.acting(done):
            async with session_scope(sessions) as session:
                for number in range(60):
                    session.add(
                        Organization(
                            id=new_id(),
                            slug=f"many-{number}-{new_id().hex}",
                            name="",
                            kind=OrganizationKind.CUSTOMER,
                        )
                    )
        [entry] = await entries(sessions, done)
        assert entry.detail == {"input": "[hidden]", "changes_left_out": 60}
        assert len(entry.mentions) == audit.MENTIONS_MAX


class TestSecrets:
    async def test_neither_hashes_nor_names_nor_addresses_of_people_are_kept(self, sessions: Sessions):
        canary = f"canary{new_id().hex}"
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                user = User(id=new_id(), email=f"{canary}@example.com", name=canary, password_hash=canary)
                session.add(user)
                await session.flush()
                user.password_hash = f"{canary}2"
        [entry] = await entries(sessions, done)
        assert canary not in str(entry.detail)
        assert entry.detail["changes"][0]["values"]["email"] == "[hidden]"


class TestRefusals:
    async def test_one_actor_cannot_fill_the_table(self, sessions: Sessions):
        refused = act()
        written = []
        for _ in range(25):
            async with session_scope(sessions) as session:
                written.append(await audit.append(session, refused, AuditOutcome.REFUSED))
        assert [number is not None for number in written] == [True] * 20 + [False] * 5
        # What he may do is still written.
        async with session_scope(sessions) as session:
            assert await audit.append(session, refused, AuditOutcome.DONE) is not None

    async def test_a_stranger_writes_nothing(self, sessions: Sessions):
        async with session_scope(sessions) as session:
            assert await audit.append(session, act(actor=audit.ANONYMOUS), AuditOutcome.REFUSED) is None


class TestRedaction:
    def test_the_kinds_that_tell_nothing_are_kept_and_text_by_name_only(self):
        item = new_id()
        shown = audit.shown(
            {
                "api_key_id": show(Prefix.API_KEY, item),
                "limit": 5,
                "reason": "a typing mistake",
                "password": "secret",
                "token": "rm_live_abc",
                "key_id": "key_not-an-id",
                "nested": {"reason": "why", "code": "123456"},
                "scopes": ["read", "write"],
                "names": ["Ada"],
                "raw": b"bytes",
            }
        )
        assert shown == {
            "api_key_id": show(Prefix.API_KEY, item),
            "limit": 5,
            "reason": "a typing mistake",
            "password": "[hidden]",
            "token": "[hidden]",
            "key_id": "[hidden]",
            "nested": {"reason": "why", "code": "[hidden]"},
            "scopes": ["read", "write"],
            "names": ["[hidden]"],
            "raw": "[hidden]",
        }


class TestExplicit:
    async def test_an_entry_that_was_appended_is_the_commits_only_one(self, sessions: Sessions):
        done = act()
        with audit.acting(done):
            async with session_scope(sessions) as session:
                await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
                await audit.append(session, done, AuditOutcome.DONE)
            async with session_scope(sessions) as session:
                await create_organization(session, name="Ada's", kind=OrganizationKind.CUSTOMER)
        assert len(await entries(sessions, done)) == 2
