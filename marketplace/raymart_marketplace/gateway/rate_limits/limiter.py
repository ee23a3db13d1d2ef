"""Limits of requests, tokens and concurrency: asked before a request is let in, put right when it is over.

    take() -- enough in hand at every level? --> let in: no call, no task, no lock
                 `- no --> one call of Redis for all levels: enough --> let in, with a little more in hand
                                                         `- not --> 429, and for as long no further call
                 `- Redis is away --> this process's part of each limit, until it is back

Tokens are not known before they are made. What is taken is a guess, and the difference to what was used is given back, or
taken beside, when the request ends: the mean over minutes is exact.

Bounds, while Redis is there: of requests at most the limit, and 1/30 of it, in a minute, over all processes (what lies in
hand is handed back after a second, and the bucket fills meanwhile). Of tokens, besides, what requests that run at one
time used beyond their guess. Of requests at once never more than the limit, unless a process could not reach Redis for
`SLOTS_TTL_S`. What is refused although it would just have been allowed: at most what other processes have in hand, a
sixteenth of what is left each, for a second. While Redis is away: each process's part, so about the limit in all.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from raymart_core.ids import new_id
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.rate_limits.buckets import SharedBuckets
from raymart_marketplace.gateway.rate_limits.limits import Kind, Level, Limits, RateLimited
from raymart_marketplace.gateway.rate_limits.share import Share

log = structlog.get_logger(__name__)

TICK_S = 1.0
GROUPS_MAX = 50_000
"""Callers that are remembered; more are served all the same, and their shares are made anew."""
IDLE_S = 60.0
WALK = 500


class LimitsOf(Protocol):
    """Knows the limits from memory; `book.LimitBook`."""

    @property
    def version(self) -> int:
        """Another one whenever any limit has changed."""

    def limits_of(self, caller: Caller) -> Sequence[tuple[Level, UUID, Limits]]:
        """The levels of `caller` at which anything is limited, the widest first."""


class Group:
    """The limits of one caller: its organization's, its project's and its key's, as far as there are any."""

    __slots__ = ("lock", "organization_id", "shares", "tokens_max", "version")

    def __init__(
        self, organization_id: UUID, shares: tuple[Share, ...], *, version: int, lock: asyncio.Lock
    ) -> None:
        self.organization_id = organization_id
        self.shares = shares
        self.version = version
        self.lock = lock
        """The organization's. One call at a time: who waits finds what the call before brought, and what one call counts
        of requests that run, no other counts as well."""
        limits = [share.limits.tokens_per_minute for share in shares]
        self.tokens_max = min((limit for limit in limits if limit is not None), default=0)
        """No request takes more: one that is longer than a minute's worth is let in, and paid off later."""


class Allowance:
    """What a request took; `settle` it once, whatever became of it."""

    __slots__ = ("_group", "_tokens")

    def __init__(self, group: Group, tokens: int) -> None:
        self._group: Group | None = group
        self._tokens = tokens

    def settle(self, tokens_used: int) -> None:
        """The request is over and has used so many tokens. A second time does nothing."""
        group, self._group = self._group, None
        if group is not None:
            for share in group.shares:
                share.settle(self._tokens - tokens_used)

    def undo(self) -> None:
        """The request was not let in after all: as if it had never come."""
        group, self._group = self._group, None
        if group is not None:
            for share in group.shares:
                share.settle(self._tokens)
                share.requests += 1


