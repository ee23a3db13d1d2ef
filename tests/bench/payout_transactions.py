"""Payouts as transactions: payees in one, lamports a payee, and how fast they are built and signed.

Everything is the product's: built and simulated as by the engine, signed behind the policy, landed on the development
chain, which runs the real System, SPL Token and Memo programs and charges their fees. The cost is what the treasury has
less of after all markers were reclaimed; the rent of token accounts, paid once for each new provider, is not in it, and
nothing was offered to be preferred. Building and signing is timed in this process' CPU, one core, with books in memory:
what the database takes to answer for the day's sum is the engine's bench's.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence

from solders.keypair import Keypair

from raymart_billing.solana import PAYEES_MAX, Limits, Payee, build_reclaim, limits_for
from raymart_billing.solana.marker import Marker
from raymart_billing.solana.transactions import RECLAIMS_MAX, Version
from support.dev_chain import USDC, Market
from support.figures import Figure
from support.treasury import Treasury

MUST_PAYEES, AIM_PAYEES = 40, 57
MUST_LAMPORTS, AIM_LAMPORTS = 150, 100
MUST_PAYOUTS_PER_S = 5_000
ROUNDS, TRANSACTIONS = 9, 40
MEMO = "raymart payout 1234567890"


def measure() -> Sequence[Figure]:
    """On a chain of this process's own."""
    return [
        *asyncio.run(_cost(1)),
        asyncio.run(_speed(1)),
        *asyncio.run(_cost(0))[1:],
        asyncio.run(_speed(0)),
    ]


async def _cost(version: Version) -> Sequence[Figure]:
    """Land a full reclaim's worth of full payouts, and reclaim."""
    market = Market.funded(micro_usdc=10**9 * USDC)
    treasury = Treasury(market, version=version)
    wallets = market.wallets(PAYEES_MAX[version], lamports=0)
    before = market.lamports(treasury.address)
    markers = [await _pay(treasury, wallets) for _ in range(RECLAIMS_MAX[version])]
    await _reclaim(treasury, markers)
    paid = sum(market.balance(wallet.pubkey()) for wallet in wallets)
    lamports = (before - market.lamports(treasury.address)) / paid
    return [
        Figure(
            name=f"payees in one transaction of version {version}",
            measured=f"{paid // len(markers)}, landed",
            target=f"must >= {MUST_PAYEES}, aim {AIM_PAYEES}",
            holds=paid // len(markers) >= MUST_PAYEES,
        ),
        Figure(
            name=f"lamports a payee, version {version}, markers reclaimed",
            measured=f"{lamports:.1f} over {paid:,} payees",
            target=f"must <= {MUST_LAMPORTS}, aim {AIM_LAMPORTS}" if version == 1 else "none: the fallback",
            holds=lamports <= MUST_LAMPORTS or version == 0,
        ),
    ]


async def _speed(version: Version) -> Figure:
    """Build and sign for new wallets each time; the median of several rounds."""
    treasury = Treasury(Market.funded(), version=version, day_micro_usdc_max=10**15)
    payees = [
        Payee(token_account=Keypair().pubkey(), amount_micro_usdc=1_000_000 + index)
        for index in range(PAYEES_MAX[version])
    ]
    rates = []
    for _ in range(ROUNDS):
        treasury.books.signed.clear()
        began = time.process_time()
        for _ in range(TRANSACTIONS):
            transaction = await treasury.payout(payees, memo=MEMO, limits=Limits(compute_units=20_000))
            transaction.signed(await treasury.signer.sign(transaction.message))
        rates.append(TRANSACTIONS * len(payees) / (time.process_time() - began))
    return Figure(
        name=f"built and signed behind the policy, version {version}",
        measured=f"{statistics.median(rates):,.0f} payouts per second and core ({min(rates):,.0f} to {max(rates):,.0f})",
        target=f"must >= {MUST_PAYOUTS_PER_S:,} per second",
        holds=statistics.median(rates) >= MUST_PAYOUTS_PER_S,
    )


async def _pay(treasury: Treasury, wallets: Sequence[Keypair]) -> Marker:
    """Land a payout of one micro-USDC to each, with limits of its simulation."""
    marker, payees = treasury.marker(), treasury.payees(wallets, micro_usdc=1)
    trial = await treasury.payout(payees, marker=marker, memo=MEMO, limits=Limits(compute_units=1_400_000))
    simulation = await treasury.rpc.simulate(trial.unsigned())
    assert simulation.error is None, simulation
    limits = limits_for(
        simulated_units=simulation.units, price_micro_lamports=0, bumps=0, priority_fee_lamports_max=0
    )
    status = await treasury.land(await treasury.payout(payees, marker=marker, memo=MEMO, limits=limits))
    assert status.error is None, status
    return marker


async def _reclaim(treasury: Treasury, markers: Sequence[Marker]) -> None:
    rent = await treasury.rpc.rent_exempt(0)
    treasury.books.free = {str(marker.address) for marker in markers}
    transaction = build_reclaim(
        treasury.address,
        [(marker, rent) for marker in markers],
        blockhash=(await treasury.rpc.latest_blockhash()).hash,
        limits=Limits(compute_units=20_000),
        version=treasury.version,
    )
    status = await treasury.land(transaction)
    assert status.error is None, status
