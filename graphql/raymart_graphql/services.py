"""The control plane's services, built once per process and passed down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from raymart_billing.connections import Pool, make_pool
from raymart_billing.deposits import CardRail, open_rail
from raymart_billing.holds import GatewayLeases, LeaseLimits
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.solana.chain import Chain, open_chain
from raymart_billing.spill import Spill, make_spill
from raymart_billing.usdc_deposits.rail import UsdcRail, open_usdc_rail
from raymart_billing.work.celery_hints import CeleryHints
from raymart_billing.work.hints import give_hints
from raymart_graphql.feeds import Hints, Hub
from raymart_graphql.machine_metrics import MachineMetrics
from raymart_graphql.metrics import Metrics
from raymart_graphql.people import People, make_people
from raymart_graphql.persisted import PersistedQueries
from raymart_graphql.points import PointsMeter
from raymart_graphql.selling import make_inferences
from raymart_graphql.supplying import make_supply
from raymart_graphql.watch import Watch
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.forgetting import Forgetting
from raymart_marketplace.accounts.key_uses import KeyUseWriter
from raymart_marketplace.accounts.oidc_logins import OIDC_PREFIX, OidcLogins
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.accounts.wallet_challenges import WalletChallenges, make_wallet_challenges
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions
from raymart_marketplace.gateway.awakening import MarketAwakening
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.model_lookup import CatalogModels
from raymart_marketplace.gateway.rate_limits.book import LimitBook
from raymart_marketplace.gateway.rate_limits.buckets import SharedBuckets
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.rate_limits.limits import Limits
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.objects import Objects, open_objects
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.retention.writer import RetentionWriter
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import Redis, make_redis
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.link.endpoint import LinkEndpoint
from raymart_marketplace.supply.machine_access import MachineAccess
from raymart_marketplace.supply.news import SupplyNews
from raymart_marketplace.supply.siblings import Meetings, Siblings
from raymart_marketplace.supply.telemetry import TelemetryBook

DRAIN_TIMEOUT_S = 5.0
"""What the bills of requests that were cut off get at shutdown; the sweeper finds the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request may need. Not running before `running` is entered."""

    settings: ControlSettings
    engine: AsyncEngine
    sessions: Sessions
    pool: Pool
    hints: CeleryHints
    redis: Redis
    """For what may be lost, and read by whoever can do without it."""
    tokens: AccessTokens
    people: People
    authenticator: Authenticator
    forgetting: Forgetting
    key_uses: KeyUseWriter
    points: PointsMeter
    wallet_challenges: WalletChallenges
    persisted_queries: PersistedQueries
    oidc_logins: OidcLogins
    directory: Directory
    demand: DemandBoard
    models: CatalogModels
    leases: GatewayLeases
    usage_sink: LedgerUsageSink
    spill: Spill
    inference: Inference
    images: ImageInference
    vectors: VectorInference
    objects: Objects
    controls: LiveControls
    limit_book: LimitBook
    limiter: RateLimiter
    link: LinkEndpoint
    siblings: Siblings | None
    """None where this process serves alone."""
    benchmarks: BenchmarkDesk
    telemetry: TelemetryBook
    supply_news: SupplyNews
    machine_access: MachineAccess
    card_rail: CardRail | None
    """None where top-ups by card are not configured."""
    usdc_rail: UsdcRail | None
    """None where no chain is configured."""
    chain: Chain | None
    """The same; for reading, without the treasury's key."""
    metrics: Metrics
    hints_of_feeds: Hints
    feeds: Hub
    watch: Watch
    retention: RetentionWriter


