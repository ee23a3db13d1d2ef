"""What nodes are told of weights: which revisions to hold, and how to get the files of one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.wire.link import (
    FRAME_BYTES_MAX,
    REVISIONS_MAX,
    ArtifactAsk,
    ArtifactGrants,
    FileGrant,
    PeerGrant,
    encode,
)
from raymart_core.wire.peer_token import make_peer_token
from raymart_marketplace.catalog.grants import GrantedFile, RevisionGrant, load_grant
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import SERVED, ModelRevision
from raymart_marketplace.catalog.revisions import REGISTRY
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import Objects
from raymart_marketplace.supply.holders import Holder
from raymart_marketplace.supply.models import Node, Placement, Provider, ProviderState

PERMISSION_S = 3_600
"""How long a URL or a token opens an artifact; a node whose download lasts longer asks again."""
_PAGE_BYTES_MAX = FRAME_BYTES_MAX - 8 * 1024
"""Of the files in one message; the rest is for the manifest's other parts and the peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsDesk:
    """Answers the asks of all nodes."""

    sessions: Sessions
    objects: Objects
    keys: ModelKeys

    async def grant(self, node_id: UUID, digest: str) -> RevisionGrant:
        """All that the node needs of the revision. Raises: NotFound, Forbidden, Unavailable, SQLAlchemyError, OSError."""
        async with session_scope(self.sessions) as session:
            return await load_grant(session, node_id=node_id, digest=digest, keys=self.keys)

    async def page(self, grant: RevisionGrant, ask: ArtifactAsk, holders: Sequence[Holder]) -> ArtifactGrants:
        """As many files from `ask.first` on as one message holds, each with a fresh URL. Raises: Unavailable."""
        files: list[FileGrant] = []
        page_bytes = 0
        for file in grant.files[max(0, ask.first) :]:
            granted = await self._granted(file)
            page_bytes += len(encode(granted))
            if files and page_bytes > _PAGE_BYTES_MAX:
                break
            files.append(granted)
        return ArtifactGrants(
            ask=ask.ask,
            manifest=msgspec.structs.replace(grant.manifest, files=()),
            files_total=len(grant.files),
            first=ask.first,
            files=tuple(files),
            peers=tuple(_peer(holder, grant.digest) for holder in holders),
        )

    async def wanted(self, node_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[str]]:
        """Revisions from the registry that are placed on the nodes, first placed first; nothing for a node without any.

        Raises: SQLAlchemyError, OSError.
        """
        async with session_scope(self.sessions) as session:
            return await wanted_revisions(session, node_ids)

    async def keep_cached(self, node_id: UUID, digests: Sequence[str]) -> None:
        """Keep which revisions the node holds, for planning. Raises: SQLAlchemyError, OSError."""
        async with session_scope(self.sessions) as session:
            await session.execute(update(Node).where(Node.id == node_id).values(cached=list(digests)))

    async def _granted(self, file: GrantedFile) -> FileGrant:
        return FileGrant(
            path=file.path,
            size=file.size_bytes,
            sha256=file.sha256,
            stored_sha256=file.stored_sha256,
            stored_size=file.stored_bytes,
            url=await self.objects.signed_url(file.object_key, expires_s=PERMISSION_S),
            data_key=file.data_key,
        )


async def wanted_revisions(session: AsyncSession, node_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[str]]:
    """What the nodes should hold before, and while, they serve it."""
    statement = (
        select(Node.id, ModelRevision.digest)
        .join(Placement, Placement.revision_id == ModelRevision.id)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .where(
            Node.id.in_(node_ids),
            Node.revoked_at.is_(None),
            Provider.state == ProviderState.ACTIVE,
            Placement.desired.is_(True),
            ModelRevision.state.in_(SERVED),
            func.starts_with(ModelRevision.source, REGISTRY),
        )
        .order_by(Placement.id)
    )
    wanted: dict[UUID, list[str]] = {}
    for node_id, digest in await session.execute(statement):
        digests = wanted.setdefault(node_id, [])
        if len(digests) < REVISIONS_MAX:
            digests.append(digest)
    return wanted


def _peer(holder: Holder, digest: str) -> PeerGrant:
    expires_s = int(time.time()) + PERMISSION_S
    return PeerGrant(
        address=holder.address, token=make_peer_token(holder.secret, revision=digest, expires_s=expires_s)
    )
