"""Who is calling: from an `Authorization` header to a `Caller`, on the path of every request.

A credential is looked up once per `ttl_s` and then answered from memory. Nothing is written, whatever the outcome; that a
key was used is noted in memory (`key_uses`).

While the database is away, a credential that was good at its last look-up is believed for up to `outage_grace_s` more: a
gateway admits and records through a restart of the database, and must not turn away whom it knows meanwhile.

Not guaranteed: a key or session that another process revokes is honoured here for up to `ttl_s`, and for `outage_grace_s`
more if the database cannot be asked. In the process that revokes it, `forget` and its like end it at once, and `forgetting`
tells the others.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import NamedTuple, cast
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, case, exists, null, select, tuple_
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Forbidden, NotAuthenticated, Unavailable
from raymart_marketplace.accounts.api_keys import KEY_PREFIX, hash_key, is_key
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.errors import EmailNotVerified
from raymart_marketplace.accounts.key_uses import KeyUses
from raymart_marketplace.accounts.living_key import living_key
from raymart_marketplace.accounts.models import (
    Membership,
    Organization,
    OrganizationKind,
    Project,
    Role,
    User,
)
from raymart_marketplace.accounts.permissions import Permission, roles_with
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.accounts.service import DEFAULT_PROJECT_SLUG
from raymart_marketplace.accounts.service_accounts import scopes_within
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.accounts.sessions import is_open
from raymart_marketplace.accounts.tokens import TOKEN_BYTES_MAX, AccessTokens, Claims
from raymart_marketplace.accounts.ttl_cache import TtlCache
from raymart_marketplace.db.session import Sessions

log = structlog.get_logger(__name__)

LOOKUP_TIMEOUT_S = 5.0
OUTAGE_GRACE_S = 30.0
"""Longer than a gateway's leases last without the database: they end the grace, not this."""
REFUSAL_TTL_S = 1.0
"""How long a wrong credential is remembered, so that a client's retry loop does not reach the database."""

_MISSING = "no credentials; send `Authorization: Bearer <API key or access token>`"
_WRONG_KEY = "the API key is wrong, expired or revoked; create another and send it as `Authorization: Bearer rm_live_...`"
_NEEDS_TOKEN = (
    "this needs a user's access token, not an API key; log in with an e-mail address and a password"
)
_NO_USER = "this access token's session has ended, or its user is gone or disabled; log in again"
_NO_ORGANIZATION = "no organization lets you ask for inference; ask an owner for the role 'developer'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What is known of the person behind an access token, and of the session that it is of."""

    is_verified: bool
    """Whether the address is shown to be theirs."""
    second_factor_at: datetime | None
    """When a second factor was last proven in the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a credential stands for."""

    caller: Caller | None
    """None for a user whom no organization lets ask for inference."""
    claims: Claims | None
    """None for an API key."""
    person: Person | None
    """None for an API key."""
    fresh_s: float
    """Seconds until the credential itself expires."""


class _Remembered(NamedTuple):
    known: Known
    fresh_until: float
    """From then on the database is asked again; on the authenticator's clock."""


LookUp = Callable[[], Coroutine[None, None, Known | None]]
"""Asks the database what a credential stands for."""


