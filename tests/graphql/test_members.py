"""Organizations, projects, members, invitations, and looks of the platform's support."""

from typing import Any

from sqlalchemy import select, update

from raymart_core.ids import Prefix, new_id, parse, show
from raymart_marketplace.accounts.invitation_models import Invitation, SupportAccess
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Person, Tenant


async def do(api: Api, who: Person | None, name: str, returned: str, /, **given: Any) -> Any:
    """Run the mutation; what it gave back, else the code of its first user error, else of its refusal."""
    kind = name[0].upper() + name[1:]
    mutation = f"mutation ($input: {kind}Input!) {{ {name}(input: $input) {{ {returned} userErrors {{ code field }} }} }}"
    answer = await api(mutation, who, input=given)
    if answer.errors:
        return answer.code
    payload = answer.data[name]
    if payload["userErrors"]:
        return payload["userErrors"][0]["code"]
    return payload


async def token_of(api: Api, email: str) -> str:
    """What the newest invitation's mail carries."""
    async with session_scope(api.services.sessions) as session:
        newest = (
            select(Invitation.id).where(Invitation.email == email).order_by(Invitation.id.desc()).limit(1)
        )
        return api.services.people.mailing.tokens.token((await session.scalars(newest)).one())


async def roles(api: Api, tenant: Tenant, as_: Person) -> dict[str, str]:
    query = "query ($id: ID!) { organization(id: $id) { members { nodes { role user { email } } } } }"
    found = (await api(query, as_, id=tenant.id)).data["organization"]["members"]["nodes"]
    return {member["user"]["email"]: member["role"] for member in found}


def user(person: Person) -> str:
    return show(Prefix.USER, person.user_id)