def build_services(settings: ControlSettings, *, meetings: Meetings | None = None) -> Services:
    """Wire the services. Opens nothing, but makes the folder of files where they lie on this machine.

    `meetings` leads to sibling processes; None where this process serves alone.
    """
    engine = make_engine(settings.database_url)
    sessions = make_sessions(engine)
    pool = make_pool(settings.database_url, name="gateway")
    hints = CeleryHints(settings.broker_url)
    redis = make_redis(settings.redis_url)
    give_hints(sessions, hints.give)
    tokens = make_access_tokens(settings)
    authenticator = Authenticator(sessions, tokens)
    models = CatalogModels(sessions)
    leases = GatewayLeases(pool, settings.database_url, limits=make_lease_limits(settings))
    spill = make_spill(settings)
    feed_hints = Hints(redis)
    usage_sink = LedgerUsageSink(
        pool,
        record_timeout_s=settings.record_timeout_s,
        gateway_id=leases.gateway_id,
        spill=spill,
        settlements=leases.settlements,
        on_posted=feed_hints.usage_posted,
    )
    controls = LiveControls(sessions)
    people = make_people(settings, sessions, redis)
    retention = RetentionWriter(sessions, people.box)
    objects = open_objects(settings)
    limit_book = LimitBook(sessions, organization_default=default_limits(settings))
    limiter = RateLimiter(limit_book, SharedBuckets(redis))
    supply = make_supply(settings, sessions, redis, objects=objects, box=people.box, meetings=meetings)
    sold = make_inferences(
        settings,
        directory=supply.directory,
        models=models,
        leases=leases,
        usage_sink=usage_sink,
        controls=controls,
        objects=objects,
        retention=retention,
        awakening=MarketAwakening(sessions, supply.demand, wake_timeout_s=settings.wake_timeout_s),
        redis=redis,
        box=people.box,
        limiter=limiter,
    )
    return Services(
        settings=settings,
        engine=engine,
        sessions=sessions,
        pool=pool,
        hints=hints,
        redis=redis,
        tokens=tokens,
        people=people,
        authenticator=authenticator,
        forgetting=Forgetting(authenticator, redis),
        key_uses=KeyUseWriter(sessions, authenticator.uses),
        persisted_queries=PersistedQueries(redis),
        points=make_points(settings, redis, authenticator),
        wallet_challenges=make_wallet_challenges(settings, redis),
        oidc_logins=make_oidc_logins(settings, redis),
        directory=supply.directory,
        demand=supply.demand,
        models=models,
        leases=leases,
        usage_sink=usage_sink,
        spill=spill,
        inference=sold.inference,
        images=sold.images,
        vectors=sold.vectors,
        objects=objects,
        controls=controls,
        limit_book=limit_book,
        limiter=limiter,
        link=supply.link,
        siblings=supply.siblings,
        benchmarks=supply.benchmarks,
        telemetry=supply.telemetry,
        supply_news=supply.news,
        machine_access=supply.machine_access,
        card_rail=open_rail(settings),
        usdc_rail=open_usdc_rail(settings),
        chain=open_chain(settings),
        metrics=Metrics(
            supply.directory,
            sessions,
            retention,
            sold.answers,
            hedging=sold.inference.hedging,
            machines=MachineMetrics(supply.telemetry, supply.benchmarks),
        ),
        hints_of_feeds=feed_hints,
        feeds=Hub(sessions, redis),
        watch=Watch(sessions, authenticator),
        retention=retention,
    )


def make_points(settings: ControlSettings, redis: Redis, authenticator: Authenticator) -> PointsMeter:
    """What GraphQL operations may cost."""
    return PointsMeter(
        redis,
        authenticator,
        points_per_hour=settings.graphql_points_per_hour,
        points_per_hour_address=settings.graphql_points_per_hour_address,
    )


def default_limits(settings: ControlSettings) -> Limits:
    """What an organization may do of which the marketplace has said nothing else."""
    return Limits(
        requests_per_minute=settings.organization_requests_per_minute or None,
        tokens_per_minute=settings.organization_tokens_per_minute or None,
        concurrent_requests=settings.organization_concurrent_requests or None,
    )


def make_lease_limits(settings: ControlSettings) -> LeaseLimits:
    """How this process leases credit."""
    return LeaseLimits(
        ttl_s=settings.lease_ttl_s,
        renew_every_s=settings.lease_ttl_s / 5,
        margin_s=settings.lease_ttl_s / 5,
        idle_s=settings.lease_idle_s,
        slice_min=settings.lease_slice_min_nano_usd,
        slice_max=settings.lease_slice_max_nano_usd,
        share=settings.lease_share,
    )


