"""Entries of the audit log as the schema shows them, and which are looked for."""

import json
from datetime import datetime
from typing import Annotated

import strawberry

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.enums import ActorKind, AuditOutcome
from raymart_graphql.fields import resolved
from raymart_graphql.keyset import Listing
from raymart_graphql.relay import global_id
from raymart_graphql.scalars import BigInt
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.audit import AuditEntry as Row
from raymart_marketplace.audit import AuditOrigin
from raymart_marketplace.audit.redaction import id_of
from raymart_marketplace.audit.search import AuditFilter as Wanted
from raymart_marketplace.audit.search import actor_of, is_of_its_own, subject_of

TEXT_LENGTH_MAX = 100


@strawberry.type(description="Something that somebody changed, or was not allowed to change.")
class AuditEntry:
    """Never changes; `raymart audit verify` shows that it did not."""

    row: strawberry.Private[Row]
    sequence: BigInt = strawberry.field(description="Number of the entry; later ones have greater numbers.")
    at: datetime = strawberry.field(description="When.")
    action: str = strawberry.field(
        description="The mutation's name, or the operator's command, such as `raymart budget set`."
    )
    outcome: AuditOutcome = strawberry.field(description="What became of it.")
    actor_kind: ActorKind = strawberry.field(description="What kind of actor it was.")
    actor: str | None = strawberry.field(
        description="Id of the person, key or node, or the name of the operator or part of the marketplace; null for nobody known."
    )
    acting_organization_id: strawberry.ID | None = strawberry.field(
        description="The organization in whose role the actor acted; null where there is none."
    )
    organization_id: strawberry.ID | None = strawberry.field(
        description="The organization whose things were changed; null where there is none."
    )
    subject_id: strawberry.ID | None = strawberry.field(
        description="What was acted on; null where nothing has an id."
    )
    request_id: strawberry.ID | None = strawberry.field(
        description="The HTTP request, as its `x-request-id` header has it; null for what came by another way."
    )
    session_id: strawberry.ID | None = strawberry.field(
        description="The session of the person; null where there was none."
    )
    detail: str = strawberry.field(
        description="JSON: `input` as it was asked and `changes` of rows, with secrets, names and free text left out."
    )

    @classmethod
    def of(cls, row: Row) -> "AuditEntry":
        """`row` as the API shows it."""
        subject = subject_of(row)
        return cls(
            row=row,
            sequence=BigInt(row.id),
            at=row.created_at,
            action=row.action,
            outcome=row.outcome,
            actor_kind=row.actor_kind,
            actor=actor_of(row),
            acting_organization_id=(
                None
                if row.acting_organization_id is None
                else global_id(Prefix.ORGANIZATION, row.acting_organization_id)
            ),
            organization_id=(
                None if row.organization_id is None else global_id(Prefix.ORGANIZATION, row.organization_id)
            ),
            subject_id=None if subject is None else strawberry.ID(subject),
            request_id=None if row.request_id is None else global_id(Prefix.REQUEST, row.request_id),
            session_id=None if row.session_id is None else global_id(Prefix.SESSION, row.session_id),
            detail=json.dumps(row.detail),
        )

    @resolved(
        "Network address that it came from; null when that is unknown or erased, or another organization's people acted."
    )
    async def address(self, info: Info) -> str | None:
        """From the part of the log that can be forgotten."""
        origin = await self._origin(info)
        return None if origin is None else origin.address

    @resolved("What the client called itself; null when that is unknown, erased, or not for the viewer.")
    async def user_agent(self, info: Info) -> str | None:
        """As `address`."""
        origin = await self._origin(info)
        return None if origin is None else origin.user_agent

    async def _origin(self, info: Info) -> AuditOrigin | None:
        principal = await info.context.principal()
        if not is_of_its_own(self.row) and not principal.may_in_market(Permission.PLATFORM_AUDIT_READ):
            return None
        return await info.context.loaders.audit.origin.load(self.row.id)


@strawberry.input(description="Which entries. What is left out is no wish; every condition holds at once.")
class AuditFilter:
    """As a `Wanted`, but for whose things were changed."""

    action: str | None = strawberry.field(default=None, description="The mutation or command.")
    actor: str | None = strawberry.field(
        default=None, description="Id of a person, key or node, or the name of an operator."
    )
    subject_id: strawberry.ID | None = strawberry.field(
        default=None, description="Something that the act named or changed, its subject among them."
    )
    outcome: AuditOutcome | None = strawberry.field(default=None, description="What became of it.")
    since: datetime | None = strawberry.field(default=None, description="At this moment or later.")
    until: datetime | None = strawberry.field(default=None, description="Before this moment.")

    def wanted(self) -> Wanted:
        """Raises: InvalidRequest for a subject that is no id, or too long a text."""
        actor = None if self.actor is None else id_of(self.actor)
        subject = None if self.subject_id is None else id_of(self.subject_id)
        if self.subject_id is not None and subject is None:
            raise InvalidRequest(
                f"{self.subject_id[:TEXT_LENGTH_MAX]!r} is no id; ids look like key_0199...",
                param="subjectId",
            )
        for name, text in (("action", self.action), ("actor", self.actor)):
            if text is not None and len(text) > TEXT_LENGTH_MAX:
                raise InvalidRequest(f"at most {TEXT_LENGTH_MAX} characters, not {len(text)}", param=name)
        return Wanted(
            action=self.action,
            actor_id=None if actor is None else actor[1],
            actor_name=self.actor if actor is None else None,
            mention=None if subject is None else subject[1],
            outcome=self.outcome,
            since=self.since,
            until=self.until,
        )


Entries = Annotated[AuditFilter | None, strawberry.argument(description="Which entries; all without it.")]


def listing(wanted: Wanted) -> Listing[Row, AuditEntry]:
    """Entries by number, newest first."""
    return Listing(
        name="audit_entries",
        entity=Row,
        key=Row.id,
        show=AuditEntry.of,
        newest_first=True,
        where=wanted.conditions(),
    )
