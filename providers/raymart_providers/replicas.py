"""The replicas of this machine: they register every second, and one idle connection to each tells of its death."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from raymart_core.wire.link import Replica
from raymart_serve.replica.registration import ReplicaRegistration

log = structlog.get_logger()

_CONNECT_TIMEOUT_S = 2.0
REPLICAS_MAX = 128
"""Replicas on one machine; an announcement of them fits into one frame."""
_FLAP_S = 0.2
_FLAPS_MAX = 3
"""A replica that closes this many connections in a row within `_FLAP_S` each is of no use."""


@dataclass(slots=True, kw_only=True, eq=False)
class LocalReplica:
    """One replica on this machine, and the tunnelled requests that run on it."""

    registration: ReplicaRegistration
    host: str
    port: int
    registered_at: float
    watch: "asyncio.Task[None] | None" = None
    running: int = 0
    retired: bool = False
    """Announced as draining whatever it says itself: its Ray is about to be started anew."""


class ReplicaBook:
    """Which replicas this machine has now. `on_change` is called at once after each change that matters outside."""

    def __init__(self, *, on_change: Callable[[], None], direct: bool = False, stale_s: float = 5.0) -> None:
        self._on_change = on_change
        self._direct = direct
        self._stale_s = stale_s
        self._replicas: dict[str, LocalReplica] = {}

    def find(self, replica_id: str) -> LocalReplica | None:
        """The replica with this id, if it is here."""
        return self._replicas.get(replica_id)

    def all(self) -> tuple[LocalReplica, ...]:
        """Every replica that is here."""
        return tuple(self._replicas.values())

    def announced(self) -> tuple[Replica, ...]:
        """The replicas as the marketplace is told of them; with address and secret only in direct mode."""
        return tuple(self._announced(local) for local in self._replicas.values())

    def retire(self) -> None:
        """Take no new requests for the replicas that are here now; those that come later are as good as any."""
        for local in self._replicas.values():
            local.retired = True
        self._on_change()

    def register(self, registration: ReplicaRegistration) -> None:
        """Take a registration.

        Raises: ValueError for an address or a secret that is none, a capacity below 1, or one replica too many.
        """
        host, port = split_address(registration.address)
        if not registration.secret.isascii() or not registration.secret.isprintable():
            raise ValueError(f"the secret of {registration.replica_id!r} does not fit into a header")
        if registration.capacity < 1:
            raise ValueError(f"capacity {registration.capacity} of {registration.replica_id!r}; at least 1")
        known = self._replicas.get(registration.replica_id)
        if known is None and len(self._replicas) >= REPLICAS_MAX:
            raise ValueError(f"{REPLICAS_MAX} replicas are registered; this machine has no place for more")
        if registration.state == "gone":
            if known is not None:
                self._drop(known, "it said so")
            return
        now = asyncio.get_running_loop().time()
        if known is not None and (known.host, known.port) == (host, port):
            # A queue that grows is told with the next heartbeat, not by announcing everything anew.
            changed = msgspec.structs.replace(known.registration, waiting=0) != msgspec.structs.replace(
                registration, waiting=0
            )
            known.registration = registration
            known.registered_at = now
        else:
            if known is not None:
                self._unwatch(known)
            self._add(LocalReplica(registration=registration, host=host, port=port, registered_at=now))
            changed = True
        if changed:
            self._on_change()

    async def close(self) -> None:
        """Stop watching."""
        watches = [local.watch for local in self._replicas.values() if local.watch is not None]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def _add(self, local: LocalReplica) -> None:
        self._replicas[local.registration.replica_id] = local
        local.watch = asyncio.create_task(self._watch(local), name=f"watch {local.registration.replica_id}")
        log.info(
            "replica.registered",
            replica_id=local.registration.replica_id,
            model=local.registration.model,
            pid=local.registration.pid,
        )

    async def _watch(self, local: LocalReplica) -> None:
        """Hold a connection open; drop the replica when it closes and no new one can be made.

        A server may close an idle connection without dying, so its end alone proves nothing; a refused connection
        does. A replica that no longer registers is probed by a fresh connection, too.
        """
        flaps, reason = 0, "it closes every connection"
        loop = asyncio.get_running_loop()
        while flaps < _FLAPS_MAX:
            began_at = loop.time()
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(local.host, local.port)
            except OSError as error:
                reason = f"its port closed: {error.strerror or type(error).__name__}"
                break
            try:
                await self._wait_for_end(local, reader)
            finally:
                # Not `close`: nothing is unsent here, and the other end may never read again.
                writer.transport.abort()
            flaps = flaps + 1 if loop.time() - began_at < _FLAP_S else 0
        local.watch = None
        if self._replicas.get(local.registration.replica_id) is local:
            self._drop(local, reason)

    async def _wait_for_end(self, local: LocalReplica, reader: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stale_s):
                    with contextlib.suppress(ConnectionError):
                        while await reader.read(1024):
                            pass
                    return
            if loop.time() - local.registered_at > self._stale_s:
                return

    def _drop(self, local: LocalReplica, reason: str) -> None:
        self._unwatch(local)
        self._replicas.pop(local.registration.replica_id, None)
        log.info("replica.gone", replica_id=local.registration.replica_id, reason=reason)
        self._on_change()

    def _unwatch(self, local: LocalReplica) -> None:
        if local.watch is not None:
            local.watch.cancel()
            local.watch = None

    def _announced(self, local: LocalReplica) -> Replica:
        registration = local.registration
        direct = registration.direct_address or registration.address
        return Replica(
            replica_id=registration.replica_id,
            revision=registration.revision,
            model=registration.model,
            engine=registration.engine,
            capacity=registration.capacity,
            context_length=registration.context_length,
            state="draining" if local.retired or registration.state == "draining" else "ready",
            address=direct if self._direct else None,
            secret=registration.secret if self._direct else None,
            certificate_sha256=(registration.certificate_sha256 or None) if self._direct else None,
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" ("[::1]:80" too). Raises: ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"{address!r} is not of the form host:port")
    return host.strip("[]"), int(port)
