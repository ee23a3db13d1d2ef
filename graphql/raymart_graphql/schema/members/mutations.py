"""Organizations, projects, members and invitations."""

from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.mail import invite_later
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.identity.types import Organization, Project
from raymart_graphql.schema.members import inputs, payloads
from raymart_graphql.schema.members.types import Invitation
from raymart_marketplace.accounts import answer_cache, invitations, members, models, projects, service
from raymart_marketplace.db.tenancy import unconfined


@strawberry.type
class MemberMutation:
    """Root fields of the domain."""

    @mutation("Make an organization; the viewer becomes its owner.")
    async def create_organization(
        self, info: Info, input_: inputs.CreateOrganizationInput
    ) -> payloads.CreateOrganizationPayload:
        """With its default project."""
        user_id = await _viewer(info)
        service.require_offered_kind(input_.kind)
        async with info.context.writing() as session:
            await projects.require_room_for_another(session, user_id)
            made = await service.create_organization(session, name=input_.name, kind=input_.kind)
            await service.add_member(
                session, organization_id=made.id, user_id=user_id, role=models.Role.OWNER
            )
        await _changed(info, user_id)
        return payloads.CreateOrganizationPayload(organization=Organization.of(made))

    @mutation("Rename an organization.")
    async def update_organization(
        self, info: Info, input_: inputs.UpdateOrganizationInput
    ) -> payloads.UpdateOrganizationPayload:
        """The slug stays."""
        organization_id = _organization(input_.organization_id)
        async with info.context.writing() as session:
            await projects.rename_organization(session, organization_id=organization_id, name=input_.name)
        return payloads.UpdateOrganizationPayload(organization=await _shown(info, organization_id))

    @mutation("Make a project.")
    async def create_project(
        self, info: Info, input_: inputs.CreateProjectInput
    ) -> payloads.CreateProjectPayload:
        """A part of an organization that keys and usage belong to."""
        async with info.context.writing() as session:
            made = await projects.create_project(
                session, organization_id=_organization(input_.organization_id), name=input_.name
            )
        return payloads.CreateProjectPayload(project=Project.of(made))

    @mutation("Rename a project.")
    async def rename_project(
        self, info: Info, input_: inputs.RenameProjectInput
    ) -> payloads.RenameProjectPayload:
        """The slug stays."""
        project_id = parse_global_id(Prefix.PROJECT, input_.project_id, field="project_id")
        async with info.context.writing() as session:
            await projects.rename_project(session, project_id=project_id, name=input_.name)
        shown = await info.context.loaders.identity.project.load_known(project_id)
        return payloads.RenameProjectPayload(project=shown)

    @mutation("Let a project's answers be given again to who asks the same; in force at once.")
    async def set_answer_cache(
        self, info: Info, input_: inputs.SetAnswerCacheInput
    ) -> payloads.SetAnswerCachePayload:
        """A key's own wish comes before it, and a request's before both."""
        project_id = parse_global_id(Prefix.PROJECT, input_.project_id, field="project_id")
        async with info.context.writing() as session:
            await answer_cache.set_project_answer_cache(
                session, project_id=project_id, seconds=input_.seconds
            )
        await info.context.services.forgetting.project(project_id)
        shown = await info.context.loaders.identity.project.load_known(project_id)
        return payloads.SetAnswerCachePayload(project=shown)

    @mutation("End a project and its keys at once; what it used stays to be seen.")
    async def archive_project(
        self, info: Info, input_: inputs.ArchiveProjectInput
    ) -> payloads.ArchiveProjectPayload:
        """Not the default project."""
        project_id = parse_global_id(Prefix.PROJECT, input_.project_id, field="project_id")
        async with info.context.writing() as session:
            ended = await projects.archive_project(session, project_id=project_id)
        for key_id in ended:
            await info.context.services.forgetting.key(key_id)
        shown = await info.context.loaders.identity.project.load_known(project_id)
        return payloads.ArchiveProjectPayload(project=shown)

    @mutation("Invite somebody by mail, in at most the viewer's own role; a repeat replaces the invitation.")
    async def invite_member(
        self, info: Info, input_: inputs.InviteMemberInput
    ) -> payloads.InviteMemberPayload:
        """Good for a week, once, and for that address."""
        async with info.context.writing() as session:
            made = await invitations.invite(
                session,
                organization_id=_organization(input_.organization_id),
                inviter_id=await _viewer(info),
                email=input_.email,
                role=input_.role,
                tokens=info.context.services.people.mailing.tokens,
            )
            await _send_later(session, made.id)
        return payloads.InviteMemberPayload(invitation=Invitation.of(made))

    @mutation("Become a member, with the token of the mail.")
    async def accept_invitation(
        self, info: Info, input_: inputs.AcceptInvitationInput
    ) -> payloads.AcceptInvitationPayload:
        """Only as the address that was invited."""
        user_id = await _viewer(info)
        async with info.context.writing() as session:
            organization_id = await invitations.accept_invitation(
                session, token=input_.token, user_id=user_id
            )
        await _changed(info, user_id)
        return payloads.AcceptInvitationPayload(organization=await _shown(info, organization_id))

    @mutation("Take an open invitation back.")
    async def revoke_invitation(
        self, info: Info, input_: inputs.RevokeInvitationInput
    ) -> payloads.RevokeInvitationPayload:
        """Its mail does nothing any more."""
        async with info.context.writing() as session:
            await invitations.revoke_invitation(
                session, organization_id=_organization(input_.organization_id), email=input_.email
            )
        return payloads.RevokeInvitationPayload(email=input_.email)

    @mutation("Give a member another role: neither given nor taken above the viewer's own.")
    async def change_member_role(
        self, info: Info, input_: inputs.ChangeMemberRoleInput
    ) -> payloads.ChangeMemberRolePayload:
        """In force at once."""
        organization_id, user_id = _organization(input_.organization_id), _user(input_.user_id)
        actor_id = await _viewer(info)
        async with info.context.writing() as session:
            await members.change_role(
                session,
                organization_id=organization_id,
                actor_id=actor_id,
                user_id=user_id,
                role=input_.role,
            )
        await _changed(info, user_id)
        return payloads.ChangeMemberRolePayload(organization=await _shown(info, organization_id))

    @mutation("Remove a member; the keys that they made stay.")
    async def remove_member(
        self, info: Info, input_: inputs.RemoveMemberInput
    ) -> payloads.RemoveMemberPayload:
        """In force at once."""
        organization_id, user_id = _organization(input_.organization_id), _user(input_.user_id)
        actor_id = await _viewer(info)
        async with info.context.writing() as session:
            await members.remove_member(
                session, organization_id=organization_id, actor_id=actor_id, user_id=user_id
            )
        await _changed(info, user_id)
        return payloads.RemoveMemberPayload(organization=await _shown(info, organization_id))

    @mutation("Leave an organization; its last owner cannot.")
    async def leave_organization(
        self, info: Info, input_: inputs.LeaveOrganizationInput
    ) -> payloads.LeaveOrganizationPayload:
        """In force at once."""
        user_id = await _viewer(info)
        async with info.context.writing() as session:
            await members.leave(
                session, organization_id=_organization(input_.organization_id), user_id=user_id
            )
        await _changed(info, user_id)
        return payloads.LeaveOrganizationPayload(organization_id=input_.organization_id)

    @mutation("Hand an organization over to another member; the viewer becomes an admin.")
    async def transfer_ownership(
        self, info: Info, input_: inputs.TransferOwnershipInput
    ) -> payloads.TransferOwnershipPayload:
        """In force at once."""
        organization_id, user_id = _organization(input_.organization_id), _user(input_.user_id)
        owner_id = await _viewer(info)
        async with info.context.writing() as session:
            await members.transfer_ownership(
                session, organization_id=organization_id, owner_id=owner_id, user_id=user_id
            )
        for each in (owner_id, user_id):
            await _changed(info, each)
        return payloads.TransferOwnershipPayload(organization=await _shown(info, organization_id))


async def _send_later(session: AsyncSession, invitation_id: UUID) -> None:
    """The outbox is nobody's tenant's."""
    async with unconfined(session):
        await invite_later(session, invitation_id)


async def _changed(info: Info, user_id: UUID) -> None:
    """Let the change of a person's memberships be in force: here at once, and in other processes as soon as they hear."""
    await info.context.services.forgetting.user(user_id)
    await info.context.recognise_anew()


async def _viewer(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id


async def _shown(info: Info, organization_id: UUID) -> Organization:
    return await info.context.loaders.identity.organization.load_known(organization_id)


def _organization(text: str) -> UUID:
    return parse_global_id(Prefix.ORGANIZATION, text, field="organization_id")


def _user(text: str) -> UUID:
    return parse_global_id(Prefix.USER, text, field="user_id")
