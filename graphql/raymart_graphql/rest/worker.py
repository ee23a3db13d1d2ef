"""`/worker/v1`: what a node may ask of the marketplace over plain HTTP, beside its link.

Tools on a provider's machine (installers, schedulers, monitoring) use it: they need no WebSocket. Inference, heartbeats
and telemetry travel over the link alone. A node sees itself and what its provider has, and nothing of customers.
"""

import base64
import binascii
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer

from raymart_core.errors import Conflict, DomainError, Forbidden, InvalidRequest, NotAuthenticated
from raymart_core.ids import Prefix, parse, show
from raymart_core.wire import link
from raymart_graphql.rest.bounded import BoundedRoute
from raymart_graphql.rest.failures import failures
from raymart_graphql.rest.worker_bodies import (
    BenchmarkCheckReply,
    ChallengeBody,
    ChallengeReply,
    EndpointReply,
    EnrolmentBody,
    EnrolmentReply,
    HardwareBody,
    NodeReply,
    OfferReply,
    PlacementReply,
    ProofBody,
    TokenReply,
)
from raymart_graphql.services import Services
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply import enrolment, placements
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.models import Node
from raymart_marketplace.supply.own_view import last_checks, own_nodes, own_offers
from raymart_marketplace.supply.refusal import LinkRefused

_REFUSALS: dict[str, type[DomainError]] = {
    "bad_token": NotAuthenticated,
    "revoked": Forbidden,
    "duplicate": Conflict,
}
"""Why an enrolment fails, as REST says it; anything else is a wrong request."""
_SIGNED_IN = Depends(
    HTTPBearer(scheme_name="node", description="From `POST /worker/v1/tokens`.", auto_error=False)
)


def worker_router(services: Services) -> APIRouter:
    """The routes of `/worker/v1`."""
    worker = WorkerApi(services)
    router = APIRouter(prefix="/worker/v1", tags=["Nodes"], route_class=BoundedRoute)
    router.post(
        "/enrolments",
        operation_id="enrolNode",
        status_code=201,
        responses=failures(400, 401, 403, 409, 413, 503),
    )(worker.enrol)
    router.post("/challenges", operation_id="createNodeChallenge", responses=failures(400, 413, 503))(
        worker.challenge
    )
    router.post("/tokens", operation_id="createNodeToken", responses=failures(400, 401, 413, 503))(
        worker.prove
    )
    for path, name, read in (
        ("/node", "getNode", worker.node),
        ("/placements", "listNodePlacements", worker.placements),
        ("/endpoints", "listNodeEndpoints", worker.endpoints),
        ("/nodes", "listProviderNodes", worker.nodes),
        ("/offers", "listProviderOffers", worker.offers),
        ("/benchmarks", "listNodeBenchmarkChecks", worker.benchmarks),
    ):
        router.get(path, operation_id=name, dependencies=[_SIGNED_IN], responses=failures(401, 503))(read)
    return router


