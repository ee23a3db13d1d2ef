"""`POST /webhooks/stripe`: what the card processor tells us. Anybody can reach it; only a signature is believed."""

import asyncio

import msgspec
import sqlalchemy.exc
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from raymart_billing import deposits
from raymart_billing.connections import OUTAGE
from raymart_core.clock import SystemClock
from raymart_core.errors import DomainError
from raymart_graphql.body import read_body
from raymart_graphql.services import Services
from raymart_marketplace import audit
from raymart_marketplace.audit import Act, Actor, ActorKind
from raymart_marketplace.db.session import session_scope

log = structlog.get_logger()

PATH = "/webhooks/stripe"
BODY_BYTES_MAX = 512_000
"""Stripe's events are a few kilobytes; their lists inside are cut by Stripe."""
RECORD_TIMEOUT_S = 8.0
APPLY_TIMEOUT_S = 5.0
"""Stripe waits 20 s at most, and takes what is late for lost."""


def webhook_routes(services: Services) -> list[Route]:
    """The route; 404 without a signing secret, as if it were not there."""
    endpoint = StripeWebhook(services)
    return [Route(PATH, endpoint.handle, methods=["POST"])]


class StripeWebhook:
    """Writes an event down and says 200; applying it at once is a courtesy that may fail."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clock = SystemClock()

    async def handle(self, request: Request) -> Response:
        """200 once the event is in the database, also when it was there; 400 without a good signature; else 503."""
        secrets = self._services.settings.stripe_webhook_secrets
        if not secrets:
            return _answer(404, "card top-ups are not configured here")
        try:
            body = await read_body(request.receive, bytes_max=BODY_BYTES_MAX)
            event = deposits.signed_event(
                body,
                header=request.headers.get("stripe-signature"),
                secrets=secrets,
                clock=self._clock,
            )
        except DomainError as error:
            return _answer(error.status, error.message)
        except ClientDisconnect:
            return _answer(400, "the connection closed before the event was read")
        actor = Actor(kind=ActorKind.SYSTEM, name="stripe")
        with audit.acting(Act(action=f"stripe {event.type}", actor=actor)):
            return await self._receive(event)

    async def _receive(self, event: deposits.Event) -> Response:
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S), session_scope(self._services.sessions) as session:
                waits = await deposits.receive(session, event)
        except (*OUTAGE, sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
            # Nothing was written, or it was and the next delivery is a repeat: Stripe sends it again either way.
            log.warning("stripe_event.not_recorded", event_id=event.id, error=type(error).__name__)
            return _answer(503, "the database is away for the moment; send it again")
        if waits:
            await self._apply(event.id)
        return _answer(200, "received")

    async def _apply(self, event_id: str) -> None:
        """Now, so that the customer does not wait. The outbox row of `receive` stands behind it, whatever happens here."""
        try:
            async with asyncio.timeout(APPLY_TIMEOUT_S), session_scope(self._services.sessions) as session:
                await deposits.apply_event(session, event_id)
        except deposits.TooEarly:
            log.info("stripe_event.early", event_id=event_id)
        except Exception:
            log.exception("stripe_event.not_applied", event_id=event_id)


def _answer(status: int, message: str) -> Response:
    return Response(
        msgspec.json.encode({"message": message}), status_code=status, media_type="application/json"
    )