class RateLimiter:
    """Lets callers' requests in. One per process; for one event loop."""

    def __init__(
        self, limits: LimitsOf, buckets: SharedBuckets, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._buckets = buckets
        self._monotonic = monotonic
        self._process = new_id().hex
        self._groups: dict[UUID, Group] = {}
        self._shares: dict[UUID, Share] = {}
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to hand back every second what is not used."""
        self._ticker = asyncio.create_task(self._tick_forever(), name="limits.tick")

    async def stop(self) -> None:
        """Hand everything back."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None
            await self.tick(idle_s=0.0)

    async def take(self, caller: Caller, tokens: int) -> Allowance | None:
        """Count a request that may use `tokens`; None where nothing is limited. Raises: RateLimited."""
        group = self._group(caller)
        shares = group.shares
        if not shares:
            return None
        tokens = min(tokens, group.tokens_max)
        for share in shares:
            if not share.has(tokens):
                await self._fetch(group, tokens)
                break
        now = self._monotonic()
        for share in shares:
            share.take(tokens)
            share.used_at = now
        return Allowance(group, tokens)

    def shares_of(self, caller: Caller) -> Sequence[Share]:
        """How its limits stand, as far as this process knows."""
        return self._group(caller).shares

    async def tick(self, *, idle_s: float = TICK_S) -> None:
        """Hand back what was not used for `idle_s`, keep the slots of what runs, and forget who has not come for a minute."""
        if self._buckets.is_away:
            return
        await self._buckets.count_processes(self._process)
        now = self._monotonic()
        seen: set[UUID] = set()
        for number, (key, group) in enumerate(tuple(self._groups.items())):
            if number % WALK == WALK - 1:
                await asyncio.sleep(0)  # Fifty thousand take a while.
            due = [share for share in group.shares if share.id not in seen and _is_due(share, now, idle_s)]
            seen.update(share.id for share in due)
            if due and not self._buckets.is_away:
                async with group.lock:
                    await self._hand_back(group, due)
            if all(share.running == 0 and now - share.used_at > IDLE_S for share in group.shares):
                self._groups.pop(key, None)
        kept = {share.id for group in self._groups.values() for share in group.shares}
        self._shares = {key: share for key, share in self._shares.items() if key in kept or share.running}

    def _group(self, caller: Caller) -> Group:
        key = caller.api_key_id or caller.project_id
        group = self._groups.get(key)
        if group is None or group.version != self._limits.version:
            shares = tuple(self._share(*found) for found in self._limits.limits_of(caller))
            lock = self._locks.setdefault(caller.organization_id, asyncio.Lock())
            group = Group(caller.organization_id, shares, version=self._limits.version, lock=lock)
            if len(self._groups) >= GROUPS_MAX:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = group
        return group

    def _share(self, level: Level, id_: UUID, limits: Limits) -> Share:
        share = self._shares.get(id_)
        if share is None:
            share = Share(level=level, id=id_, limits=limits, known_at=self._monotonic())
            share.used_at = share.known_at
            self._shares[id_] = share
        elif share.limits != limits:
            share.limit_to(limits)
        return share

    async def _fetch(self, group: Group, tokens: int) -> None:
        """Have enough in hand at every level. Raises: RateLimited."""
        async with group.lock:
            short = [share for share in group.shares if not share.has(tokens)]
            if not short:
                return
            now = self._monotonic()
            for share in short:
                if now < share.refused_until:
                    raise _refusal(share, share.refused_kind, share.refused_until - now)
            if not await self._fetched(group, tokens):
                self._fetch_alone(group, tokens)

    async def _fetched(self, group: Group, tokens: int) -> bool:
        """Have enough from Redis; False when it is away. Raises: RateLimited."""
        if self._buckets.is_away:
            return False
        try:
            refused = await self._buckets.ask(
                group.organization_id, group.shares, process=self._process, requests=1, tokens=tokens
            )
        except ConnectionError:
            return False
        if refused is not None:
            raise _refusal(refused.share, refused.kind, refused.wait_s)
        return True

    def _fetch_alone(self, group: Group, tokens: int) -> None:
        """Raises: RateLimited."""
        now, processes = self._monotonic(), self._buckets.processes
        for share in group.shares:
            share.refill_alone(now, processes=processes)
        for share in group.shares:
            most = share.limits.tokens_per_minute
            enough = tokens if most is None else min(tokens, max(1.0, most / processes))
            if not share.has(enough):
                kind = share.short_of(enough)
                raise _refusal(share, kind, share.wait_alone_s(kind, enough, processes=processes))

    async def _hand_back(self, group: Group, shares: Sequence[Share]) -> None:
        with contextlib.suppress(ConnectionError):
            refused = await self._buckets.ask(
                group.organization_id, shares, process=self._process, requests=0, tokens=0
            )
            for share in shares if refused is not None else ():
                # Others have taken the slots meanwhile: what runs goes on, and no more is let in.
                share.slots = min(share.slots, float(share.running))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()


def _refusal(share: Share, kind: Kind, wait_s: float) -> RateLimited:
    limit = share.limits.of(kind)
    assert limit is not None
    return RateLimited(level=share.level, kind=kind, limit=limit, retry_after_s=max(1, math.ceil(wait_s)))


def _is_due(share: Share, now: float, idle_s: float) -> bool:
    """Whether it has something in hand that it does not use, or slots that would run out."""
    if share.limits.concurrent_requests is not None and share.running:
        return True
    has_something = any(
        limit is not None and held
        for limit, held in (
            (share.limits.requests_per_minute, share.requests),
            (share.limits.tokens_per_minute, share.tokens),
            (share.limits.concurrent_requests, share.slots),
        )
    )
    return has_something and now - share.used_at >= idle_s
