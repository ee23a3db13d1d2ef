"""What is sold, wired: text, pictures and vectors go the same way to the same endpoints and are paid for alike."""

from dataclasses import dataclass

from raymart_billing.holds import GatewayLeases
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.rating import UnitRater
from raymart_marketplace.gateway.cache_salts import CacheSalts
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import CatalogModels
from raymart_marketplace.gateway.vectors.inference import VectorInference
from raymart_marketplace.objects import Objects
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.retention.writer import RetentionWriter
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.supply.directory import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferences:
    """One of each kind, for one process."""

    inference: Inference
    images: ImageInference
    vectors: VectorInference


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
) -> Inferences:
    """Wire them; opens nothing."""
    rater = UnitRater()
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
    )
    images = ImageInference(
        directory=directory,
        plan=inference.plan,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=rater,
        limits=InferenceLimits.of_pictures(settings),
        admission=controls,
        objects=objects,
    )
    vectors = VectorInference(
        directory=directory,
        plan=inference.plan,
        hold_gate=leases.gate,
        usage_sink=usage_sink,
        rater=rater,
        limits=InferenceLimits.of(settings),
        admission=controls,
    )
    return Inferences(inference=inference, images=images, vectors=vectors)