class TestInvitations:
    async def test_who_is_invited_becomes_a_member_once(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        guest = stranger.owner
        given = {"organizationId": customer.id, "email": guest.email, "role": "DEVELOPER"}
        made = await do(api, customer.owner, "inviteMember", "invitation { email role }", **given)
        assert made["invitation"] == {"email": guest.email, "role": "DEVELOPER"}
        token = await token_of(api, guest.email)
        # Whoever else holds the token is refused.
        other = stranger.people[Role.ADMIN]
        assert await do(api, other, "acceptInvitation", "organization { id }", token=token) == "FORBIDDEN"
        accepted = await do(api, guest, "acceptInvitation", "organization { id viewerRole }", token=token)
        assert accepted["organization"] == {"id": customer.id, "viewerRole": "DEVELOPER"}
        assert (await roles(api, customer, customer.owner))[guest.email] == "DEVELOPER"
        assert await do(api, guest, "acceptInvitation", "organization { id }", token=token) == "INVALID"

    async def test_nobody_invites_above_their_own_role(self, api: Api, customer: Tenant) -> None:
        admin, email = customer.people[Role.ADMIN], f"{new_id().hex}@example.com"
        given = {"organizationId": customer.id, "email": email}
        assert (
            await do(api, admin, "inviteMember", "invitation { email }", **given, role="OWNER") == "FORBIDDEN"
        )
        assert (
            await do(api, admin, "inviteMember", "invitation { email }", **given, role="SUPPORT")
            == "FORBIDDEN"
        )
        assert (await do(api, admin, "inviteMember", "invitation { email }", **given, role="ADMIN"))[
            "invitation"
        ]

    async def test_revoked_replaced_and_expired_ones_do_nothing(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        guest = stranger.owner
        given = {"organizationId": customer.id, "email": guest.email}
        invite = {**given, "role": "VIEWER"}
        await do(api, customer.owner, "inviteMember", "invitation { email }", **invite)
        replaced = await token_of(api, guest.email)
        await do(api, customer.owner, "inviteMember", "invitation { email }", **invite)
        revoked = await token_of(api, guest.email)
        await do(api, customer.owner, "revokeInvitation", "email", **given)
        assert await do(api, customer.owner, "revokeInvitation", "email", **given) == "NOT_FOUND"
        await do(api, customer.owner, "inviteMember", "invitation { email }", **invite)
        expired = await token_of(api, guest.email)
        async with session_scope(api.services.sessions) as session:
            past = update(Invitation).where(Invitation.email == guest.email, Invitation.revoked_at.is_(None))
            await session.execute(past.values(expires_at=Invitation.created_at))
        for token in (replaced, revoked, expired):
            assert await do(api, guest, "acceptInvitation", "organization { id }", token=token) == "INVALID"

    async def test_it_is_worth_nothing_once_its_maker_may_not_invite(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        admin, guest = customer.people[Role.ADMIN], stranger.owner
        given = {"organizationId": customer.id, "email": guest.email, "role": "ADMIN"}
        await do(api, admin, "inviteMember", "invitation { email }", **given)
        token = await token_of(api, guest.email)
        changed = {"organizationId": customer.id, "userId": user(admin), "role": "VIEWER"}
        assert (await do(api, customer.owner, "changeMemberRole", "organization { id }", **changed))[
            "organization"
        ]
        assert await do(api, guest, "acceptInvitation", "organization { id }", token=token) == "INVALID"


class TestMembers:
    async def test_a_change_is_in_force_with_the_next_request(self, api: Api, customer: Tenant) -> None:
        developer = customer.people[Role.DEVELOPER]
        make = {"projectId": customer.project, "name": "k"}
        assert (await do(api, developer, "createApiKey", "secret", **make))["secret"]
        given = {"organizationId": customer.id, "userId": user(developer)}
        await do(api, customer.owner, "changeMemberRole", "organization { id }", **given, role="VIEWER")
        assert await do(api, developer, "createApiKey", "secret", **make) == "FORBIDDEN"
        await do(api, customer.owner, "removeMember", "organization { id }", **given)
        query = "query ($id: ID!) { organization(id: $id) { id } }"
        assert (await api(query, developer, id=customer.id)).data == {"organization": None}

    async def test_an_admin_neither_makes_nor_unmakes_an_owner(self, api: Api, customer: Tenant) -> None:
        admin, owner = customer.people[Role.ADMIN], customer.owner
        about = {"organizationId": customer.id, "userId": user(owner)}
        assert (
            await do(api, admin, "changeMemberRole", "organization { id }", **about, role="VIEWER")
            == "FORBIDDEN"
        )
        assert await do(api, admin, "removeMember", "organization { id }", **about) == "FORBIDDEN"
        own = {"organizationId": customer.id, "userId": user(admin), "role": "OWNER"}
        assert await do(api, admin, "changeMemberRole", "organization { id }", **own) == "FORBIDDEN"

    async def test_the_last_owner_stays_until_it_is_handed_over(self, api: Api, customer: Tenant) -> None:
        owner, heir = customer.owner, customer.people[Role.VIEWER]
        given = {"organizationId": customer.id}
        assert await do(api, owner, "leaveOrganization", "organizationId", **given) == "CONFLICT"
        down = {**given, "userId": user(owner), "role": "ADMIN"}
        assert await do(api, owner, "changeMemberRole", "organization { id }", **down) == "CONFLICT"
        over = await do(
            api, owner, "transferOwnership", "organization { viewerRole }", **given, userId=user(heir)
        )
        assert over["organization"] == {"viewerRole": "ADMIN"}
        assert (await do(api, owner, "leaveOrganization", "organizationId", **given))[
            "organizationId"
        ] == customer.id
        members = await roles(api, customer, heir)
        assert members[heir.email] == "OWNER"
        assert owner.email not in members

    async def test_who_is_no_member_is_not_there_to_change(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        about = {"organizationId": customer.id, "userId": user(stranger.owner)}
        owner = customer.owner
        assert await do(api, owner, "removeMember", "organization { id }", **about) == "NOT_FOUND"
        assert await do(api, owner, "transferOwnership", "organization { id }", **about) == "NOT_FOUND"
        changed = await do(api, owner, "changeMemberRole", "organization { id }", **about, role="VIEWER")
        assert changed == "NOT_FOUND"


class TestOrganizations:
    async def test_a_person_makes_another_of_their_own(self, api: Api, customer: Tenant) -> None:
        viewer = customer.people[Role.VIEWER]
        made = await do(
            api,
            viewer,
            "createOrganization",
            "organization { id kind viewerRole }",
            name="Second",
            kind="PROVIDER",
        )
        assert (made["organization"]["kind"], made["organization"]["viewerRole"]) == ("PROVIDER", "OWNER")
        given = {"name": "Third", "kind": "PLATFORM"}
        assert await do(api, viewer, "createOrganization", "organization { id }", **given) == "FORBIDDEN"
        named = await do(
            api,
            viewer,
            "updateOrganization",
            "organization { name }",
            organizationId=made["organization"]["id"],
            name="New",
        )
        assert named["organization"] == {"name": "New"}

    async def test_an_archived_project_takes_its_keys_along(self, api: Api, customer: Tenant) -> None:
        given = {"organizationId": customer.id, "name": "Trial"}
        project = (await do(api, customer.owner, "createProject", "project { id }", **given))["project"]["id"]
        key = await do(api, customer.owner, "createApiKey", "secret", projectId=project, name="k")
        headers = {"authorization": f"Bearer {key['secret']}"}
        assert (await api.client.get("/v1/models", headers=headers)).status_code == 200
        ended = await do(api, customer.owner, "archiveProject", "project { archivedAt }", projectId=project)
        assert ended["project"]["archivedAt"]
        assert (await api.client.get("/v1/models", headers=headers)).status_code == 401
        again = await do(api, customer.owner, "createApiKey", "secret", projectId=project, name="k")
        assert again == "NOT_FOUND"
        default = await do(
            api, customer.owner, "archiveProject", "project { id }", projectId=customer.project
        )
        assert default == "CONFLICT"


class TestAnswerCache:
    SEEN = "query ($id: ID!) { node(id: $id) { ... on Project { answerCacheSeconds } ... on ApiKey { own: answerCacheSeconds } } }"

    async def test_a_project_wishes_for_its_keys_and_a_key_for_itself(
        self, api: Api, customer: Tenant
    ) -> None:
        owner = customer.owner
        made = await do(
            api,
            owner,
            "createApiKey",
            "secret apiKey { id answerCacheSeconds }",
            projectId=customer.project,
            name="k",
        )
        key, headers = made["apiKey"]["id"], {"authorization": f"Bearer {made['secret']}"}
        assert made["apiKey"]["answerCacheSeconds"] is None

        async def in_force() -> int:
            shown = (await api.client.get("/v1/key", headers=headers)).json()
            return shown["data"]["answer_cache_seconds"]

        assert await in_force() == 0
        wish = {"projectId": customer.project, "seconds": 600}
        given = await do(api, owner, "setAnswerCache", "project { answerCacheSeconds }", **wish)
        assert given["project"] == {"answerCacheSeconds": 600}
        assert await in_force() == 600
        for own, expected in ((30, 30), (0, 0), (None, 600)):
            await do(api, owner, "updateApiKey", "apiKey { id }", apiKeyId=key, answerCacheSeconds=own)
            assert await in_force() == expected
        seen = [(await api(self.SEEN, owner, id=each)).data["node"] for each in (customer.project, key)]
        assert seen == [{"answerCacheSeconds": 600}, {"own": None}]

    async def test_it_holds_for_people_too(self, api: Api, customer: Tenant) -> None:
        wish = {"projectId": customer.project, "seconds": 60}
        bearer = f"Bearer {customer.owner.token}".encode()
        assert (await api.services.authenticator.caller(bearer)).answer_cache_s == 0
        await do(api, customer.owner, "setAnswerCache", "project { id }", **wish)
        assert (await api.services.authenticator.caller(bearer)).answer_cache_s == 60

    async def test_only_who_manages_the_organization_sets_it_within_a_day(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        wish = {"projectId": customer.project, "seconds": 60}
        developer = customer.people[Role.DEVELOPER]
        for nobody in (developer, stranger.owner, None):
            refused = await do(api, nobody, "setAnswerCache", "project { id }", **wish)
            assert refused in {"FORBIDDEN", "UNAUTHENTICATED"}, refused
        for seconds in (-1, 86_401):
            given = {**wish, "seconds": seconds}
            assert await do(api, customer.owner, "setAnswerCache", "project { id }", **given) == "INVALID"

    async def test_the_change_is_in_the_audit_log(self, api: Api, customer: Tenant) -> None:
        await do(
            api, customer.owner, "setAnswerCache", "project { id }", projectId=customer.project, seconds=60
        )
        query = """query ($id: ID!, $project: ID!) { organization(id: $id) {
            auditLog(filter: {subjectId: $project}, first: 1) { nodes { action detail } } } }"""
        found = await api(query, customer.owner, id=customer.id, project=customer.project)
        [entry] = found.data["organization"]["auditLog"]["nodes"]
        assert entry["action"] == "setAnswerCache"
        assert "60" in str(entry["detail"])


class TestSupport:
    LOOK = "query ($id: ID!) { organization(id: $id) { apiKeys { nodes { id } } usageRecords { nodes { id } } } }"

    async def test_a_tenant_is_seen_while_an_access_is_open_and_never_changed(
        self, api: Api, customer: Tenant
    ) -> None:
        platform = await api.tenant(OrganizationKind.PLATFORM)
        support, given = platform.people[Role.SUPPORT], {"organizationId": customer.id}
        assert (await api(self.LOOK, support, id=customer.id)).data == {"organization": None}
        opened = await do(
            api, support, "openSupportAccess", "supportAccess { reason }", **given, reason="ticket 7", hours=2
        )
        assert opened["supportAccess"] == {"reason": "ticket 7"}
        assert (await api(self.LOOK, support, id=customer.id)).data["organization"]
        make = {"projectId": customer.project, "name": "k"}
        assert await do(api, support, "createApiKey", "secret", **make) == "FORBIDDEN"
        listed = "query ($id: ID!) { organization(id: $id) { supportAccesses { nodes { reason closedAt user { email } } } } }"
        seen = (await api(listed, customer.owner, id=customer.id)).data["organization"]["supportAccesses"][
            "nodes"
        ]
        assert seen == [{"reason": "ticket 7", "closedAt": None, "user": {"email": support.email}}]
        await do(api, support, "closeSupportAccess", "supportAccess { closedAt }", **given)
        assert (await api(self.LOOK, support, id=customer.id)).data == {"organization": None}
        assert (
            await do(api, support, "closeSupportAccess", "supportAccess { reason }", **given) == "NOT_FOUND"
        )

    async def test_an_expired_access_shows_nothing(self, api: Api, customer: Tenant) -> None:
        support = (await api.tenant(OrganizationKind.PLATFORM)).people[Role.SUPPORT]
        given = {"organizationId": customer.id, "reason": "r", "hours": 8}
        await do(api, support, "openSupportAccess", "supportAccess { reason }", **given)
        async with session_scope(api.services.sessions) as session:
            mine = update(SupportAccess).where(SupportAccess.user_id == support.user_id)
            hours = SupportAccess.expires_at - SupportAccess.created_at
            await session.execute(
                mine.values(created_at=SupportAccess.created_at - hours, expires_at=SupportAccess.created_at)
            )
        assert (await api(self.LOOK, support, id=customer.id)).data == {"organization": None}
        assert (await do(api, support, "openSupportAccess", "supportAccess { reason }", **given))[
            "supportAccess"
        ]

    async def test_it_is_for_hours_and_for_a_reason(self, api: Api, customer: Tenant) -> None:
        support = (await api.tenant(OrganizationKind.PLATFORM)).people[Role.SUPPORT]
        for reason, hours in (("", 1), ("r", 9), ("r", 0)):
            given = {"organizationId": customer.id, "reason": reason, "hours": hours}
            assert (
                await do(api, support, "openSupportAccess", "supportAccess { reason }", **given) == "INVALID"
            )

    async def test_who_is_of_support_no_more_sees_nothing(self, api: Api, customer: Tenant) -> None:
        platform = await api.tenant(OrganizationKind.PLATFORM)
        support = platform.people[Role.SUPPORT]
        given = {"organizationId": customer.id, "reason": "r"}
        await do(api, support, "openSupportAccess", "supportAccess { reason }", **given)
        about = {"organizationId": platform.id, "userId": user(support)}
        await do(api, platform.owner, "removeMember", "organization { id }", **about)
        assert (await api(self.LOOK, support, id=customer.id)).data == {"organization": None}
        assert parse(Prefix.USER, about["userId"]) == support.user_id
