"""What the machine's owner wants of its place in the market, asked over the link: drain, resume, another key.

One thing at a time, in the order in which it was asked. How the node stands is what the marketplace says (`Drain`),
whoever wanted it so.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from raymart_core.wire.link import Control, Welcome
from raymart_core.wire.membership import Drain, DrainAsk, KeyRotated, RotateKey, rotation_transcript
from raymart_providers.errors import ProviderError
from raymart_providers.identity import NodeKey
from raymart_providers.link.handshake import Credentials
from raymart_providers.link.outbox import Outbox
from raymart_providers.status import StandingReport

log = structlog.get_logger()

_ASKS_MAX = 8
_ANSWER_TIMEOUT_S = 15.0


class Standing:
    """Implements duty.Duty."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._asks: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(_ASKS_MAX)
        self._outbox: Outbox | None = None
        self._drain = Drain(draining=False)
        self._drained: asyncio.Event = asyncio.Event()
        self._rotated: asyncio.Future[KeyRotated] | None = None
        self._answered = 0
        self._problem = ""

    async def run(self) -> None:
        """Do what was asked, until cancelled."""
        while True:
            ask = await self._asks.get()
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    await ask()
                self._problem = ""
            except TimeoutError:
                self._problem = f"the marketplace did not answer within {_ANSWER_TIMEOUT_S:g} s; try again"
            except (ProviderError, OSError) as error:
                self._problem = str(error)
            self._answered += 1

    def ask_drain(self, ask: DrainAsk) -> None:
        """Have the node drained, or back. Raises: ProviderError when too much waits."""
        self._ask(lambda: self._say_drain(ask))

    def ask_rotation(self) -> None:
        """Give the node another key. Raises: ProviderError when too much waits."""
        self._ask(self._rotate)

    def up(self, outbox: Outbox, welcome: Welcome) -> None:
        """The marketplace tells how the node stands where that is not as usual."""
        del welcome
        self._outbox = outbox
        self._drain = Drain(draining=False)

    def down(self) -> None:
        """What was asked is not answered any more."""
        self._outbox = None
        if self._rotated is not None and not self._rotated.done():
            self._rotated.set_exception(ProviderError("the link broke; see `status`, then try again"))

    def take(self, message: Control) -> bool:
        """How the node stands, or that its key is another."""
        match message:
            case Drain():
                log.info("node.standing", draining=message.draining, reason=message.reason)
                self._drain = message
                self._drained.set()
            case KeyRotated():
                if self._rotated is not None and not self._rotated.done():
                    self._rotated.set_result(message)
            case _:
                return False
        return True

    def heartbeat(self) -> None:
        """Nothing goes with it."""

    def report(self) -> StandingReport:
        """For `status`, and for the commands that ask."""
        return StandingReport(
            draining=self._drain.draining,
            notice_s=self._drain.notice_s,
            reason=self._drain.reason,
            public_key=self._credentials.key.public_bytes.hex(),
            answered=self._answered,
            problem=self._problem,
        )

    def _ask(self, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            self._asks.put_nowait(ask)
        except asyncio.QueueFull:
            raise ProviderError(f"{_ASKS_MAX} asks wait for the marketplace already; try again") from None

    async def _say_drain(self, ask: DrainAsk) -> None:
        self._drained.clear()
        self._live().control(ask)
        await self._drained.wait()
        if self._drain.draining is ask.resume:
            wanted = "resumed" if ask.resume else "drained"
            raise ProviderError(f"the marketplace has not {wanted} this node; look there for the reason")

    async def _rotate(self) -> None:
        """The new key is kept before it is told of and becomes the node's when the marketplace has taken it.

        When the answer is lost, the next handshake finds out which of both it is (`Credentials.try_next_key`).
        """
        state, old = self._credentials.state, self._credentials.key
        new = await asyncio.to_thread(NodeKey.create, state.next_key)
        transcript = rotation_transcript(
            node_id=self._credentials.node_id,
            server=self._credentials.seen_server,
            old_key=old.public_bytes,
            new_key=new.public_bytes,
        )
        self._rotated = asyncio.get_running_loop().create_future()
        try:
            self._live().control(
                RotateKey(
                    public_key=new.public_bytes,
                    old_signature=old.sign(transcript),
                    new_signature=new.sign(transcript),
                )
            )
            answer = await self._rotated
        finally:
            self._rotated = None
        if answer.problem:
            await asyncio.to_thread(state.next_key.unlink, missing_ok=True)
            raise ProviderError(f"the marketplace keeps the old key: {answer.problem}")
        await asyncio.to_thread(state.next_key.replace, state.key)
        old.become(new)
        log.info("key.rotated")

    def _live(self) -> Outbox:
        """Raises: ProviderError without a link."""
        if self._outbox is None:
            raise ProviderError("the link to the marketplace is down; try again when `status` shows it live")
        return self._outbox