class Authenticator:
    """Answers who is calling. One per process; for one event loop."""

    def __init__(
        self,
        sessions: Sessions,
        tokens: AccessTokens,
        *,
        ttl_s: float = 10.0,
        outage_grace_s: float = OUTAGE_GRACE_S,
        size_max: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember at most `size_max` credentials, each for at most `ttl_s` seconds of `monotonic`.

        For `outage_grace_s` more while the database is away, but never beyond the credential's own end.
        """
        self._sessions = sessions
        self._tokens = tokens
        self._ttl_s = ttl_s
        self._outage_grace_s = outage_grace_s
        self._monotonic = monotonic
        self._known: TtlCache[_Remembered] = TtlCache(size_max=size_max, monotonic=monotonic)
        # Apart from the known ones, so that a flood of invented keys cannot push those out.
        self._refused: TtlCache[str] = TtlCache(size_max=size_max, monotonic=monotonic)
        self._looking_up: dict[bytes, asyncio.Task[Known]] = {}
        self._generation = 0
        self._is_away = False
        """Whether the last look-up found no database."""
        self.uses = KeyUses()
        """Keys that were used, for `KeyUseWriter`."""

    async def caller(self, authorization: bytes | None) -> Caller:
        """The customer behind an API key or a user's access token, given the header's value.

        A user calls for the first organization that lets them, customers' before others, and its default project.
        Raises: NotAuthenticated, Forbidden for a user without such an organization, Unavailable.
        """
        known = await self._resolve(_credential(authorization))
        if known.caller is None:
            if known.person is not None and not known.person.is_verified:
                raise EmailNotVerified
            raise Forbidden(_NO_ORGANIZATION)
        if known.caller.api_key_id is not None:
            self.uses.note(known.caller.api_key_id)
        return known.caller

    async def user(self, authorization: bytes | None) -> Claims:
        """The user behind an access token. Raises: NotAuthenticated (also for an API key), Unavailable."""
        credential = _credential(authorization)
        if credential.startswith(KEY_PREFIX):
            raise NotAuthenticated(_NEEDS_TOKEN)
        known = await self._resolve(credential)
        assert known.claims is not None
        return known.claims

    async def person(self, authorization: bytes | None) -> Person:
        """What is known of the person behind an access token. Raises: as `user`."""
        await self.user(authorization)
        known = await self._resolve(_credential(authorization))
        assert known.person is not None
        return known.person

    async def known(self, authorization: bytes | None) -> Known:
        """What a credential stands for; that is no use of a key. Raises: NotAuthenticated, Unavailable."""
        return await self._resolve(_credential(authorization))

    def forget(self, api_key_id: UUID) -> None:
        """End a revoked key here and now. Call it after the commit."""
        self._drop(lambda known: known.caller is not None and known.caller.api_key_id == api_key_id)

    def forget_project(self, project_id: UUID) -> None:
        """Take up a project's changed settings here and now. Call it after the commit."""
        self._drop(lambda known: known.caller is not None and known.caller.project_id == project_id)

    def forget_user(self, user_id: UUID) -> None:
        """End a disabled user's tokens, or take up a changed membership, here and now. Call it after the commit."""
        self._drop(lambda known: known.claims is not None and known.claims.user_id == user_id)

    def forget_session(self, session_id: UUID) -> None:
        """End a revoked session's tokens here and now. Call it after the commit."""
        self._drop(lambda known: known.claims is not None and known.claims.session_id == session_id)

    def _drop(self, matches: Callable[[Known], bool]) -> None:
        """Forget what `matches`, and keep no answer of a look-up that began before now."""
        self._generation += 1
        self._looking_up.clear()
        self._known.drop_where(lambda remembered: matches(remembered.known))

    async def _resolve(self, credential: str) -> Known:
        """From memory, else from the database. Raises: NotAuthenticated, Unavailable."""
        digest = hashlib.sha256(credential.encode()).digest()
        remembered = self._known.get(digest)
        if remembered is not None and self._monotonic() < remembered.fresh_until:
            return remembered.known
        refusal = self._refused.get(digest)
        if refusal is not None:
            raise NotAuthenticated(refusal)
        looking_up = self._once(digest, credential)
        if remembered is not None and self._is_away:
            # Nobody waits for a database that may not even refuse; the look-up notices when it is back.
            return remembered.known
        try:
            # Shielded: one caller's leaving must not fail the others.
            return await asyncio.shield(looking_up)
        except Unavailable:
            # Not when it was revoked here meanwhile.
            if remembered is None or self._known.get(digest) is not remembered:
                raise
            return remembered.known

    def _look_up_for(self, credential: str) -> LookUp:
        """How to look `credential` up. Raises: NotAuthenticated for what needs no database to be refused."""
        if not credential.startswith(KEY_PREFIX):
            return partial(self._by_claims, self._tokens.verify(credential))
        if not is_key(credential):
            raise NotAuthenticated(_WRONG_KEY)
        return partial(self._by_key, hash_key(credential))

    def _once(self, digest: bytes, credential: str) -> asyncio.Task[Known]:
        """Look `credential` up, or the same look-up that is running: a busy key's expiry costs one query, not hundreds.

        Raises: NotAuthenticated for what needs no database to be refused.
        """
        task = self._looking_up.get(digest)
        if task is None:
            task = asyncio.create_task(self._learn(digest, credential, self._look_up_for(credential)))
            self._looking_up[digest] = task
            task.add_done_callback(lambda done: self._looked_up(digest, done))
        return task

    async def _learn(self, digest: bytes, credential: str, look_up: LookUp) -> Known:
        """Ask the database, and remember its answer. Raises: NotAuthenticated, Unavailable."""
        generation = self._generation
        found = await look_up()
        if found is None:
            refusal = _WRONG_KEY if credential.startswith(KEY_PREFIX) else _NO_USER
            self._known.drop(digest)
            self._refused.put(digest, refusal, ttl_s=REFUSAL_TTL_S)
            raise NotAuthenticated(refusal)
        # A look-up that began before a revocation may have read the row as it was: good for one answer, not to keep.
        if generation == self._generation:
            remembered = _Remembered(found, self._monotonic() + min(self._ttl_s, found.fresh_s))
            self._known.put(digest, remembered, ttl_s=min(self._ttl_s + self._outage_grace_s, found.fresh_s))
        return found

    def _looked_up(self, digest: bytes, task: asyncio.Task[Known]) -> None:
        """Make room for the next look-up."""
        if self._looking_up.get(digest) is task:
            del self._looking_up[digest]
        if not task.cancelled():
            task.exception()  # Retrieved here too, for the case that every waiter has left.

    async def _by_key(self, key_hash: bytes) -> Known | None:
        """The living key with this hash, its project and its organization."""
        async with self._reading() as session:
            row = (await session.execute(living_key(key_hash))).first()
        if row is None:
            return None
        key_id, project_id, organization_id, scopes, models, keeps_prompts, cache_s, kind, role, seconds = row
        granted = frozenset(map(KeyScope, scopes))
        # A service account's role may have changed since; the outer join's null, for no account, is not in its type.
        if cast("Role | None", role) is not None:
            granted &= scopes_within(kind, role)
        caller = Caller(
            organization_id=organization_id,
            project_id=project_id,
            api_key_id=key_id,
            user_id=None,
            scopes=granted,
            models=None if models is None else frozenset(models),
            keeps_prompts=keeps_prompts,
            answer_cache_s=cache_s,
        )
        # Null for a key without an end, which the expression's type does not tell.
        fresh_s = cast("Decimal | None", seconds)
        return Known(
            caller=caller, claims=None, person=None, fresh_s=math.inf if fresh_s is None else float(fresh_s)
        )

    async def _by_claims(self, claims: Claims) -> Known | None:
        """The token's user, unless disabled, with the organization that they call for."""
        customers_first = case((Organization.kind == OrganizationKind.CUSTOMER, 0), else_=1)
        may_infer = tuple_(Organization.kind, Membership.role).in_(roles_with(Permission.INFER))
        project = and_(
            Project.organization_id == Membership.organization_id,
            Project.slug == DEFAULT_PROJECT_SLUG,
            may_infer,
        )
        statement = (
            select(
                Project.organization_id,
                Project.id,
                Project.answer_cache_s,
                User.email_verified_at,
                _second_factor_at(claims),
            )
            .select_from(User)
            .outerjoin(Membership, Membership.user_id == User.id)
            .outerjoin(Organization, Organization.id == Membership.organization_id)
            .outerjoin(Project, project)
            .where(User.id == claims.user_id, User.disabled_at.is_(None), *_session_lives(claims))
            .order_by(Project.id.is_(None), customers_first, Membership.id)
            .limit(1)
        )
        async with self._reading() as session:
            row = (await session.execute(statement)).first()
        if row is None:
            return None
        # Outer joins: both columns may be null, which their types do not tell.
        organization_id, project_id, cache_s, verified_at, second_factor_at = cast(
            "tuple[UUID | None, UUID | None, int | None, datetime | None, datetime | None]", row
        )
        person = Person(is_verified=verified_at is not None, second_factor_at=second_factor_at)
        caller = None
        if organization_id is not None and project_id is not None and person.is_verified:
            caller = Caller(
                organization_id=organization_id,
                project_id=project_id,
                api_key_id=None,
                user_id=claims.user_id,
                answer_cache_s=cache_s or 0,
            )
        return Known(caller=caller, claims=claims, person=person, fresh_s=self._tokens.seconds_left(claims))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncSession]:
        """A session to read with. Raises: Unavailable when the database does not answer in time."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S), self._sessions() as session:
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError, TimeoutError) as error:
            if not self._is_away:  # Once an outage: each request that comes meanwhile tries again.
                log.warning("authenticator.database_away", error=type(error).__name__)
            self._is_away = True
            raise Unavailable("accounts cannot be read for the moment; try again in a second") from error
        if self._is_away:
            log.warning("authenticator.database_back")
            self._is_away = False


def _session_lives(claims: Claims) -> Sequence[ColumnElement[bool]]:
    """That the session of a token is open; no condition for a token without one."""
    if claims.session_id is None:
        return ()
    session = exists().where(
        UserSession.id == claims.session_id, UserSession.user_id == claims.user_id, *is_open()
    )
    return (session,)


def _second_factor_at(claims: Claims) -> ColumnElement[datetime | None]:
    """When the token's session has last proven a second factor; null for a token without a session."""
    if claims.session_id is None:
        return cast("ColumnElement[datetime | None]", null())
    found = select(UserSession.second_factor_at).where(UserSession.id == claims.session_id)
    return found.scalar_subquery()


def _credential(authorization: bytes | None) -> str:
    """What follows "Bearer". Raises: NotAuthenticated when nothing does."""
    scheme, _, rest = (authorization or b"").partition(b" ")
    credential = rest.strip(b" ")
    if scheme.lower() != b"bearer" or not credential.isascii() or not 0 < len(credential) <= TOKEN_BYTES_MAX:
        raise NotAuthenticated(_MISSING)
    return credential.decode("ascii")
