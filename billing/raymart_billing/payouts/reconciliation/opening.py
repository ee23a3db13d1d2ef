"""A reconciliation with the chain of a process: what the worker, the command line and tests call."""

from uuid import UUID

from raymart_billing.payouts.reconciliation.chain_reading import ChainReader
from raymart_billing.payouts.reconciliation.comparison import Comparer
from raymart_billing.payouts.reconciliation.models import ReconciliationRun
from raymart_billing.payouts.reconciliation.service import run_reconciliation
from raymart_billing.payouts.reconciliation.signed_bytes import MarkerAddresses
from raymart_billing.solana.chain import Chain
from raymart_marketplace.db.session import Sessions


def reader_of(chain: Chain) -> ChainReader:
    """Reads the treasury of `chain`."""
    return ChainReader(chain.rpc, mint=str(chain.mint), treasury_account=str(chain.treasury_token_account))


async def reconcile(sessions: Sessions, chain: Chain, run_id: UUID) -> ReconciliationRun:
    """Do the run `run_id` against `chain`, whose key is not needed. Raises: RpcError, NotFound.

    Without `RAYMART_PAYOUT_MARKER_KEY` the addresses of markers are taken from our rows and not computed anew.
    """
    await chain.check()
    comparer = Comparer(
        sessions,
        reader_of(chain),
        MarkerAddresses(
            treasury=str(chain.treasury),
            treasury_account=str(chain.treasury_token_account),
            key=chain.settings.payout_marker_key,
        ),
    )
    genesis_hash = await chain.rpc.request("getGenesisHash", [])
    return await run_reconciliation(
        sessions,
        comparer,
        run_id,
        treasury=str(chain.treasury),
        genesis_hash=str(genesis_hash),
        endpoints=chain.rpc.endpoints,
    )
