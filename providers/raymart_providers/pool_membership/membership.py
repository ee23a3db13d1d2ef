"""Asks the marketplace for membership of the house pool's Ray cluster, and asks again before it ends."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import structlog

from raymart_core.wire.membership import PoolAsk, PoolGrant, PoolRefusal
from raymart_providers.errors import UnsafeFile
from raymart_providers.link.backoff import Backoff
from raymart_providers.link.outbox import Outbox
from raymart_providers.pool_membership.kept import Membership, MembershipFiles

log = structlog.get_logger()

_ANSWER_TIMEOUT_S = 30.0
_REFUSED_S = 60.0
"""Pause after a refusal that time alone does not mend: somebody at the marketplace may."""
_HEADLESS_S = 2.0
"""Pause while the pool's head is not known yet."""
_LOOK_S = 600.0
"""Longest wait between two looks at the wall clock: a machine that slept, or whose clock was set, notices."""


class PoolMembership:
    """One machine's membership. `run` beside the link; the link's peer passes on `up`, `down` and `take`.

    What an earlier run was granted is used at once, so that Ray can be started while the marketplace is away.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        address: str,
        role: Literal["node", "head", "controller"] = "node",
        head_port: int = 0,
        backoff: Backoff | None = None,
    ) -> None:
        """`address`: this machine's IP address in the pool's network. Raises: UnsafeFile."""
        self.problem = ""
        """Why there is no (fresh) membership, for people; empty when all is well."""
        self._files = MembershipFiles(folder)
        self._name = name
        self._role = role
        self._address = address
        self._head_port = head_port
        self._pause = backoff or Backoff(first_s=1.0, longest_s=30.0)
        self._membership = self._files.load()
        self._answer: asyncio.Future[PoolGrant | PoolRefusal] | None = None
        self._outbox: Outbox | None = None
        self._ask_at = self._membership.renew_at if self._membership is not None else 0.0
        self._kick = asyncio.Event()
        self._changed = asyncio.Condition()

    @property
    def membership(self) -> Membership | None:
        """What there is now; None before the first grant."""
        return self._membership

    @property
    def environment(self) -> Mapping[str, str]:
        """As `Membership.environment`: the same for every grant; its files are there once there is one."""
        return self._files.environment()

    async def granted(self) -> Membership:
        """Wait until there is a membership that is not about to end and whose head is known."""
        async with self._changed:
            while (kept := self._membership) is None or not kept.head or kept.restart_at <= time.time():
                await self._changed.wait()
            return kept

    def up(self, outbox: Outbox) -> None:
        """The link is live."""
        self._outbox = outbox
        if self.problem:
            self._ask_at = 0.0
        self._kick.set()

    def down(self) -> None:
        """The link is gone, and with it the answer that was waited for."""
        self._outbox = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(PoolRefusal(message="the link to the marketplace broke", retry=True))

    def take(self, message: PoolGrant | PoolRefusal) -> None:
        """The marketplace's answer; one that nobody waits for is let pass."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    async def run(self) -> None:
        """Ask until there is a membership, and again in time, until cancelled."""
        while True:
            self._kick.clear()
            if self._outbox is not None and time.time() >= self._ask_at:
                answer = await self._ask(self._outbox)
                if isinstance(answer, PoolGrant):
                    await self._keep(answer)
                else:
                    self._refused(answer)
            await self._wait_until_due()

    async def _wait_until_due(self) -> None:
        due_in_s = self._ask_at - time.time() if self._outbox is not None else _LOOK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(due_in_s, 0.0), _LOOK_S)):
                await self._kick.wait()

    async def _ask(self, outbox: Outbox) -> PoolGrant | PoolRefusal:
        try:
            csr = self._files.request(self._name)
        except (UnsafeFile, OSError) as error:
            return PoolRefusal(message=str(error), retry=False)
        self._answer = asyncio.get_running_loop().create_future()
        outbox.control(PoolAsk(csr=csr, role=self._role, address=self._address, head_port=self._head_port))
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                return await self._answer
        except TimeoutError:
            return PoolRefusal(message=f"no answer within {_ANSWER_TIMEOUT_S:g} s", retry=True)
        finally:
            self._answer = None

    async def _keep(self, grant: PoolGrant) -> None:
        try:
            membership = await asyncio.to_thread(self._files.keep, grant)
        except (UnsafeFile, OSError) as error:
            self._refused(PoolRefusal(message=str(error), retry=False))
            return
        self._pause.reset()
        self.problem = "" if grant.head else "the pool's Ray head has not started yet"
        self._ask_at = membership.renew_at if grant.head else time.time() + _HEADLESS_S
        if self._membership is None or self._membership.head != membership.head:
            log.info("membership.granted", head=grant.head, expires_in_s=round(grant.expires_in_s))
        async with self._changed:
            self._membership = membership
            self._changed.notify_all()

    def _refused(self, refusal: PoolRefusal) -> None:
        self.problem = refusal.message
        pause_s = self._pause.next_s() if refusal.retry else _REFUSED_S
        self._ask_at = time.time() + pause_s
        log.warning("membership.refused", reason=refusal.message, retry_in_s=round(pause_s, 1))
