"""The link: one outbound WebSocket from node agent (or pool controller) to the marketplace at `/link`.

Binary frames: type (u8), stream id (u32, big endian), payload. Stream 0 carries control messages as MessagePack;
other streams are tunnelled HTTP requests, opened by the marketplace with odd or even ids as it likes. A frame's
payload is at most `FRAME_BYTES_MAX`.

Conversation: `Hello` -> `Challenge` -> `Proof` -> `Welcome` or `Refuse`; a machine without a node key first sends
`Enrol` with a one-time join token and gets `Enrolled`. Then `Announce` (at each change), `Heartbeat` (every
`Welcome.heartbeat_s`), `Desired` (to a pool controller), `Report`, `GoAway`.

Machines: `RotateKey` replaces a node's key by a proven node. `DrainAsk` (from a node) and `Drain` (to it) take it out of
routing while what runs may end. `BenchmarkOrder` has the node measured, `BenchmarkResult` answers; `Telemetry` comes
every `TELEMETRY_S`. `PoolAsk` gets a machine of a house pool what it joins the pool's Ray cluster with. `Demand` tells
a pool controller which placements are waited for.

Weights: a node that keeps a model cache says so in `Announce.cache` and is told by `Prefetch` what it should hold. For
a revision that it lacks it asks (`ArtifactAsk`) and gets `ArtifactGrants`, page by page, or `ArtifactRefusal`.

Tunnel: OPEN (`OpenRequest`) from the marketplace, DATA for the request body, END; the agent answers HEAD
(`ResponseHead`), DATA, END, or RESET (`Reset`) at any time from either side. Flow control, per stream and direction:
a sender may have `WINDOW_BYTES` of DATA payload unacknowledged; the receiver returns credit in WINDOW frames (u32)
as it consumes. One slow stream thus holds back only itself.

Several frames travel in one message, BUNDLE (`wire.bundle`), to an end that said in `Hello` or `Welcome` that it takes
them: a message costs both ends several times what a frame in it does.
"""

import struct
from enum import IntEnum
from typing import Literal

import msgspec

from raymart_core.units import Fault
from raymart_core.wire.machine import BenchmarkData, BenchmarkOrder, BenchmarkResult, Telemetry
from raymart_core.wire.manifest import Manifest
from raymart_core.wire.membership import (
    Drain,
    DrainAsk,
    KeyRotated,
    PoolAsk,
    PoolGrant,
    PoolRefusal,
    RotateKey,
)

LINK_VERSION = 1
LINK_PATH = "/link"
FRAME_BYTES_MAX = 64 * 1024
"""Largest frame payload, in bytes."""
WINDOW_BYTES = 256 * 1024
"""DATA payload a sender may have unacknowledged on one stream."""
STREAMS_MAX = 1024
"""Open streams per link; one more is refused with RESET."""

_HEADER = struct.Struct("!BI")
_CREDIT = struct.Struct("!I")
HEADER_BYTES = _HEADER.size


class FrameType(IntEnum):
    """First byte of a frame."""

    CONTROL = 0
    OPEN = 1
    HEAD = 2
    DATA = 3
    END = 4
    RESET = 5
    WINDOW = 6
    BUNDLE = 7
    """Several frames of the other types, on stream 0."""


# An index is a third of what a call of the enumeration costs, and every frame passes here.
_KINDS = tuple(FrameType)


def pack_frame(kind: FrameType, stream_id: int, payload: bytes = b"") -> bytes:
    """One WebSocket message."""
    assert len(payload) <= FRAME_BYTES_MAX
    return _HEADER.pack(kind, stream_id) + payload


def unpack_frame(message: bytes) -> tuple[FrameType, int, bytes]:
    """Type, stream id and payload of a WebSocket message.

    Raises: ValueError for a short message, an unknown type or an oversized payload.
    """
    if not HEADER_BYTES <= len(message) <= HEADER_BYTES + FRAME_BYTES_MAX:
        raise ValueError(
            f"a frame of {len(message)} bytes is outside {HEADER_BYTES}..{HEADER_BYTES + FRAME_BYTES_MAX}"
        )
    kind, stream_id = _HEADER.unpack_from(message)
    if kind >= len(_KINDS):
        raise ValueError(f"a frame of type {kind}; the types are 0..{len(_KINDS) - 1}")
    return _KINDS[kind], stream_id, message[HEADER_BYTES:]


