"""Bodies and answers of `/worker/v1`."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from raymart_marketplace.supply.models import NodeRole, NodeState, OfferState, PlacementState

NodeId = Annotated[
    str, Field(pattern="^node_[0-9a-f]{32}$", examples=["node_0199a0c2d4e57f0e8a1b2c3d4e5f6071"])
]
Base64 = Annotated[str, Field(max_length=120)]
Bytes = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """A body without unknown fields: a typo is told, not ignored."""

    model_config = ConfigDict(extra="forbid")


class GpuBody(Strict):
    """One GPU as NVML reports it."""

    uuid: str = Field(max_length=100)
    model: str = Field(max_length=200)
    memory_bytes: Bytes
    driver: str = Field(max_length=100)


class HardwareBody(Strict):
    """What is in the machine."""

    hostname: str = Field(max_length=253)
    cpu_model: str = Field(max_length=200)
    cpu_count: int = Field(ge=0, le=100_000)
    memory_bytes: Bytes
    gpus: list[GpuBody] = Field(default=[], max_length=64)
    machine_id: str = Field(
        default="",
        max_length=200,
        description="Stable id of the machine, hashed; two nodes may not share it.",
    )


class EnrolmentBody(Strict):
    """A machine that wants to become a node."""

    join_token: str = Field(max_length=200, description="One use, at most an hour old (`createJoinToken`).")
    name: str = Field(max_length=63, description="Unique in its pool: a-z, 0-9, `-`, `_` and `.`.")
    public_key: Base64 = Field(description="Raw Ed25519 public key, 32 bytes in base64url.")
    hardware: HardwareBody


class EnrolmentReply(BaseModel):
    """The node's identity, for good."""

    node_id: NodeId


class ChallengeBody(Strict):
    """Who wants to sign in."""

    node_id: NodeId


class ChallengeReply(BaseModel):
    """Sign MessagePack of `["raymart link proof", 1, server, node_id, nonce as bytes, server_clock_ms]` with Ed25519."""

    nonce: str
    server: str
    server_clock_ms: int
    expires_in_s: int


class ProofBody(Strict):
    """The answer to a challenge."""

    node_id: NodeId
    nonce: Base64
    signature: Base64 = Field(description="64 bytes in base64url.")


class TokenReply(BaseModel):
    """Send it as `Authorization: Bearer`."""

    access_token: str
    token_type: str = "bearer"
    expires_in_s: int


class NodeReply(BaseModel):
    """The node as the marketplace knows it."""

    id: NodeId
    name: str
    role: NodeRole
    state: NodeState
    pool: str
    region: str
    provider: str | None
    last_seen_at: datetime | None
    linked: bool = Field(description="Whether its link ends in the process that answers.")


class PlacementReply(BaseModel):
    """A revision that should run on this node, and what is true of it."""

    id: str
    model: str
    revision: str
    replicas_min: int
    replicas_max: int
    replicas_running: int
    state: PlacementState
    reason: str


class EndpointReply(BaseModel):
    """What of this node can be routed to now, from the process that answers."""

    id: str
    model: str
    revision: str
    capacity: int
    running: int
    quarantined: bool


class OfferReply(BaseModel):
    """What this node's provider sells."""

    id: str
    model: str
    revision: str
    state: OfferState
    ask_prompt_nano_usd: int | None = Field(description="Per prompt token; null for the rate card's price.")
    ask_completion_nano_usd: int | None


class BenchmarkCheckReply(BaseModel):
    """One check of this node's last benchmark that has an end."""

    check: str
    device: str = Field(description="UUID of a GPU; empty for the machine.")
    value: float | None
    limit: float | None
    passed: bool
    reason: str | None
    message: str
