"""Open subscriptions: how many there may be, and whether whoever opened them still may.

One task per process asks again, for all open subscriptions, what was asked when each began: is the credential good, is
the rule of its root field met? Who fails is told why by a coded error, and the subscription ends. A few statements for
hundreds of subscriptions; while the database is away nobody is turned out, except whose token has expired.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog

from raymart_core.clock import Clock, SystemClock
from raymart_core.errors import DomainError, NotAuthenticated, Overloaded, Unavailable
from raymart_graphql.context import Client, Operation
from raymart_graphql.outage import DATABASE_AWAY
from raymart_graphql.principal import Principal, principals_of
from raymart_graphql.reading import Reading
from raymart_marketplace.accounts.authenticator import Authenticator, Known
from raymart_marketplace.accounts.standing import good_credentials
from raymart_marketplace.db.session import Sessions

if TYPE_CHECKING:
    from raymart_graphql.loaders import Loaders

log = structlog.get_logger(__name__)

SWEEP_S = 2.0
"""Pause between two sweeps. What ended is noticed within this and a sweep's own time; 5 s are promised."""
BATCH_MAX = 500
"""Subscriptions that are checked at once."""
PER_PRINCIPAL_MAX = 1_000
PER_PROCESS_MAX = 10_000
RETRY_AFTER_S = 30


class Rule(Protocol):
    """As `permissions.Rule`, which stands on this module."""

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Raises: DomainError for who may not."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Open:
    """One open subscription."""

    client: Client
    known: Known
    """What its credential stood for when it began."""
    principal: Hashable
    rule: Rule
    source: object
    arguments: Mapping[str, Any]
    make_loaders: "Callable[[Reading], Loaders]"
    question: Hashable
    """What is asked of whom; the same for subscriptions that are allowed or not together."""
    waiting: asyncio.Task[Any] | None = None
    """Who waits for its next event, while somebody does."""
    ended: DomainError | None = None


