"""The agent's duty of running Ray: a cluster of this machine's own, or a node of somebody's, as its pool asks.

The marketplace says in `Welcome` what the machine's pool is. In a provider pool the machine runs a head of its own and
keeps the pool's placements, all inside the agent; with another machine's head given it runs a node of that cluster.
In a house pool it asks for membership and runs a node of the pool's. Once decided, Ray runs on through lost links until
the agent ends.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import structlog

from raymart_core.wire.link import Control, Desired, Welcome
from raymart_core.wire.membership import PoolRefusal
from raymart_providers.link.outbox import Outbox
from raymart_providers.placement_keeper import PlacementKeeper
from raymart_providers.pool_membership import PoolMembership
from raymart_providers.pool_process import PoolProcess
from raymart_providers.ray_process.command import (
    NODE_LABEL,
    RayCommand,
    head_command,
    node_command,
    ray_environment,
)
from raymart_providers.ray_process.member import PoolMember, pool_node
from raymart_providers.ray_process.options import RayOptions
from raymart_providers.ray_process.own_files import RayHome, free_port
from raymart_providers.ray_process.process import RayFailed, RayProcess, RayStatus
from raymart_providers.state_dir import StateDir
from raymart_providers.status import PlacementReport, RayReport

log = structlog.get_logger()

_HEAD_TIMEOUT_S = 5.0


def worker_command(ray_address: str) -> tuple[str, ...]:
    """The command of the process that speaks to Ray at `ray_address` (host:port)."""
    return (sys.executable, "-m", "raymart_providers.pool_worker", ray_address)


class MachineRay:
    """This machine's Ray. Implements duty.Duty."""

    def __init__(
        self,
        *,
        state: StateDir,
        name: str,
        options: RayOptions,
        gpus: Sequence[str] = (),
        interval_s: float = 1.0,
        base: Mapping[str, str] | None = None,
    ) -> None:
        """`gpus` are the UUIDs of those for sale. `base` is the environment that Ray starts from; by default ours."""
        self._state = state
        self._home = RayHome(state.ray)
        self._name = name
        self._options = options
        self._interval_s = interval_s
        self._quiesce: Callable[[], Awaitable[None]] | None = None
        self._environment = ray_environment(
            self._home,
            options,
            node=name,
            agent_file=str(state.agent_file),
            gpus=gpus,
            base=os.environ if base is None else base,
        )
        self._kind: Literal["house", "provider"] | None = None
        self._decided = asyncio.Event()
        self._keeper: PlacementKeeper | None = None
        self._process: RayProcess | None = None
        self._member: PoolMember | None = None
        self._address = ""
        self._problem = ""
        """Why this machine's head is not its pool's; empty when it is."""

    @property
    def controls(self) -> bool:
        """Whether this machine's head is its pool's, so that it takes placements and reports on them."""
        return self._keeper is not None

    def before_renewal(self, quiesce: Callable[[], Awaitable[None]]) -> None:
        """Wait for `quiesce`, which lets what runs end, whenever a Ray that is well has to be started anew."""
        self._quiesce = quiesce

    async def run(self) -> None:
        """Wait until the pool is known, then run its Ray until cancelled."""
        await self._decided.wait()
        async with asyncio.TaskGroup() as tasks:
            for part in (self._process, self._member, self._keeper):
                if part is not None:
                    tasks.create_task(part.run())

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """At the first link: decide. At each: who reports or asks may."""
        if self._kind is None:
            self._decide(welcome)
        elif self._kind != welcome.pool_kind:
            log.warning("ray.pool_changed", was=self._kind, now=welcome.pool_kind)
        if self._keeper is not None:
            self._keeper.up(outbox, welcome)
        if self._member is not None:
            self._member.up(outbox)

    def take(self, message: Control) -> bool:
        """Placements, what membership is granted, or that another machine controls the pool."""
        if self._keeper is not None and isinstance(message, PoolRefusal):
            log.warning("pool.not_ours", reason=message.message)
            self._problem = f"{message.message}; or join its head with --ray-address"
            return True
        if isinstance(message, Desired):
            self._problem = ""
        return (self._keeper is not None and self._keeper.take(message)) or (
            self._member is not None and self._member.take(message)
        )

    def heartbeat(self) -> None:
        """What the keeper sees goes with it."""
        if self._keeper is not None:
            self._keeper.heartbeat()

    def down(self) -> None:
        """The link is gone; Ray is not."""
        if self._keeper is not None:
            self._keeper.down()
        if self._member is not None:
            self._member.down()

    def report(self) -> RayReport:
        """For `status`."""
        if self._member is not None:
            return self._member.report(self._kind or "", "node")
        status = self._process.status if self._process is not None else RayStatus()
        return RayReport(
            pool_kind=self._kind or "",
            role="" if self._kind is None else "head" if self._keeper is not None else "node",
            state=status.state,
            address=self._address,
            pid=status.pid,
            starts=status.starts,
            error=status.error or self._problem,
        )

    def placements(self) -> tuple[PlacementReport, ...]:
        """What the keeper observes; nothing where this machine keeps no placements."""
        return self._keeper.placements() if self._keeper is not None else ()

    def _decide(self, welcome: Welcome) -> None:
        self._kind = welcome.pool_kind
        if self._kind == "house":
            self._become_member()
        elif self._options.head is not None:
            self._address = self._options.head
            self._process = RayProcess(
                self._node_command, home=self._home, gate=self._head_listens, keeps_session=True
            )
        else:
            self._run_a_head()
        log.info("ray.decided", pool_kind=self._kind, address=self._address, controls=self.controls)
        self._decided.set()

    def _become_member(self) -> None:
        membership = PoolMembership(self._state.membership, name=self._name, address=self._options.host)
        self._member = pool_node(
            membership,
            home=self._home,
            options=self._options,
            environment=self._environment,
            quiesce=self._quiesce,
        )

    def _run_a_head(self) -> None:
        self._home.prepare()
        self._address = f"{self._options.host}:{self._home.head_port(self._options.host)}"
        self._process = RayProcess(self._head_command, home=self._home)
        pool = PoolProcess(worker_command(self._address), environment=self._environment)
        self._keeper = PlacementKeeper(pool, interval_s=self._interval_s)

    def _head_command(self) -> RayCommand:
        host, _, port = self._address.rpartition(":")
        return head_command(
            self._home,
            self._options,
            port=int(port),
            dashboard_port=free_port(host),
            labels={NODE_LABEL: self._name},
            environment=self._environment,
        )

    def _node_command(self) -> RayCommand:
        return node_command(
            self._options, head=self._address, labels={NODE_LABEL: self._name}, environment=self._environment
        )

    async def _head_listens(self) -> None:
        """Raises: RayFailed. Ray itself would try for minutes."""
        host, _, port = self._address.rpartition(":")
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise RayFailed(
                f"no Ray head answers at {self._address} ({str(error) or 'silence'}); "
                "start `raymart-provider join --ray-host` there, and look at the firewalls between"
            ) from None
        writer.transport.abort()
