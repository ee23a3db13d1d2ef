"""What `raymart-provider controller` runs in a house pool when no head is given: the head itself, and beside it the keeper."""

import os
from dataclasses import dataclass
from pathlib import Path

from raymart_providers.placement_keeper import PlacementKeeper
from raymart_providers.pool_membership import PoolMembership
from raymart_providers.pool_process import PoolProcess
from raymart_providers.private_file import read_private, write_private
from raymart_providers.ray_process.command import ray_environment
from raymart_providers.ray_process.machine_ray import worker_command
from raymart_providers.ray_process.member import PoolMember, pool_head
from raymart_providers.ray_process.options import RayOptions
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.state_dir import StateDir
from raymart_serve.head_store import head_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStore:
    """The Redis that the head keeps its state in, so that it may be killed; the pool's own."""

    address: str
    """host:port."""
    password_file: Path | None = None


def house_head(
    state: StateDir, *, name: str, host: str, store: HeadStore | None, interval_s: float
) -> tuple[PoolMember, PlacementKeeper]:
    """The head on `host`, this machine's address in the pool's network, and the keeper of its placements.

    Without a `store` the pool ends with its head. Raises: ProviderError, UnsafeFile.
    """
    home = RayHome(state.ray)
    home.prepare()
    options = RayOptions(host=host, cpus=0)
    port = home.head_port(host)
    membership = PoolMembership(state.membership, name=name, address=host, role="head", head_port=port)
    environment = ray_environment(home, options, node="head", base=os.environ)
    head = pool_head(
        membership,
        home=home,
        options=options,
        port=port,
        environment=environment,
        store={} if store is None else _stored(home, store),
    )
    pool = PoolProcess(
        worker_command(f"{host}:{port}"), environment={**environment, **membership.environment}
    )
    return head, PlacementKeeper(pool, interval_s=interval_s)


def _stored(home: RayHome, store: HeadStore) -> dict[str, str]:
    """The same namespace at each start: a head that comes back is the same cluster."""
    path = home.root / "namespace"
    if not path.exists():
        write_private(path, f"raymart-{os.urandom(8).hex()}".encode())
    return dict(
        head_environment(
            redis_address=store.address,
            password_file=store.password_file,
            namespace=read_private(path).decode(),
        )
    )
