"""What every duty of one live link works with."""

from dataclasses import dataclass

from raymart_marketplace.db.session import Sessions
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.holders import Holders
from raymart_marketplace.supply.link.limits import LinkLimits
from raymart_marketplace.supply.link.session import LinkSession
from raymart_marketplace.supply.weights import WeightsDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkContext:
    """What every duty of one link needs."""

    identity: NodeIdentity
    link: LinkSession
    directory: Directory
    sessions: Sessions
    limits: LinkLimits
    holders: Holders
    weights: WeightsDesk | None = None
    """None where the marketplace keeps no weights."""
