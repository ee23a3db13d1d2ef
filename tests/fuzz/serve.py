"""The control plane on a port, with a customer, a provider that answers, an administrator and a node.

Writes `ready.json` into the folder that is its argument and serves until SIGINT; then says how long the event loop was
ever held and by what, and exits 1 when that was over the promise.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from raymart_core.ids import Prefix, parse, show
from raymart_core.wire.link import proof_transcript
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.service import create_join_token
from support.api_server import Api, api_server, control_settings
from support.loop_holds import LoopHolds, holds_measured
from support.scripted_replica import Exchange, ScriptedReplica

HELD_S_MAX = 0.25
"""Promise 12."""


async def main(folder: Path) -> bool:
    """Serve until SIGINT; whether the loop was never held too long."""
    with EmbeddedRedis(folder / "redis") as redis:
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        try:
            upgrade(postgres.owner_url)
            settings = control_settings(
                postgres.runtime_url, redis_url=redis.url, broker_url=redis.url, log_level="ERROR"
            )
            async with api_server(settings) as api, provider(api) as seller:
                (folder / "ready.part").write_text(json.dumps(await world(api, seller)))
                (folder / "ready.part").rename(folder / "ready.json")
                with holds_measured() as holds:
                    await until_signalled(signal.SIGINT)
        finally:
            postgres.destroy()
    report(holds)
    return holds.longest[0].cpu_s <= HELD_S_MAX


def report(holds: LoopHolds) -> None:
    """Say whether the promise was kept, and what held the loop for longest."""
    longest = holds.longest
    good = longest[0].cpu_s <= HELD_S_MAX
    print(
        f"  {'yes' if good else 'NO ':3}  event loop held at most {longest[0].cpu_s * 1000:.0f} ms"
        f" (target <= {HELD_S_MAX * 1000:.0f} ms); the longest:",
        *(f"       {hold.told()}" for hold in longest),
        f"       the garbage collector ran {dict(sorted(holds.collections.items()))} times by generation,"
        f" {holds.longest_collection_s * 1000:.0f} ms at most",
        sep="\n",
        flush=True,
    )


@contextlib.asynccontextmanager
async def provider(api: Api):
    """A seller with a replica that answers three tokens at most."""
    seller = await api.seller()

    async def answer(exchange: Exchange) -> None:
        exchange.prompt()
        for _ in range(min(exchange.request.sampling.max_tokens, 3)):
            exchange.step()
        exchange.finish(revision=seller.digest)

    async with ScriptedReplica(answer) as replica:
        await api.serve(seller, replica, capacity=64)
        yield seller
        api.retire(seller)


async def world(api: Api, seller: Any) -> dict[str, Any]:
    """What the cases need: addresses, credentials, and ids that exist."""
    customer, stranger = await api.tenant(), await api.tenant()
    await api.credit(customer, 10**15)
    key_id, key = await api.api_key(customer)
    requests = await api.use(customer, seller, 5)
    return {
        "url": str(api.client.base_url),
        "model": seller.model_slug,
        "credentials": {
            "customer": customer.owner.token,
            "seller": seller.tenant.owner.token,
            "admin": (await api.admin()).token,
            "key": key,
            "node": await node_token(api, seller),
        },
        "ids": [
            customer.id,
            customer.project,
            stranger.id,
            seller.id,
            seller.tenant.id,
            show(Prefix.API_KEY, key_id),
            show(Prefix.OFFER, seller.offer_id),
            show(Prefix.NODE, seller.node_id),
            show(Prefix.MODEL, seller.model_id),
            show(Prefix.REVISION, seller.revision_id),
            show(Prefix.POOL, seller.pool_id),
            *(show(Prefix.REQUEST, request) for request in requests),
        ],
    }


async def node_token(api: Api, seller: Any) -> str:
    """A machine joins and proves its key."""
    key = Ed25519PrivateKey.generate()
    async with session_scope(api.services.sessions) as session:
        _, join_token = await create_join_token(
            session,
            pool_id=seller.pool_id,
            provider_id=seller.provider_id,
            role=NodeRole.NODE,
            user_id=None,
        )
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    enrolled = await api.client.post(
        "/worker/v1/enrolments",
        json={
            "join_token": join_token,
            "name": "fuzzed",
            "public_key": base64.urlsafe_b64encode(public).decode(),
            "hardware": {"hostname": "box", "cpu_model": "cpu", "cpu_count": 1, "memory_bytes": 1},
        },
    )
    node_id = enrolled.json()["node_id"]
    parse(Prefix.NODE, node_id)
    challenge = (await api.client.post("/worker/v1/challenges", json={"node_id": node_id})).json()
    transcript = proof_transcript(
        node_id=node_id,
        nonce=base64.urlsafe_b64decode(challenge["nonce"]),
        server=challenge["server"],
        server_clock_ms=challenge["server_clock_ms"],
    )
    proof = {
        "node_id": node_id,
        "nonce": challenge["nonce"],
        "signature": base64.urlsafe_b64encode(key.sign(transcript)).decode(),
    }
    return str((await api.client.post("/worker/v1/tokens", json=proof)).json()["access_token"])


async def until_signalled(ending: signal.Signals) -> None:
    """Wait for the signal."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(ending, ended.set)
    await ended.wait()


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A shell's background process begins with SIGINT ignored: told to end before it is ready, it never would.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(0 if asyncio.run(main(Path(sys.argv[1]))) else 1)
