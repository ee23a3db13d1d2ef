"""Knocks at gRPC ports: `grpc_doors.py TOKEN AUTHORITY MEMBER HOST:PORT...`.

TOKEN is a wrong one, a member's, or "". Without AUTHORITY, a certificate's path, it speaks in clear. MEMBER is the folder
of a member's key and certificate, or "" for a stranger.

Prints a JSON object: by `host:port`, the status that each of Ray's methods gave.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc

METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeInfoGcsService/GetClusterId",
    "/ray.rpc.NodeInfoGcsService/RegisterNode",
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.ActorInfoGcsService/KillActorViaGcs",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/KillActor",
    "/ray.serve.ASGIService/HandleRequest",
    "/ray.serve.ASGIService/HandleRequestWithRejection",
)
_TIMEOUT_S = 2.0


def statuses(address: str, *, token: str, credentials: grpc.ChannelCredentials | None) -> dict[str, str]:
    """What each method says to an empty request; nothing where no gRPC is spoken."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with _channel(address, credentials) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return {}
        return {method: _status(channel, method, metadata) for method in METHODS}


def credentials_of(authority: str, member: str) -> grpc.ChannelCredentials | None:
    """How to speak TLS; None for in clear."""
    if not authority:
        return None
    key, certificate = (
        (Path(member) / f"member.{kind}").read_bytes() if member else None for kind in ("key", "crt")
    )
    return grpc.ssl_channel_credentials(Path(authority).read_bytes(), key, certificate)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    return (
        grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    )


def _status(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...]) -> str:
    call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    try:
        call(b"", timeout=_TIMEOUT_S, metadata=metadata)
    except grpc.RpcError as refusal:
        return str(refusal.code().name)  # type: ignore[attr-defined]  # every RpcError of a call has it
    return "OK"


if __name__ == "__main__":
    token, authority, member, *addresses = sys.argv[1:]
    knock = partial(statuses, token=token, credentials=credentials_of(authority, member))
    # Nearly all the time is spent on waiting for silence.
    with ThreadPoolExecutor(max_workers=16) as knocking:
        asked = dict(zip(addresses, knocking.map(knock, addresses), strict=True))
    sys.stdout.write(json.dumps(asked))
