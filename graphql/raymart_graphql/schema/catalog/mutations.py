"""Revisions and aliases of models, for the marketplace's administrators."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.catalog.types import ModelAlias, ModelRevision
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.catalog import aliases, revisions
from raymart_marketplace.catalog.naming import LATEST

NULL = "Null when there are user errors."
WHY = "Why, in up to 500 characters; kept in the alias's history."


@strawberry.input(description="A revision to publish.")
class PublishModelRevisionInput:
    """A draft, or one that was deprecated."""

    revision_id: strawberry.ID = strawberry.field(description="Which revision.")
    reason: str = strawberry.field(default="", description=WHY)


@strawberry.type(description="What publishModelRevision gives back.")
class PublishModelRevisionPayload(Payload):
    """The revision, or why it is not published."""

    revision: ModelRevision | None = strawberry.field(default=None, description=NULL)


@strawberry.input(description="A revision to place nowhere anew.")
class DeprecateModelRevisionInput:
    """It goes on being served where it runs."""

    revision_id: strawberry.ID = strawberry.field(description="Which revision.")


@strawberry.type(description="What deprecateModelRevision gives back.")
class DeprecateModelRevisionPayload(Payload):
    """The revision, or why it is not deprecated."""

    revision: ModelRevision | None = strawberry.field(default=None, description=NULL)


@strawberry.input(description="A revision to serve no more, for good.")
class WithdrawModelRevisionInput:
    """No alias may name it."""

    revision_id: strawberry.ID = strawberry.field(description="Which revision.")


@strawberry.type(description="What withdrawModelRevision gives back.")
class WithdrawModelRevisionPayload(Payload):
    """The revision, or why it is not withdrawn."""

    revision: ModelRevision | None = strawberry.field(default=None, description=NULL)


@strawberry.input(description="An alias, and the revision it is to name.")
class PointModelAliasInput:
    """Of the revision's number format; its others stay."""

    revision_id: strawberry.ID = strawberry.field(description="Which revision; one that is served.")
    alias: str = strawberry.field(description="Such as 'stable'.")
    reason: str = strawberry.field(default="", description=WHY)


@strawberry.type(description="What pointModelAlias gives back.")
class PointModelAliasPayload(Payload):
    """The alias, or why it names what it did."""

    alias: ModelAlias | None = strawberry.field(default=None, description=NULL)


@strawberry.input(description="An alias that is to name again what it named before.")
class RollBackModelAliasInput:
    """Repeated, it goes further back."""

    model_id: strawberry.ID = strawberry.field(description="Whose alias.")
    alias: str = strawberry.field(default=LATEST, description="Which one.")
    quantization: str | None = strawberry.field(
        default=None, description="Only of this number format, such as 'q8_0'; null for each."
    )
    reason: str = strawberry.field(default="", description=WHY)


@strawberry.type(description="What rollBackModelAlias gives back.")
class RollBackModelAliasPayload(Payload):
    """What the alias names now, of each number format that went back."""

    aliases: list[ModelAlias] | None = strawberry.field(default=None, description=NULL)


@strawberry.type
class CatalogMutation:
    """Root fields of the domain."""

    @mutation("Let a revision be offered and served, and point `latest` at it. For administrators.")
    async def publish_model_revision(
        self, info: Info, input_: PublishModelRevisionInput
    ) -> PublishModelRevisionPayload:
        """A repeat changes nothing."""
        async with info.context.writing() as session:
            move = await aliases.publish_as_latest(
                session,
                revision_id=parse_global_id(Prefix.REVISION, input_.revision_id, field="revision_id"),
                actor_id=(await info.context.principal()).user_id,
                reason=input_.reason,
            )
        return PublishModelRevisionPayload(revision=ModelRevision.of(move.after))

    @mutation("Serve a revision where it runs, and place it nowhere anew. For administrators.")
    async def deprecate_model_revision(
        self, info: Info, input_: DeprecateModelRevisionInput
    ) -> DeprecateModelRevisionPayload:
        """A repeat changes nothing."""
        revision_id = parse_global_id(Prefix.REVISION, input_.revision_id, field="revision_id")
        async with info.context.writing() as session:
            revision = await revisions.deprecate(session, revision_id=revision_id)
        return DeprecateModelRevisionPayload(revision=ModelRevision.of(revision))

    @mutation("Serve a revision no more, for good. For administrators.")
    async def withdraw_model_revision(
        self, info: Info, input_: WithdrawModelRevisionInput
    ) -> WithdrawModelRevisionPayload:
        """A repeat changes nothing."""
        revision_id = parse_global_id(Prefix.REVISION, input_.revision_id, field="revision_id")
        async with info.context.writing() as session:
            revision = await revisions.withdraw(session, revision_id=revision_id)
        return WithdrawModelRevisionPayload(revision=ModelRevision.of(revision))

    @mutation("Let an alias name a revision; offers and machines follow it. For administrators.")
    async def point_model_alias(self, info: Info, input_: PointModelAliasInput) -> PointModelAliasPayload:
        """A repeat changes nothing."""
        revision_id = parse_global_id(Prefix.REVISION, input_.revision_id, field="revision_id")
        async with info.context.writing() as session:
            model_id = await revisions.model_of(session, revision_id=revision_id)
            move = await aliases.point_alias(
                session,
                model_id=model_id,
                name=input_.alias,
                revision_id=revision_id,
                actor_id=(await info.context.principal()).user_id,
                reason=input_.reason,
            )
        return PointModelAliasPayload(alias=_shown(move))

    @mutation("Let an alias name again what it named before, in one step. For administrators.")
    async def roll_back_model_alias(
        self, info: Info, input_: RollBackModelAliasInput
    ) -> RollBackModelAliasPayload:
        """Offers and machines follow it without a gap."""
        async with info.context.writing() as session:
            moves = await aliases.roll_back(
                session,
                model_id=parse_global_id(Prefix.MODEL, input_.model_id, field="model_id"),
                name=input_.alias,
                quantization=input_.quantization,
                actor_id=(await info.context.principal()).user_id,
                reason=input_.reason,
            )
        return RollBackModelAliasPayload(aliases=[_shown(move) for move in moves])


def _shown(move: aliases.AliasMove) -> ModelAlias:
    return ModelAlias(name=move.name, quantization=move.quantization, revision_uuid=move.after.id)