def pack_credit(byte_count: int) -> bytes:
    """Payload of a WINDOW frame."""
    return _CREDIT.pack(byte_count)


def unpack_credit(payload: bytes) -> int:
    """Bytes of credit in a WINDOW frame. Raises: ValueError when the payload is not four bytes."""
    if len(payload) != _CREDIT.size:
        raise ValueError(f"a WINDOW payload has 4 bytes, not {len(payload)}")
    return int(_CREDIT.unpack(payload)[0])


class Gpu(msgspec.Struct, frozen=True):
    """One GPU as NVML reports it."""

    uuid: str
    model: str
    memory_bytes: int
    driver: str
    compute_capability: str = ""
    """Such as "9.0"; empty where NVML does not say."""
    multiprocessors: int = 0
    """Streaming multiprocessors; 0 where unknown."""
    ecc: bool | None = None
    """Whether error correction is on; None where the card has none."""
    mig: tuple["MigSlice", ...] = ()
    """Slices, where the card is partitioned; the card as a whole can then not be used."""


class MigSlice(msgspec.Struct, frozen=True):
    """One slice of a partitioned GPU."""

    uuid: str
    profile: str
    """Such as "1g.18gb"."""
    memory_bytes: int


class Hardware(msgspec.Struct, frozen=True):
    """What the agent found on its machine."""

    hostname: str
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    machine_id: str = ""
    """Stable id of the machine, hashed; the same id under two nodes is refused."""
    os: str = ""
    """Such as "Debian GNU/Linux 12"."""
    kernel: str = ""
    cuda: str = ""
    """Highest CUDA version of the driver, such as "13.0"."""
    disk_bytes: int = 0
    """Of the file system that holds the model cache."""


class Enrol(msgspec.Struct, frozen=True, tag_field="m", tag="enrol"):
    """First message of an unknown machine: spend `join_token` (one use, at most 1 h old) for a node identity."""

    version: int
    join_token: str
    name: str
    """Name of the node, unique in its pool; also its Ray label `raymart.io/node`."""
    public_key: bytes
    """Raw Ed25519 public key, 32 bytes."""
    hardware: Hardware


class Enrolled(msgspec.Struct, frozen=True, tag_field="m", tag="enrolled"):
    """The node's identity; `Hello` follows on the same connection."""

    node_id: str
    """node_<hex>."""


class Hello(msgspec.Struct, frozen=True, tag_field="m", tag="hello"):
    """Who is calling."""

    version: int
    node_id: str
    role: Literal["node", "controller"]
    agent_version: str
    clock_ms: int
    """The caller's Unix time, to report skew."""
    bundles: bool = False
    """Whether the caller takes BUNDLE messages."""


class Challenge(msgspec.Struct, frozen=True, tag_field="m", tag="challenge"):
    """A fresh nonce to sign."""

    nonce: bytes
    """32 random bytes, used once."""
    server: str
    server_clock_ms: int


class Proof(msgspec.Struct, frozen=True, tag_field="m", tag="proof"):
    """Ed25519 signature over `proof_transcript`."""

    signature: bytes


class Welcome(msgspec.Struct, frozen=True, tag_field="m", tag="welcome"):
    """The link is live."""

    heartbeat_s: float
    lease_s: float
    """Without a heartbeat for this long, the node's endpoints leave routing."""
    pool: str
    name: str
    pool_kind: Literal["house", "provider"] = "house"
    """Whether the machine joins a shared Ray cluster or runs its own."""
    bundles: bool = False
    """Whether the marketplace takes BUNDLE messages."""


class Refuse(msgspec.Struct, frozen=True, tag_field="m", tag="refuse"):
    """The link is not granted; the connection is closed after this."""

    reason: str
    """Stable code: bad_token, unknown_node, bad_proof, revoked, duplicate, version, superseded, limit, protocol,
    timeout, silent, unavailable, left."""
    message: str
    """What to do."""
    retry: bool
    """Whether the same attempt may succeed later."""


