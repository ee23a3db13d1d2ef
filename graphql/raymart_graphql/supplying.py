"""Wires what machines meet: the link, the directory of what they serve, and the desks that the link asks."""

from dataclasses import dataclass

from raymart_core.clock import SystemClock
from raymart_core.ids import new_id
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.objects import Objects
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import Redis
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.demand_board import DemandBoard
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.link.endpoint import LinkEndpoint
from raymart_marketplace.supply.machine_access import MachineAccess
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.news import SupplyNews
from raymart_marketplace.supply.planning.demand import Demands
from raymart_marketplace.supply.siblings import Meetings, Siblings
from raymart_marketplace.supply.telemetry import TelemetryBook
from raymart_marketplace.supply.weights import WeightsDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What of a process has to do with machines."""

    directory: Directory
    demand: DemandBoard
    benchmarks: BenchmarkDesk
    telemetry: TelemetryBook
    link: LinkEndpoint
    """Where nodes dial in."""
    siblings: Siblings | None
    """What the link's nodes are shared with; None where this process serves alone."""
    news: SupplyNews
    """What other processes changed about nodes and providers."""
    machine_access: MachineAccess


def make_supply(
    settings: ControlSettings,
    sessions: Sessions,
    redis: Redis,
    *,
    objects: Objects,
    box: SecretBox,
    meetings: Meetings | None = None,
) -> Supply:
    """Wire them. Opens nothing. `meetings` leads to sibling processes."""
    directory = Directory(
        sessions,
        fee_basis_points=settings.fee_basis_points,
        direct=DirectUpstream,
        provider_requests_max=settings.provider_requests_max,
    )
    demand = DemandBoard(Demands(redis), gateway_id=new_id().hex)
    benchmarks, telemetry = BenchmarkDesk(sessions), TelemetryBook(redis)
    keys = ModelKeys([key.get_secret_value().encode() for key in settings.model_key])
    siblings = Siblings(directory, meetings) if meetings is not None else None
    link = LinkEndpoint(
        sessions,
        directory,
        server_name=settings.link_server_name,
        heartbeat_s=settings.link_heartbeat_s,
        lease_s=settings.link_lease_s,
        weights=WeightsDesk(sessions=sessions, objects=objects, keys=keys),
        benchmarks=benchmarks if settings.benchmarks else None,
        telemetry=telemetry,
        pools=PoolDesk(sessions=sessions, box=box, certificate_s=settings.pool_certificate_s),
        demand=demand,
        links=siblings,
    )
    return Supply(
        directory=directory,
        demand=demand,
        benchmarks=benchmarks,
        telemetry=telemetry,
        link=link,
        siblings=siblings,
        news=SupplyNews(
            settings.database_url,
            on_node=link.look_at_node,
            on_provider=link.look_at_provider,
            on_absence_over=link.look_at_all,
        ),
        machine_access=MachineAccess(
            sessions, redis, server_name=settings.link_server_name, clock=SystemClock()
        ),
    )
