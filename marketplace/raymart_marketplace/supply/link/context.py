"""What every duty of one live link works with."""

from dataclasses import dataclass, field
from uuid import UUID

from raymart_core.ids import new_id
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.holders import Holders
from raymart_marketplace.supply.link.limits import LinkLimits
from raymart_marketplace.supply.link.link_book import LinkBook
from raymart_marketplace.supply.link.roll import RollCall
from raymart_marketplace.supply.link.session import LinkSession
from raymart_marketplace.supply.link.wanted import WantedRounds
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.telemetry import TelemetryBook
from raymart_marketplace.supply.weights import WeightsDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkContext:
    """What every duty of one link needs."""

    identity: NodeIdentity
    link: LinkSession
    directory: Directory
    links: LinkBook
    """Is told what the node says; the directory itself where this process serves alone."""
    sessions: Sessions
    limits: LinkLimits
    holders: Holders
    roll: RollCall
    """What the database is asked of all links together."""
    weights: WeightsDesk | None = None
    """None where the marketplace keeps no weights."""
    wanted: WantedRounds | None = None
    """Beside `weights`."""
    pools: PoolDesk | None = None
    """None where the marketplace keeps no house pools' authorities."""
    benchmarks: BenchmarkDesk | None = None
    """None where nodes need not be measured."""
    telemetry: TelemetryBook | None = None
    """None where nobody keeps it."""
    server_name: str = ""
    """As in the challenge; part of what a new key is signed with."""
    demand: DemandBoard | None = None
    """None where nothing ever sleeps."""
    link_id: UUID = field(default_factory=new_id)
    """Tells this link from the node's others, older and newer, of this process and others (`supply.presence`)."""