def make_access_tokens(settings: ControlSettings) -> AccessTokens:
    """The issuer and verifier of access tokens."""
    return AccessTokens(
        settings.token_secret.get_secret_value().encode(),
        former_secrets=[each.get_secret_value().encode() for each in settings.former_token_secrets],
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        ttl_s=settings.access_token_ttl_s,
    )


def make_oidc_logins(settings: ControlSettings, redis: Redis) -> OidcLogins:
    """Logins at the configured providers, which send people back to paths of ours."""
    if not settings.oidc_providers:
        return OidcLogins({}, redis)
    from raymart_marketplace.accounts.oidc_client import OidcClient  # noqa: PLC0415 - 3 MB for who has one

    clients = {
        provider.name: OidcClient(
            provider, redirect_uri=f"{settings.public_url}{OIDC_PREFIX}/{provider.name}/callback"
        )
        for provider in settings.oidc_providers
    }
    return OidcLogins(clients, redis)


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Start the services; stop them in reverse order when the block ends.

    A database that is away does not keep the process from starting: `/ready` says so until it is back.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.engine.dispose)
        stack.push_async_callback(services.redis.aclose)
        stack.push_async_callback(services.oidc_logins.aclose)
        services.hints_of_feeds.start()
        stack.push_async_callback(services.hints_of_feeds.stop)
        services.feeds.start()
        stack.push_async_callback(services.feeds.stop)
        services.watch.start()
        stack.push_async_callback(services.watch.stop)
        services.forgetting.start()
        stack.push_async_callback(services.forgetting.stop)
        services.key_uses.start()
        stack.push_async_callback(services.key_uses.stop)
        stack.callback(services.people.close)
        if services.card_rail is not None:
            stack.callback(services.card_rail.processor.close)
        if services.chain is not None:
            stack.push_async_callback(services.chain.aclose)
        await services.pool.open(wait=False)
        stack.push_async_callback(services.pool.close)
        services.hints.start()
        stack.push_async_callback(asyncio.to_thread, services.hints.close)
        stack.push_async_callback(services.spill.aclose)
        # Before the sink, and stopped after it: a lease goes back once all its usage is posted.
        await services.leases.start()
        stack.push_async_callback(services.leases.stop)
        await services.usage_sink.start()
        stack.push_async_callback(services.usage_sink.stop)
        await services.controls.start()
        stack.push_async_callback(services.controls.stop)
        await stack.enter_async_context(_limiting(services))
        services.retention.start()
        stack.push_async_callback(services.retention.stop)
        await services.telemetry.start()
        stack.push_async_callback(services.telemetry.stop)
        await services.benchmarks.start()
        stack.push_async_callback(services.benchmarks.stop)
        await stack.enter_async_context(_supplied(services))
        stack.push_async_callback(services.inference.drain, timeout_s=DRAIN_TIMEOUT_S)
        stack.push_async_callback(services.images.drain, timeout_s=DRAIN_TIMEOUT_S)
        stack.push_async_callback(services.vectors.drain, timeout_s=DRAIN_TIMEOUT_S)
        yield


@asynccontextmanager
async def _supplied(services: Services) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        services.supply_news.start()
        stack.push_async_callback(services.supply_news.stop)
        services.demand.start()
        stack.push_async_callback(services.demand.stop)
        await services.directory.start()
        stack.push_async_callback(services.directory.stop)
        if services.siblings is not None:
            await services.siblings.start(moved=services.link.look_at_node)
            stack.push_async_callback(services.siblings.stop)
        yield


@asynccontextmanager
async def _limiting(services: Services) -> AsyncIterator[None]:
    await services.limit_book.start()
    services.limiter.start()
    try:
        yield
    finally:
        await services.limiter.stop()
        await services.limit_book.stop()
