"""Thousands of simulated nodes in one process. Usage: crowd.py PORT NODES MODEL REVISION SEED

Each dials, proves its key, announces one replica and sends a heartbeat as often as it is asked to, and a ping as often as
an agent; one that is refused or cut dials again after the agent's own pauses. From SIGUSR1 on each sends telemetry too,
of a machine with one GPU. A WebSocket by hand, as small as it can be: it is the marketplace that is
measured. Which key a node has follows from SEED and its number (`key_of`).
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raymart_core.ids import Prefix, show
from raymart_core.wire.bundle import unpack_message
from raymart_core.wire.link import (
    LINK_PATH,
    LINK_VERSION,
    Announce,
    Challenge,
    Control,
    FrameType,
    Heartbeat,
    Hello,
    Proof,
    Replica,
    Welcome,
    decode_control,
    encode,
    pack_frame,
    proof_transcript,
)
from raymart_core.wire.machine import TELEMETRY_S, GpuSample, Telemetry
from raymart_providers.link.backoff import Backoff
from support.crowd_nodes import HARDWARE, key_of, node_id_of

_PING_S = 5.0
"""An agent pings as often, and not more often than it sends heartbeats."""
_GPU = GpuSample(
    uuid="GPU-00000000-0000-0000-0000-000000000000",
    utilisation_percent=97.0,
    memory_used_bytes=2**36,
    temperature_c=71.0,
    power_w=650.0,
    ecc_uncorrected_total=0,
)
_MASK = bytes(4)  # A mask of zeros is a mask, and costs this process nothing.
_UPGRADE = (
    f"GET {LINK_PATH} HTTP/1.1\r\nHost: market\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class CrowdNode(asyncio.Protocol):
    """One node, for as long as the process lives."""

    def __init__(self, number: int, *, port: int, seed: str, replica: Replica) -> None:
        self._port = port
        self._key: Ed25519PrivateKey = key_of(seed, number)
        self._node_id = show(Prefix.NODE, node_id_of(seed, number))
        self._replica = replica
        self._backoff = Backoff()
        self._beats: list[asyncio.TimerHandle] = []

    async def dial(self) -> None:
        """Connect; what follows is callbacks."""
        self._received = b""
        self._upgraded = False
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError:
            self._dial_later()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self._transport = transport
        self._transport.write(_UPGRADE)  # type: ignore[attr-defined]  # uvloop's transports are no subclass

    def data_received(self, data: bytes) -> None:
        """Cut into messages; a server's are unmasked and, here, short."""
        self._received += data
        if not self._upgraded:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded, self._received = True, rest
            self._say(
                Hello(
                    version=LINK_VERSION,
                    node_id=self._node_id,
                    role="node",
                    agent_version="crowd",
                    clock_ms=_clock_ms(),
                    bundles=True,
                )
            )
        while len(self._received) >= 2 and self._take_message():
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        """Dial again after a pause."""
        self._hush()
        self._dial_later()

    def _take_message(self) -> bool:
        opcode, size, start = self._received[0] & 15, self._received[1], 2
        if size == 126:
            size, start = int.from_bytes(self._received[2:4]), 4
        if len(self._received) < start + size:
            return False
        payload, self._received = self._received[start : start + size], self._received[start + size :]
        if opcode == 2:
            for kind, _, body in unpack_message(payload):
                if kind is FrameType.CONTROL:
                    self._hear(decode_control(body))
        elif opcode == 9:
            self._send(0x8A, payload)
        return True

    def _hear(self, message: Control) -> None:
        if isinstance(message, Challenge):
            transcript = proof_transcript(
                node_id=self._node_id,
                nonce=message.nonce,
                server=message.server,
                server_clock_ms=message.server_clock_ms,
            )
            self._say(Proof(signature=self._key.sign(transcript)))
        elif isinstance(message, Welcome):
            self._backoff.reset()
            self._say(Announce(hardware=HARDWARE, replicas=(self._replica,)))
            self._repeat(message.heartbeat_s, self._heartbeat)
            self._repeat(max(_PING_S, message.heartbeat_s), self._ping)

    def tell_telemetry(self) -> None:
        """From now on, as long as the link lives."""
        self._repeat(TELEMETRY_S, self._telemetry)

    def _repeat(self, every_s: float, say: Callable[[], None]) -> None:
        loop, number = asyncio.get_running_loop(), len(self._beats)

        def beat() -> None:
            say()
            self._beats[number] = loop.call_later(every_s, beat)

        # Not all at once, as nodes that began at different times.
        self._beats.append(loop.call_later(random.uniform(0, every_s), beat))  # spreads load; guards nothing

    def _hush(self) -> None:
        for beat in self._beats:
            beat.cancel()
        self._beats.clear()

    def _heartbeat(self) -> None:
        self._say(Heartbeat(clock_ms=_clock_ms(), running={self._replica.replica_id: 1}))

    def _ping(self) -> None:
        self._send(0x89, b"ping")

    def _telemetry(self) -> None:
        self._say(
            Telemetry(
                clock_ms=_clock_ms(),
                cpu_percent=12.5,
                memory_used_bytes=2**34,
                disk_free_bytes=2**40,
                gpus=(_GPU,),
            )
        )

    def _say(self, message: Control) -> None:
        self._send(0x82, pack_frame(FrameType.CONTROL, 0, encode(message)))

    def _send(self, first: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2)
        self._transport.write(head + _MASK + payload)  # type: ignore[attr-defined]

    def _dial_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._backoff.next_s(), lambda: loop.create_task(self.dial()))


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


async def main() -> None:
    port, nodes, model, revision, seed = sys.argv[1:]
    replica = Replica(
        replica_id="replica-1",
        revision=revision,
        model=model,
        engine="llama_cpp",
        capacity=4,
        context_length=1024,
        state="ready",
    )
    crowd = [CrowdNode(number, port=int(port), seed=seed, replica=replica) for number in range(int(nodes))]
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: [node.tell_telemetry() for node in crowd]
    )
    tasks = set()
    for node in crowd:
        tasks.add(task := asyncio.create_task(node.dial()))
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    print("dialled", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
