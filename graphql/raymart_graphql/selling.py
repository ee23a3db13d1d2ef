"""What is sold, wired: text, pictures and vectors go the same way to the same endpoints and are paid for alike."""

from dataclasses import dataclass

from raymart_billing.holds import GatewayLeases
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.rating import UnitRater
from raymart_marketplace.accounts.derived_keys import derived_key
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.gateway.awakening import Awakening
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import CatalogModels
from raymart_marketplace.gateway.rate_limits.limiter import RateLimiter
from raymart_marketplace.gateway.response_cache import AnswerStore, ResponseCache
from raymart_marketplace.gateway.shedding.queue import QueueLimits
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.objects import Objects
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.retention.writer import RetentionWriter
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import Redis
from raymart_marketplace.supply.directory import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferences:
    """One of each kind, for one process."""

    inference: Inference
    images: ImageInference
    vectors: VectorInference
    answers: ResponseCache


def make_inferences(
    settings: ControlSettings,
    *,
    directory: Directory,
    models: CatalogModels,
    leases: GatewayLeases,
    usage_sink: LedgerUsageSink,
    controls: LiveControls,
    objects: Objects,
    retention: RetentionWriter,
    awakening: Awakening,
    redis: Redis,
    box: SecretBox,
    limiter: RateLimiter,
) -> Inferences:
    """Wire them; opens nothing."""
    rater = UnitRater()
    entrance = Entrance(
        shedder=LoadShedder(directory, limits=QueueLimits(wait_s_max=settings.queue_wait_s)), limiter=limiter
    )
    answers = make_answers(
        settings,
        directory=directory,
        leases=leases,
        usage_sink=usage_sink,
        controls=controls,
        redis=redis,
        box=box,
        limiter=limiter,
    )
    inference = Inference(
        directory=directory,
        models=models,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=rater,
        limits=InferenceLimits.of(settings),
        admission=controls,
        keep=retention.keep,
        salts=CacheSalts(settings.token_secret.get_secret_value().encode()),
        sort=settings.routing_sort,
        awakening=awakening,
        entrance=entrance,
        cache=answers,
    )
    images = ImageInference(
        directory=directory,
        plan=inference.planner.plan,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=rater,
        limits=InferenceLimits.of_pictures(settings),
        admission=controls,
        objects=objects,
        awakening=awakening,
        entrance=entrance,
    )
    vectors = VectorInference(
        directory=directory,
        plan=inference.planner.plan,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=rater,
        limits=InferenceLimits.of(settings),
        admission=controls,
        awakening=awakening,
        entrance=entrance,
    )
    return Inferences(inference=inference, images=images, vectors=vectors, answers=answers)


def make_answers(
    settings: ControlSettings,
    *,
    directory: Directory,
    leases: GatewayLeases,
    usage_sink: LedgerUsageSink,
    controls: LiveControls,
    redis: Redis,
    box: SecretBox,
    limiter: RateLimiter,
) -> ResponseCache:
    """Answers that may be given again; asks nothing of Redis yet."""
    return ResponseCache(
        store=AnswerStore(redis, box),
        secret=derived_key(settings.token_secret.get_secret_value().encode(), purpose="cached answers"),
        directory=directory,
        admission=controls,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=UnitRater(),
        hold_ttl_s=InferenceLimits.of(settings).hold_ttl_s,
        price_basis_points=settings.cached_answer_price_basis_points,
        limiter=limiter,
    )