class WorkerApi:
    """Answers nodes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._access = services.machine_access

    async def enrol(self, body: EnrolmentBody) -> EnrolmentReply:
        """Spend a join token: this machine becomes a node."""
        message = link.Enrol(
            version=link.LINK_VERSION,
            join_token=body.join_token,
            name=body.name,
            public_key=_public_key(body.public_key),
            hardware=_hardware(body.hardware),
        )
        try:
            with enrolment.enrolling():
                async with session_scope(self._services.sessions) as session:
                    node = await enrolment.enrol(session, message)
        except LinkRefused as refusal:
            raise _REFUSALS.get(refusal.reason, InvalidRequest)(refusal.message) from None
        return EnrolmentReply(node_id=show(Prefix.NODE, node.id))

    async def challenge(self, body: ChallengeBody) -> ChallengeReply:
        """Ask for something to sign."""
        challenge = await self._access.challenge(_node_id(body.node_id))
        return ChallengeReply(
            nonce=challenge.nonce,
            server=challenge.server,
            server_clock_ms=challenge.server_clock_ms,
            expires_in_s=challenge.expires_in_s,
        )

    async def prove(self, body: ProofBody) -> TokenReply:
        """Prove the node's key for an access token."""
        token = await self._access.prove(_node_id(body.node_id), nonce=body.nonce, signature=body.signature)
        return TokenReply(access_token=token.access_token, expires_in_s=token.expires_in_s)

    async def node(self, request: Request) -> NodeReply:
        """This node as the marketplace knows it."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
            node = await session.get_one(Node, identity.node_id)
        return self._node_reply(node, pool=identity.pool_slug, region=identity.region, identity=identity)

    async def nodes(self, request: Request) -> list[NodeReply]:
        """The living nodes of this node's provider, at most 100."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
            found = await own_nodes(session, identity.provider_id)
        return [
            self._node_reply(node, pool=pool.slug, region=pool.region, identity=identity)
            for node, pool in found
        ]

    async def offers(self, request: Request) -> list[OfferReply]:
        """What this node's provider sells."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
            found = await own_offers(session, identity.provider_id)
        return [
            OfferReply(
                id=show(Prefix.OFFER, offer.id),
                model=model,
                revision=digest,
                state=offer.state,
                ask_prompt_nano_usd=offer.ask_prompt_nano_usd,
                ask_completion_nano_usd=offer.ask_completion_nano_usd,
            )
            for offer, model, digest in found
        ]

    async def benchmarks(self, request: Request) -> list[BenchmarkCheckReply]:
        """What the last benchmark of this node that has an end found."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
            found = await last_checks(session, identity.node_id)
        return [
            BenchmarkCheckReply(
                check=check.check_name,
                device=check.device,
                value=check.value,
                limit=check.limit_value,
                passed=check.passed,
                reason=check.reason,
                message=check.message,
            )
            for check in found
        ]

    def _node_reply(self, node: Node, *, pool: str, region: str, identity: NodeIdentity) -> NodeReply:
        return NodeReply(
            id=show(Prefix.NODE, node.id),
            name=node.name,
            role=node.role,
            state=node.state,
            pool=pool,
            region=region,
            provider=identity.provider_slug,
            last_seen_at=node.last_seen_at,
            linked=self._services.directory.is_linked(node.id),
        )

    async def placements(self, request: Request) -> list[PlacementReply]:
        """What should run on this node."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
            found = await placements.of_node(session, identity.node_id)
        return [
            PlacementReply(
                id=show(Prefix.PLACEMENT, placement.id),
                model=model,
                revision=revision,
                replicas_min=placement.replicas_min,
                replicas_max=placement.replicas_max,
                replicas_running=placement.replicas_running,
                state=placement.state,
                reason=placement.reason,
            )
            for placement, model, revision in found
        ]

    async def endpoints(self, request: Request) -> list[EndpointReply]:
        """What of this node can be routed to now."""
        async with self._services.sessions() as session:
            identity = await self._access.node(session, request.headers.get("authorization"))
        return [
            EndpointReply(
                id=show(Prefix.ENDPOINT, endpoint.id),
                model=endpoint.model_slug,
                revision=endpoint.revision_digest,
                capacity=endpoint.capacity,
                running=endpoint.running,
                quarantined=endpoint.quarantined,
            )
            for endpoint in self._services.directory.all_live()
            if endpoint.node_id == identity.node_id
        ]


def _node_id(text: str) -> UUID:
    """Raises: InvalidRequest."""
    try:
        return parse(Prefix.NODE, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param="node_id") from None


def _public_key(text: str) -> bytes:
    """Raises: InvalidRequest unless `text` is base64url; its length is checked with the enrolment."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("public_key is not base64url", param="public_key") from None


def _hardware(body: HardwareBody) -> link.Hardware:
    gpus = tuple(link.Gpu(**gpu.model_dump()) for gpu in body.gpus)
    return link.Hardware(**(body.model_dump() | {"gpus": gpus}))
