"""Payouts happen exactly once: workers die at every named place under every fault, and each payee has what the ledger says.

Real Postgres, the development chain with two endpoints in a process of its own, and two workers that know nothing of each
other and share no lease for long. Under each fault batches of payees are sent while workers are killed by SIGKILL, at one
place after the other; when all is over every payee's balance on the chain is compared with its item and with the ledger.
`RAYMART_PAYOUTS_WITHOUT_MARKERS=1` breaks the marker on purpose, to see that overpayments would be found.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from raymart_billing.payouts.sending.failpoints import Failpoint
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.chaos_chain import ControlledChain
from support.figures import Figure
from support.payout_chaos import BATCH_SIZE, SLOT_S, Fault, Siege, Tally, World

PAYEES_MIN, KILLS_MIN = 10_000, 100
KILLS_EACH = 2
BATCHES = -(-PAYEES_MIN // (BATCH_SIZE * len(Fault)))
"""Of each fault; more are planned while a place is still to be died at."""
RUN_S_MAX = 19 * 60.0
IS_BROKEN = os.environ.get("RAYMART_PAYOUTS_WITHOUT_MARKERS") == "1"
PLACES: Sequence[Failpoint] = [place for place in Failpoint if place is not Failpoint.AFTER_RECLAIM_BROADCAST]
"""Where a marker is taken back nothing is paid; what holds there, the tests of sending show."""

Tallies = Mapping[Fault, Tally]


def run(faults: Sequence[Fault], *, kills_each: int, batches: int, run_s_max: float = RUN_S_MAX) -> Tallies:
    """Lay siege under one fault after the other, on a server and a chain of their own."""
    begun, done = time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-05-") as name:
        server = EmbeddedPostgres(Path(name) / "pg")
        server.start()
        try:
            upgrade(server.owner_url)
            with ControlledChain(slot_s=SLOT_S) as chain:
                world = World(server, chain, Path(name), has_markers=not IS_BROKEN)
                for fault in faults:
                    if time.monotonic() - begun > run_s_max:
                        break
                    siege = Siege(world, fault, places=PLACES, kills_each=kills_each, batches=batches)
                    done[fault] = siege.run()
                    print_tally(fault, done[fault])
        finally:
            server.destroy()
    return done


def print_tally(fault: Fault, tally: Tally) -> None:
    """The lines of the table about one fault, as soon as they are known."""
    head = f"{tally.payees} payees, {tally.over} over, {tally.under} under, {tally.returned} given back"
    lines = [f"  {fault.value}: {head}, {tally.seconds:.0f} s"]
    lines += [f"    {place.value:<24} kills {tally.kills[place]:>3}" for place in PLACES]
    lines += [f"    {problem}" for problem in tally.problems[:5]]
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def figures(done: Tallies, faults: Sequence[Fault], *, payees_min: int, kills_min: int) -> Sequence[Figure]:
    """The sum of all faults beside what was promised."""
    payees = sum(tally.payees for tally in done.values())
    kills = sum(tally.kills.total() for tally in done.values())
    over, under = (sum(getattr(tally, name) for tally in done.values()) for name in ("over", "under"))
    problems = [problem for tally in done.values() for problem in tally.problems]
    cells = sum(tally.kills[place] > 0 for tally in done.values() for place in PLACES)
    wanted = len(faults) * len(PLACES)
    return [
        Figure(name="payees overpaid", measured=f"{over} of {payees:,}", target="0", holds=over == 0),
        Figure(name="payees underpaid", measured=f"{under} of {payees:,}", target="0", holds=under == 0),
        Figure(
            name="payees", measured=f"{payees:,}", target=f">= {payees_min:,}", holds=payees >= payees_min
        ),
        Figure(name="kills", measured=f"{kills}", target=f">= {kills_min}", holds=kills >= kills_min),
        Figure(
            name="crash points x faults with a kill",
            measured=f"{cells} of {wanted}",
            target="all",
            holds=cells == wanted,
        ),
        Figure(
            name="other problems",
            measured="; ".join(problems[:3]) or "none",
            target="none",
            holds=not problems,
        ),
    ]


def measure(
    *, faults: Sequence[Fault] = tuple(Fault), kills_each: int = KILLS_EACH, batches: int = BATCHES
) -> Sequence[Figure]:
    """Run `faults`, print the table, and sum it up."""
    sys.stdout.write("\n")
    is_whole = len(faults) == len(Fault)
    return figures(
        run(faults, kills_each=kills_each, batches=batches),
        faults,
        payees_min=PAYEES_MIN if is_whole else batches * BATCH_SIZE * len(faults),
        kills_min=KILLS_MIN if is_whole else kills_each * len(PLACES) * len(faults),
    )
