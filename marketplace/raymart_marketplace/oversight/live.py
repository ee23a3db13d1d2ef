"""Suspensions and switches in this process's memory, so that no request asks the database for them.

Read again every two seconds, and at once in the process that changed something. While the database is away the last that
was read stays. Before the first read nothing is suspended and every feature stands as by default: a credential cannot be
looked up then either.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import Forbidden, Unavailable
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.oversight.models import SubjectKind, Suspension
from raymart_marketplace.oversight.switches import DEFAULTS, Feature, Switch, is_on, load_switches

log = structlog.get_logger()

REFRESH_S = 2.0
QUERY_TIMEOUT_S = 5.0
UNASKED = "raymart_unasked"
"""Execution option of statements that no request asked for; whoever counts a request's leaves them out."""
_KINDS = (SubjectKind.ORGANIZATION, SubjectKind.USER, SubjectKind.API_KEY)
"""What a caller consists of; providers leave routing instead."""


class Suspended(Forbidden):
    """The caller's organization, person or key is suspended."""

    code = "suspended"


class InferenceDisabled(Unavailable):
    """The marketplace has switched inference off."""

    code = "inference_disabled"


class LiveControls:
    """Who may be served, and which features are on. One per process; implements `gateway.admission.Admission`."""

    def __init__(self, sessions: Sessions, *, refresh_s: float = REFRESH_S) -> None:
        self._sessions = sessions
        self._refresh_s = refresh_s
        self._suspended: frozenset[UUID] = frozenset()
        self._switches: Mapping[Feature, Switch] = DEFAULTS
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read again every `refresh_s` seconds."""
        self._refresher = asyncio.create_task(self._refresh_forever(), name="controls.refresh")

    async def stop(self) -> None:
        """Stop reading."""
        if self._refresher is not None:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
            self._refresher = None

    def check(self, caller: Caller) -> None:
        """Let the caller's request in. Raises: Suspended, InferenceDisabled."""
        if not self.is_on(Feature.INFERENCE, caller.organization_id):
            raise InferenceDisabled("the marketplace serves no new requests for the moment; try again later")
        if not self._suspended:  # Mostly.
            return
        # Ids are UUIDv7: one is not an organization's and a key's as well.
        for who, subject_id in (
            ("organization", caller.organization_id),
            ("API key", caller.api_key_id),
            ("person", caller.user_id),
        ):
            if subject_id in self._suspended:
                raise Suspended(
                    f"this {who} is suspended; its `suspension` in GraphQL says why, ask the marketplace"
                )

    def is_on(self, feature: Feature, organization_id: UUID | None = None) -> bool:
        """Whether `feature` is on for the organization, or for everybody."""
        return is_on(feature, self._switches[feature], organization_id)

    async def refresh(self) -> None:
        """Read again, now. Raises: SQLAlchemyError, OSError, TimeoutError."""
        standing = select(Suspension.subject_id).where(
            Suspension.lifted_at.is_(None), Suspension.kind.in_(_KINDS)
        )
        async with asyncio.timeout(QUERY_TIMEOUT_S), self._sessions() as session:
            await session.connection(execution_options={UNASKED: True})
            suspended = frozenset(await session.scalars(standing))
            switches = await load_switches(session)
        self._suspended, self._switches = suspended, switches

    async def _refresh_forever(self) -> None:
        while True:
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError) as error:
                log.warning("controls.refresh_failed", reason=str(error)[:200])
            await asyncio.sleep(self._refresh_s)
