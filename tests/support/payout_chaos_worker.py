"""A worker that sends payouts until it is killed. Any number run side by side and know nothing of each other.

They are forked from a process that has imported everything, so that a kill costs no second of importing.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import SecretStr

from raymart_billing.payouts.books import DatabaseBooks
from raymart_billing.payouts.models import BatchKind
from raymart_billing.payouts.sending.booking import EarningsBooking
from raymart_billing.payouts.sending.failpoints import FailpointSettings, open_failpoints
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.sender import Sender
from raymart_billing.solana.chain import Chain, open_chain
from raymart_billing.solana.marker import Marker, marker_of
from raymart_marketplace.chain_settings import ChainSettings
from raymart_marketplace.db.session import make_engine, make_sessions

MARKER_KEY = "chaos" * 8
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a worker is started with."""

    database_url: str
    nodes: Sequence[str]
    mint: str
    keypair_path: str
    treasury: str
    log_path: str
    failpoints: str = ""
    lease_s: float = 0.3
    """Shorter than a round may take: workers get into each other's way all the time."""
    has_markers: bool = True
    """Off, each attempt has a marker of its own: the way to see that this harness can find overpayments."""


def work(config: WorkerConfig) -> None:
    """Send rounds without end."""
    log = os.open(config.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    asyncio.run(_send_forever(config))


async def _send_forever(config: WorkerConfig) -> None:
    sessions = make_sessions(make_engine(config.database_url, pool_size=10))
    settings = ChainSettings.model_validate(
        {
            "solana_chain_id": "solana:localnet",
            "SOLANA_RPC_URL": ",".join(config.nodes),
            "usdc_mint": config.mint,
            "treasury_address": config.treasury,
            "treasury_keypair": config.keypair_path,
            "payout_marker_key": SecretStr(MARKER_KEY),
        }
    )
    chain = open_chain(settings, books=DatabaseBooks(sessions))
    assert chain is not None
    if not config.has_markers:
        chain = _without_markers(chain)
    sender = Sender(
        sessions,
        chain,
        bookings={BatchKind.EARNINGS: EarningsBooking()},
        rules=SendingRules(lease_s=config.lease_s, pause_s=0.1, attempts_max=60, openings_max=60),
        failpoints=open_failpoints(
            FailpointSettings.model_validate({"payout_failpoints": config.failpoints})
        ),
    )
    while True:
        await sender.round()
        await asyncio.sleep(PAUSE_S)


def _without_markers(chain: Chain) -> Chain:
    """`chain` whose markers are others at each look: nothing on chain remembers that a part was paid."""

    def marker(part_id: UUID, generation: int) -> Marker:
        return marker_of(os.urandom(32), chain.treasury, part_id, generation)

    chain.marker = marker  # type: ignore[method-assign]  # broken on purpose
    return chain
