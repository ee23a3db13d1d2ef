"""What Prometheus reads of this process."""

import asyncio
import time
from collections.abc import Iterable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from raymart_billing.vital_signs import SIGNS, Reading, read_signs
from raymart_graphql.machine_metrics import MachineMetrics
from raymart_graphql.outage import DATABASE_AWAY
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.hedge import Hedge
from raymart_marketplace.gateway.hedging import Hedging
from raymart_marketplace.gateway.response_cache import ResponseCache
from raymart_marketplace.retention.writer import RetentionWriter
from raymart_marketplace.supply.breaker import BreakerState
from raymart_marketplace.supply.live import EndpointDirectory

CONTENT_TYPE = CONTENT_TYPE_LATEST
READ_EVERY_S = 5.0
"""However often it is scraped, the database is asked no more often than this."""
_DATABASE_TIMEOUT_S = 2.0


class Metrics:
    """The metrics of one app: in a registry of its own, so that two apps in one process do not collide."""

    def __init__(
        self,
        directory: EndpointDirectory,
        sessions: Sessions,
        retention: RetentionWriter,
        answers: ResponseCache,
        *,
        hedging: Hedging,
        machines: MachineMetrics | None = None,
    ) -> None:
        self._money = MoneyMetrics(sessions)
        self._registry = CollectorRegistry()
        self._registry.register(LiveEndpointMetrics(directory))
        self._registry.register(self._money)
        if machines is not None:
            self._registry.register(machines)
        self._registry.register(RetentionMetrics(retention))
        self._registry.register(AnswerCacheMetrics(answers))
        self._registry.register(HedgingMetrics(hedging))

    async def exposition(self) -> bytes:
        """This app's metrics, and those that modules keep in the process's registry."""
        await self._money.refresh()
        return generate_latest(self._registry) + generate_latest(REGISTRY)


class LiveEndpointMetrics(Collector):
    """Counts the directory when it is scraped."""

    def __init__(self, directory: EndpointDirectory) -> None:
        self._directory = directory

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Live endpoints, their capacity, their load and their open breakers, by model."""
        endpoints = GaugeMetricFamily(
            "raymart_endpoints_live", "Endpoints that can be routed to.", labels=["model"]
        )
        capacity = GaugeMetricFamily("raymart_capacity_generations", "Generations at once.", labels=["model"])
        running = GaugeMetricFamily(
            "raymart_running_generations", "Generations that run now.", labels=["model"]
        )
        opened = GaugeMetricFamily(
            "raymart_breakers_open",
            "Live endpoints that get no requests of this process, because they failed of late.",
            labels=["model"],
        )
        totals: dict[str, list[int]] = {}
        for endpoint in self._directory.all_live():
            counts = totals.setdefault(endpoint.model_slug, [0, 0, 0, 0])
            counts[0] += 1
            counts[1] += endpoint.capacity
            counts[2] += endpoint.running
            counts[3] += endpoint.breaker is BreakerState.OPEN
        families = (endpoints, capacity, running, opened)
        for model, counts in totals.items():
            for family, count in zip(families, counts, strict=True):
                family.add_metric([model], count)
        return families


class RetentionMetrics(Collector):
    """Reads the writer of retained exchanges when it is scraped."""

    def __init__(self, retention: RetentionWriter) -> None:
        self._retention = retention

    def collect(self) -> Iterable[CounterMetricFamily]:
        """How many exchanges were handed to the database, and how many were not."""
        stored = CounterMetricFamily(
            "raymart_retained_exchanges", "Prompts with completions stored for keys that ask for it."
        )
        dropped = CounterMetricFamily(
            "raymart_retained_exchanges_dropped", "Those that were not stored: too many, or no database."
        )
        stored.add_metric([], self._retention.stored)
        dropped.add_metric([], self._retention.dropped)
        return (stored, dropped)


class AnswerCacheMetrics(Collector):
    """Reads the response cache of this process when it is scraped."""

    def __init__(self, answers: ResponseCache) -> None:
        self._answers = answers

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What became of requests that asked for a cached answer, and of answers that were to be kept."""
        answers, store = self._answers, self._answers.store
        requests = CounterMetricFamily(
            "raymart_answer_cache_requests",
            "Requests that asked for a cached answer: hit, miss, or bypass for what would not be the same again.",
            labels=["outcome"],
        )
        for outcome, count in (("hit", answers.hits), ("miss", answers.misses), ("bypass", answers.bypasses)):
            requests.add_metric([outcome], count)
        kept = CounterMetricFamily(
            "raymart_answer_cache_kept_answers", "Answers stored for being given again."
        )
        size = CounterMetricFamily("raymart_answer_cache_kept_bytes", "What these take, sealed.")
        unkept = CounterMetricFamily(
            "raymart_answer_cache_unkept_answers",
            "Those that were not stored: too long, too many, or no Redis.",
        )
        kept.add_metric([], store.kept)
        size.add_metric([], store.kept_bytes)
        unkept.add_metric([], store.unkept)
        return (requests, kept, size, unkept)


class HedgingMetrics(Collector):
    """Reads what hedging did in this process when it is scraped."""

    def __init__(self, hedging: Hedging) -> None:
        self._hedging = hedging

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Tries of requests that ask for a second endpoint, by what became of that."""
        tries = CounterMetricFamily(
            "raymart_hedging_tries",
            "Tries of requests that may go to two endpoints: of won, lost and asked (nobody began) two were asked.",
            labels=["outcome"],
        )
        for outcome in Hedge:
            if outcome is not Hedge.OFF:
                tries.add_metric([outcome.value], self._hedging.outcomes[outcome])
        return (tries,)


class MoneyMetrics(Collector):
    """The vital signs of the money, as last read. While the database is away they are left out, not repeated."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._readings: Sequence[Reading] = ()
        self._asked_at: float | None = None

    async def refresh(self) -> None:
        """Read the signs anew, unless that was done within the last `READ_EVERY_S` seconds."""
        moment = time.monotonic()
        if self._asked_at is not None and moment - self._asked_at < READ_EVERY_S:
            return
        self._asked_at = moment
        try:
            async with asyncio.timeout(_DATABASE_TIMEOUT_S), self._sessions() as session:
                self._readings = await read_signs(session)
        except DATABASE_AWAY:
            # An alarm on absent numbers is true; an old number that looks fresh is not. `/ready` says why.
            self._readings = ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family per sign."""
        families = {
            sign.name: GaugeMetricFamily(sign.name, sign.help, labels=[sign.label] if sign.label else [])
            for sign in SIGNS
        }
        for reading in self._readings:
            families[reading.name].add_metric([reading.label] if reading.label else [], reading.value)
        return families.values()
