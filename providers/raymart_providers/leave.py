"""`raymart-provider leave`: the node gives up its key."""

import shutil

from raymart_core.wire.link import Hardware
from raymart_providers.errors import LinkRefused
from raymart_providers.identity import Enrolment, NodeKey
from raymart_providers.link.client import revoke
from raymart_providers.link.handshake import Credentials
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.ray_process.sweep import sweep
from raymart_providers.state_dir import StateDir

_GONE_ALREADY = frozenset({"left", "revoked", "unknown_node"})


def clear_machine(state: StateDir) -> None:
    """End what a killed agent has left of this machine's own Ray, and delete its files. Nobody else's are touched."""
    home = RayHome(state.ray)
    sweep(home.mark)
    home.forget()
    shutil.rmtree(state.membership, ignore_errors=True)


async def leave_marketplace(state: StateDir, enrolment: Enrolment, *, url: str) -> None:
    """Prove the key a last time and have it revoked; a key that is revoked already is as good.

    Raises: LinkRefused for another reason; OSError, WebSocketException, BadPeer when the marketplace cannot be told.
    """
    credentials = Credentials(
        state=state,
        key=NodeKey.load(state.key),
        role=enrolment.role,
        name=enrolment.name,
        server=enrolment.server,
        hardware=Hardware(hostname="", cpu_model="", cpu_count=0, memory_bytes=0),
        join_token=None,
    )
    try:
        await revoke(url, credentials)
    except LinkRefused as refusal:
        if refusal.reason not in _GONE_ALREADY:
            raise
