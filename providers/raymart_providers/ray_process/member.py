"""A process of a house pool's Ray cluster on this machine: a provider's node, or the pool's head beside its controller.

Started with what the marketplace grants (certificate, token, labels), after a look whether the head takes us: Ray itself
would try for ever and say nothing. Ray reads certificates only when it starts, so it is started anew some time before
they end; the machine takes no new requests meanwhile.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import structlog

from raymart_core.wire.link import Control
from raymart_core.wire.membership import PoolGrant, PoolRefusal
from raymart_providers.link.outbox import Outbox
from raymart_providers.pool_membership import Membership, PoolMembership, check_head
from raymart_providers.ray_process.command import RayCommand, head_command, node_command
from raymart_providers.ray_process.options import RayOptions
from raymart_providers.ray_process.own_files import RayHome, free_port
from raymart_providers.ray_process.process import RayProcess, RayStatus
from raymart_providers.status import RayReport

log = structlog.get_logger()


class PoolMember:
    """Membership and the Ray process that it is for. `up`, `down` and `take` come from the link."""

    def __init__(
        self,
        membership: PoolMembership,
        make_command: Callable[[Membership], RayCommand],
        *,
        home: RayHome,
        check: Callable[[Membership], Awaitable[None]] | None = None,
        quiesce: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check` is asked before each start of Ray; `quiesce` is waited for before Ray is started anew while all is well."""
        self._membership = membership
        self._make_command = make_command
        self._home = home
        self._check = check
        self._quiesce = quiesce
        self._process: RayProcess | None = None
        self.head = ""
        """host:port, once it is known."""

    @property
    def status(self) -> RayStatus:
        """Of the process; before there is one, why there is no membership."""
        if self._process is not None:
            return self._process.status
        return RayStatus(error=self._membership.problem)

    def report(self, pool_kind: str, role: str) -> RayReport:
        """For people."""
        status = self.status
        return RayReport(
            pool_kind=pool_kind,
            role=role,
            state=status.state,
            address=self.head,
            pid=status.pid,
            starts=status.starts,
            error=status.error,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._membership.run())
            tasks.create_task(self._keep_running())

    def up(self, outbox: Outbox) -> None:
        """The link is live."""
        self._membership.up(outbox)

    def down(self) -> None:
        """The link is gone; Ray is not."""
        self._membership.down()

    def take(self, message: Control) -> bool:
        """An answer to an ask for membership."""
        if not isinstance(message, PoolGrant | PoolRefusal):
            return False
        self._membership.take(message)
        return True

    async def _keep_running(self) -> None:
        while True:
            member = await self._membership.granted()
            self.head = member.head
            self._process = RayProcess(
                partial(self._make_command, member),
                home=self._home,
                gate=self._gate(member),
                keeps_session=True,
                adopts_since=_written_at(member.environment),
            )
            running = asyncio.create_task(self._process.run())
            try:
                await asyncio.wait([running], timeout=max(0.0, member.restart_at - time.time()))
                if running.done():
                    running.result()  # Only a mistake of ours ends it.
                if self._quiesce is not None:
                    log.info("ray.renewing", expires_at=member.expires_at)
                    await self._quiesce()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def _gate(self, member: Membership) -> Callable[[], Awaitable[None]] | None:
        if self._check is None:
            return None
        return partial(self._check, member)


def pool_node(
    membership: PoolMembership,
    *,
    home: RayHome,
    options: RayOptions,
    environment: Mapping[str, str],
    quiesce: Callable[[], Awaitable[None]] | None = None,
) -> PoolMember:
    """A provider's machine in a house pool."""

    def command(member: Membership) -> RayCommand:
        return node_command(
            options, head=member.head, labels=member.labels, environment={**environment, **member.environment}
        )

    async def check(member: Membership) -> None:
        await check_head(member.head, member.environment)

    return PoolMember(membership, command, home=home, check=check, quiesce=quiesce)


def pool_head(
    membership: PoolMembership,
    *,
    home: RayHome,
    options: RayOptions,
    port: int,
    environment: Mapping[str, str],
    store: Mapping[str, str],
) -> PoolMember:
    """The pool's head, which runs no replicas. `store` says where it keeps its state (`raymart_serve.head_store`)."""

    def command(member: Membership) -> RayCommand:
        return head_command(
            home,
            options,
            port=port,
            dashboard_port=free_port(options.host),
            labels=member.labels,
            environment={**environment, **member.environment, **store},
        )

    return PoolMember(membership, command, home=home)


def _written_at(environment: Mapping[str, str]) -> float:
    """When the certificate was: a Ray that started before has an older one."""
    with contextlib.suppress(FileNotFoundError):
        return Path(environment["RAY_TLS_SERVER_CERT"]).stat().st_mtime
    return time.time()
