"""`/admin/v1`: how the marketplace is doing, for the platform's staff and their monitoring.

`/health` and `/ready` tell a supervisor whether to restart or route to this process; this tells a person, or a script
with a person's token, which part ails and how badly. Every part is asked at once, each within its own time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from sqlalchemy import text

from raymart_billing.vital_signs import read_signs
from raymart_core.errors import Forbidden, NotAuthenticated
from raymart_core.ids import Prefix, show
from raymart_graphql.health import Readiness
from raymart_graphql.outage import DATABASE_AWAY
from raymart_graphql.principal import identify
from raymart_graphql.reading import Reading
from raymart_graphql.rest.failures import failures
from raymart_graphql.services import Services
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.shared_state import REDIS_AWAY

PART_TIMEOUT_S = 3.0


class PartState(StrEnum):
    """How one part does."""

    OK = "ok"
    ALARM = "alarm"
    """It works, and somebody should look."""
    AWAY = "away"
    """It does not answer."""


class PartReply(BaseModel):
    """One part of the marketplace."""

    name: str
    state: PartState
    latency_ms: float = Field(description="How long it took to ask.")
    detail: str = Field(default="", description="What is wrong, and where to look.")


class HealthReply(BaseModel):
    """All parts; `state` is the worst of theirs."""

    state: PartState
    parts: list[PartReply]


class SignReply(BaseModel):
    """One vital sign of the money, as `/metrics` shows it."""

    name: str
    label: str | None
    value: float
    alarm_above: float
    alarms: bool
    about: str


class LiveEndpointReply(BaseModel):
    """What can be routed to now, from the process that answers."""

    id: str
    model: str
    provider: str
    node: str
    region: str
    capacity: int
    running: int
    quarantined: bool


Check = Callable[[], Awaitable[Sequence[str]]]
"""Asks one part; what is wrong with it, in words."""


def operations_router(services: Services) -> APIRouter:
    """The routes of `/admin/v1`, each for the platform's administrators and support."""
    operations = OperationsApi(services)
    bearer = HTTPBearer(
        scheme_name="staff", description="An administrator's access token, from `login`.", auto_error=False
    )
    router = APIRouter(
        prefix="/admin/v1",
        tags=["Operations"],
        dependencies=[Depends(bearer), Depends(operations.only_staff)],
        responses=failures(401, 403, 503),
    )
    router.get("/health", operation_id="getPlatformHealth")(operations.health)
    router.get("/signs", operation_id="listVitalSigns")(operations.signs)
    router.get("/endpoints", operation_id="listLiveEndpoints")(operations.endpoints)
    return router


class OperationsApi:
    """Answers operators."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._readiness = Readiness(services)

    async def only_staff(self, request: Request) -> None:
        """Refuse everybody but the platform's staff. Raises: NotAuthenticated, Forbidden."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise NotAuthenticated("send `Authorization: Bearer <access token>` of an administrator")
        reading = Reading(self._services.sessions)
        try:
            principal = await identify(authorization.encode("latin-1"), self._services.authenticator, reading)
        finally:
            await reading.aclose()
        if not principal.may_in_market(Permission.PLATFORM_WORK_READ):
            raise Forbidden("this is for the marketplace's administrators and support")

    async def health(self) -> HealthReply:
        """How each part of the marketplace does."""
        checks: dict[str, Check] = {
            "database": self._database,
            "migrations": self._readiness.missing,
            "redis": self._redis,
            "broker": self._broker,
            "money": self._money,
            "supply": self._supply,
        }
        parts = list(await asyncio.gather(*(_asked(name, check) for name, check in checks.items())))
        worst = max((part.state for part in parts), key=list(PartState).index)
        return HealthReply(state=worst, parts=parts)

    async def signs(self) -> list[SignReply]:
        """The vital signs of the money, each with the value above which it alarms."""
        async with self._services.sessions() as session:
            readings = await read_signs(session)
        return [
            SignReply(
                name=reading.name,
                label=reading.label,
                value=reading.value,
                alarm_above=reading.sign.alarm_above,
                alarms=reading.alarms,
                about=reading.sign.about,
            )
            for reading in readings
        ]

    async def endpoints(self) -> list[LiveEndpointReply]:
        """What can be routed to now."""
        return [
            LiveEndpointReply(
                id=show(Prefix.ENDPOINT, endpoint.id),
                model=endpoint.model_slug,
                provider=endpoint.provider_slug,
                node=endpoint.node_name,
                region=endpoint.region,
                capacity=endpoint.capacity,
                running=endpoint.running,
                quarantined=endpoint.quarantined,
            )
            for endpoint in self._services.directory.all_live()
        ]

    async def _database(self) -> Sequence[str]:
        async with self._services.sessions() as session:
            await session.execute(text("select 1"))
        return await self._readiness.warnings()

    async def _redis(self) -> Sequence[str]:
        await self._services.redis.ping()
        return ()

    async def _broker(self) -> Sequence[str]:
        await asyncio.to_thread(_reach_broker, self._services.settings.broker_url)
        return ()

    async def _money(self) -> Sequence[str]:
        async with self._services.sessions() as session:
            readings = await read_signs(session)
        return [
            f"{reading.name}{f'[{reading.label}]' if reading.label else ''} is {reading.value:g}"
            for reading in readings
            if reading.alarms
        ]

    async def _supply(self) -> Sequence[str]:
        live = self._services.directory.all_live()
        if not live:
            return ["no live endpoint in this process: nothing can be sold"]
        quarantined = sum(endpoint.quarantined for endpoint in live)
        return [f"{quarantined} of {len(live)} endpoints are quarantined"] if quarantined else []


def _reach_broker(url: str) -> None:
    """Blocks. Raises: OSError."""
    # 10 MB that a process needs which asks or hints, in the thread that does.
    from raymart_billing.work.broker import reach_broker  # noqa: PLC0415

    reach_broker(url, timeout_s=PART_TIMEOUT_S / 2)


async def _asked(name: str, check: Check) -> PartReply:
    begun = time.perf_counter()
    state, detail = PartState.OK, ""
    try:
        async with asyncio.timeout(PART_TIMEOUT_S):
            wrong = await check()
    except (*DATABASE_AWAY, *REDIS_AWAY) as error:
        state, detail = PartState.AWAY, f"does not answer: {type(error).__name__}"
    else:
        if wrong:
            state, detail = PartState.ALARM, "; ".join(wrong)
    return PartReply(
        name=name, state=state, detail=detail, latency_ms=round((time.perf_counter() - begun) * 1000, 1)
    )