class Watch:
    """The open subscriptions of one process."""

    def __init__(
        self,
        sessions: Sessions,
        authenticator: Authenticator,
        *,
        per_principal_max: int = PER_PRINCIPAL_MAX,
        per_process_max: int = PER_PROCESS_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._sessions = sessions
        self._authenticator = authenticator
        self._per_principal_max = per_principal_max
        self._per_process_max = per_process_max
        self._clock = clock or SystemClock()
        self._open: set[_Open] = set()
        self._by_principal: Counter[Hashable] = Counter()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._task = asyncio.create_task(self._sweep_forever(), name="subscription-watch")

    async def stop(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def __len__(self) -> int:
        """Open subscriptions."""
        return len(self._open)

    async def watched(
        self,
        operation: Operation,
        events: AsyncGenerator[Any, None],
        *,
        rule: Rule,
        source: object,
        arguments: Mapping[str, Any],
    ) -> AsyncGenerator[Any, None]:
        """`events` for as long as `rule` is met.

        Raises: Overloaded over a limit; NotAuthenticated or Forbidden once that is what a new subscription would get.
        """
        known = await self._authenticator.known(operation.client.authorization)
        whose = _whose(known)
        this = _Open(
            client=operation.client,
            known=known,
            principal=whose,
            rule=rule,
            source=source,
            arguments=arguments,
            make_loaders=type(operation.loaders),
            question=(operation.client.authorization, id(rule), repr(arguments)),
        )
        self._admit(this)
        try:
            async with aclosing(events):
                while True:
                    try:
                        event = await self._next(this, events)
                    except StopAsyncIteration:
                        return
                    yield event
        finally:
            self._open.discard(this)
            self._by_principal[whose] -= 1
            if not self._by_principal[whose]:
                del self._by_principal[whose]

    def _admit(self, this: _Open) -> None:
        for there_are, limit, whose in (
            (len(self._open), self._per_process_max, "this server"),
            (self._by_principal[this.principal], self._per_principal_max, "you"),
        ):
            if there_are >= limit:
                raise Overloaded(
                    f"{whose} may have {limit} open subscriptions; close some, or connect again later",
                    retry_after_s=RETRY_AFTER_S,
                )
        self._open.add(this)
        self._by_principal[this.principal] += 1

    async def _next(self, this: _Open, events: AsyncGenerator[Any, None]) -> object:
        """The next event. Raises: StopAsyncIteration, and what ended it."""
        if this.ended is not None:
            raise this.ended
        task = this.waiting = asyncio.current_task()
        assert task is not None
        try:
            return await anext(events)
        except asyncio.CancelledError:
            # As asyncio.timeout does: the cancellation was ours, and ends here.
            ended: DomainError | None = this.ended
            if ended is None or task.uncancel() > 0:
                raise
            raise ended from None
        finally:
            this.waiting = None

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            opened = list(self._open)
            for start in range(0, len(opened), BATCH_MAX):
                try:
                    await self._check(opened[start : start + BATCH_MAX])
                except Exception:
                    # The next sweep must come.
                    log.exception("watch.failed")

    async def _check(self, opened: Sequence[_Open]) -> None:
        now = self._clock.now()
        reading = Reading(self._sessions)
        reading.confinement = None  # It asks about many tenants' people; what they may, the rule says.
        try:
            access = await self._access(opened, reading)
            alike: dict[Hashable, list[_Open]] = {}
            for each in opened:
                alike.setdefault(each.question, []).append(each)
            errors = await asyncio.gather(
                *(self._error_of(several[0], access, now) for several in alike.values())
            )
        finally:
            await reading.end()
        for several, error in zip(alike.values(), errors, strict=True):
            if error is not None:
                for each in several:
                    _end(each, error)

    async def _access(self, opened: Sequence[_Open], reading: Reading) -> "_Access | None":
        """As the database has it now; None while it is away."""
        known = {id(each.known): each.known for each in opened}.values()
        people_ids = {each.claims.user_id for each in known if each.claims is not None}
        try:
            async with reading.session() as session:
                is_good = await good_credentials(session, known)
                people = await principals_of(session, people_ids)
        except DATABASE_AWAY:
            return None
        return _Access(
            is_good=is_good, people=people, reading=reading, loaders=opened[0].make_loaders(reading)
        )

    async def _error_of(self, this: _Open, access: "_Access | None", now: datetime) -> DomainError | None:
        """Why it ends; None while it goes on."""
        try:
            principal = _principal(this.known, access, now)
            if access is not None and principal is not None:
                operation = Operation(
                    client=this.client, reading=access.reading, loaders=access.loaders, _principal=principal
                )
                await this.rule.check(operation, this.source, this.arguments)
        except Unavailable:
            return None
        except DomainError as error:
            return error
        except DATABASE_AWAY:
            return None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    """Who may what, read for many subscriptions together."""

    is_good: Callable[[Known], bool]
    people: Mapping[UUID, Principal]
    reading: Reading
    loaders: "Loaders"


def _principal(known: Known, access: _Access | None, now: datetime) -> Principal | None:
    """Who it is now; None while the database cannot say. Raises: NotAuthenticated."""
    claims = known.claims
    if claims is not None and claims.expires_at <= now:
        raise NotAuthenticated("the access token has expired; subscribe again with a new one")
    if access is None:
        return None
    if not access.is_good(known):
        raise NotAuthenticated("the key or log-in was ended, and its subscriptions with it")
    if claims is None:
        return Principal(caller=known.caller)
    if claims.user_id not in access.people:
        raise NotAuthenticated("this access token's user no longer exists or is disabled")
    return access.people[claims.user_id]


def _whose(known: Known) -> Hashable:
    """Who is counted: a person or a key."""
    if known.claims is not None:
        return known.claims.user_id
    assert known.caller is not None
    return known.caller.api_key_id


def _end(this: _Open, error: DomainError) -> None:
    if this.ended is None:
        this.ended = error
        log.info("subscription.ended", code=error.code, request_id=this.client.request_id)
        if this.waiting is not None:
            this.waiting.cancel()