class Replica(msgspec.Struct, frozen=True, omit_defaults=True):
    """One replica on the agent's machine, as it can be routed to."""

    replica_id: str
    revision: str
    model: str
    engine: str
    capacity: int
    context_length: int
    state: Literal["ready", "draining"]
    running: int = 0
    address: str | None = None
    """host:port, only where the gateway can reach it directly (house pool)."""
    secret: str | None = None
    certificate_sha256: str | None = None
    """Of the certificate (DER) that the replica shows at `address`, 64 hex digits; None where it speaks no TLS."""


CACHED_MAX = 128
"""Revisions in one `ModelCache`."""


class ModelCache(msgspec.Struct, frozen=True, omit_defaults=True):
    """The node's model cache, and where other nodes of its pool may fetch from it."""

    revisions: tuple[str, ...] = ()
    """Manifest digests of which every artifact is here, last used first, at most `CACHED_MAX`."""
    address: str = ""
    """host:port of the node's artifact server, a private or loopback IP; empty where it serves nobody."""
    secret: str = ""
    """Fresh at each start of the agent: the marketplace makes tokens with it (`wire.peer_token`)."""


class Announce(msgspec.Struct, frozen=True, tag_field="m", tag="announce"):
    """Everything the node has now; replaces what was announced before."""

    hardware: Hardware
    replicas: tuple[Replica, ...]
    cache: ModelCache | None = None
    """None: this node keeps none, and is not told what to hold."""
    controls: bool = False
    """This node runs its provider pool's Ray head, applies placements and reports on them."""


class Heartbeat(msgspec.Struct, frozen=True, tag_field="m", tag="heartbeat", omit_defaults=True):
    """Still here. `running` counts tunnelled requests per replica id."""

    clock_ms: int
    running: dict[str, int] = {}
    waiting: dict[str, int] = {}
    """Of these, requests that wait in the replica's queue, per replica id."""


class Placement(msgspec.Struct, frozen=True):
    """One desired or observed placement: a revision on a node, with a replica range."""

    placement_id: str
    node: str
    """Name of the node, its label `raymart.io/node`."""
    model: str
    revision: str
    """Manifest digest."""
    engine: str
    source: str
    """Where the weights come from: "bundled:<name>", or "registry:<revision>" by way of the node's model cache."""
    sha256: str
    """Of bundled weights; from the registry, the hex part of the revision."""
    context_length: int
    replicas_min: int
    replicas_max: int
    slots: int
    """Generations at once per replica."""
    parameters: dict[str, str] = {}
    """What the revision's manifest sets of its engine, by name."""
    cpus: float = 0.5
    """What a replica asks of Ray's accounting."""
    idle_s: float = 60.0
    """How long a replica may be without work before it goes, down to `replicas_min`."""


class Desired(msgspec.Struct, frozen=True, tag_field="m", tag="desired"):
    """All placements the pool should run; what is left out is removed."""

    generation: int
    placements: tuple[Placement, ...]


class Observed(msgspec.Struct, frozen=True):
    """What is true of one placement."""

    placement_id: str
    state: Literal["placing", "running", "failed", "gone"]
    replicas: int
    reason: str = ""
    starting: int = 0
    """Replicas that load."""
    restarts: int = 0
    """Replicas that died, since the placement was applied."""
    cold_start_ms: int | None = None
    """How long the last replica took from being asked for to being ready."""


class Demand(msgspec.Struct, frozen=True, tag_field="m", tag="demand"):
    """How many replicas' worth of work waits or runs, by placement; what is left out has none. Replaces the last."""

    replicas: dict[str, float]


REVISIONS_MAX = 512
"""Revisions in one `Prefetch`."""


class Prefetch(msgspec.Struct, frozen=True, tag_field="m", tag="prefetch"):
    """What the node should have at hand, whether it runs already or not; replaces what was said before."""

    revisions: tuple[str, ...]
    """Manifest digests, the one needed first coming first, at most `REVISIONS_MAX`."""


class ArtifactAsk(msgspec.Struct, frozen=True, tag_field="m", tag="artifact_ask"):
    """The node wants a revision's weights; also to get fresh URLs after old ones have expired."""

    ask: int
    """Chosen by the node, repeated in the answer."""
    revision: str
    first: int = 0
    """Index of the first file wanted: one message does not hold all files of a large model."""


class FileGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of the manifest, and how to get the artifact that holds it."""

    path: str
    size: int
    sha256: str
    """These three as in the manifest; sizes are in bytes."""
    stored_sha256: str
    """Of the bytes as they are stored and sent, hex; equals `sha256` unless the file is sealed."""
    stored_size: int
    url: str
    """Signed and expiring, answers to Range requests."""
    data_key: bytes = b""
    """Opens a sealed artifact (`wire.sealed`); empty where it is not sealed. Kept in memory only."""


class PeerGrant(msgspec.Struct, frozen=True):
    """A node of the same pool that holds the revision."""

    address: str
    """host:port; artifacts are at `ARTIFACT_PATH` + stored digest."""
    token: str
    """Bearer token for this revision, expiring."""


ARTIFACT_PATH = "/artifacts/"
"""Where a node serves artifacts to other nodes, followed by the stored digest."""


class ArtifactGrants(msgspec.Struct, frozen=True, tag_field="m", tag="artifact_grants"):
    """A page of a revision's files. The node puts the manifest together and checks that its digest is the revision."""

    ask: int
    manifest: Manifest
    """All of it but its files."""
    files_total: int
    first: int
    files: tuple[FileGrant, ...]
    """From `first` on, as many as fit."""
    peers: tuple[PeerGrant, ...] = ()


class ArtifactRefusal(msgspec.Struct, frozen=True, tag_field="m", tag="artifact_refusal"):
    """There is no grant."""

    ask: int
    message: str
    """What to do."""
    retry: bool
    """Whether the same ask may succeed later."""


class Report(msgspec.Struct, frozen=True, tag_field="m", tag="report"):
    """The pool controller's view, after each change and with each heartbeat."""

    generation: int
    observed: tuple[Observed, ...]
    ray_nodes: tuple[str, ...] = ()
    """Names (label `raymart.io/node`) of the live nodes of the pool's Ray cluster."""
    unknown: tuple[str, ...] = ()
    """Applications in Serve that are no placement."""


class GoAway(msgspec.Struct, frozen=True, tag_field="m", tag="goaway"):
    """No new streams; the sender closes after `drain_s` seconds."""

    drain_s: float
    reason: str


class Leave(msgspec.Struct, frozen=True, tag_field="m", tag="leave"):
    """This machine gives up its node key: the node is revoked, and `Refuse` with reason `left` answers."""


Control = (
    Enrol | Enrolled | Hello | Challenge | Proof | Welcome | Refuse
    | Announce | Heartbeat | Desired | Report | GoAway | Leave
    | Prefetch | ArtifactAsk | ArtifactGrants | ArtifactRefusal
    | Telemetry | BenchmarkOrder | BenchmarkData | BenchmarkResult | RotateKey | KeyRotated
    | Drain | DrainAsk | PoolAsk | PoolGrant | PoolRefusal | Demand
)  # fmt: skip
"""Any control message."""


class OpenRequest(msgspec.Struct, frozen=True):
    """Payload of OPEN: an HTTP request for one replica; its body follows as DATA."""

    replica_id: str
    method: str
    path: str
    request_id: str
    deadline_ms: int
    """Milliseconds the replica has from now."""


class ResponseHead(msgspec.Struct, frozen=True):
    """Payload of HEAD."""

    status: int
    content_type: str


ResetCode = Literal["cancelled", "no_replica", "replica_lost", "protocol", "limit", "draining"]
"""Why a stream ended."""


class Reset(msgspec.Struct, frozen=True):
    """Payload of RESET: the stream is over at once."""

    code: ResetCode
    message: str
    fault: Fault


def proof_transcript(*, node_id: str, nonce: bytes, server: str, server_clock_ms: int) -> bytes:
    """The bytes a node signs: bound to this server, this nonce and this node, so that a proof cannot be replayed."""
    return msgspec.msgpack.encode(
        ("raymart link proof", LINK_VERSION, server, node_id, nonce, server_clock_ms)
    )


encode = msgspec.msgpack.Encoder().encode
decode_control = msgspec.msgpack.Decoder(Control).decode
decode_open = msgspec.msgpack.Decoder(OpenRequest).decode
decode_head = msgspec.msgpack.Decoder(ResponseHead).decode
decode_reset = msgspec.msgpack.Decoder(Reset).decode
