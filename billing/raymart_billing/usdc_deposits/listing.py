"""Which transactions name the treasury's account, as far as they are not stored: oldest first, of all endpoints together.

What one endpoint hides another shows. Nothing follows from a listing but that a transaction is worth asking for.
"""

from collections.abc import Sequence

from raymart_billing.solana.answers import SignatureInfo
from raymart_billing.solana.rpc import SIGNATURES_MAX, SolanaRpc
from raymart_core.errors import Unavailable

PAGES_MAX = 1_000
"""Of one endpoint and run: a million transactions. A list is made from its newest end, so a part of it is of no use."""


async def list_new(
    rpc: SolanaRpc, account: str, *, cursor: str | None, page_size: int = SIGNATURES_MAX
) -> Sequence[SignatureInfo]:
    """Final transactions after `cursor`, oldest first. Raises: RpcError when an endpoint does not answer."""
    lists = [
        await _pages(rpc, account, cursor=cursor, endpoint=endpoint, page_size=page_size)
        for endpoint in range(rpc.endpoints)
    ]
    return merged(lists)


def merged(lists: Sequence[Sequence[SignatureInfo]]) -> Sequence[SignatureInfo]:
    """Several lists, each oldest first, as one without repeats: by slot, within a slot as the first one says."""
    found: dict[str, SignatureInfo] = {}
    for infos in lists:
        for info in infos:
            found.setdefault(info.signature, info)
    # Stable: what the lists do not tell the order of stays as it was met.
    return sorted(found.values(), key=lambda info: info.slot)


async def _pages(
    rpc: SolanaRpc, account: str, *, cursor: str | None, endpoint: int, page_size: int
) -> Sequence[SignatureInfo]:
    newest_first: list[SignatureInfo] = []
    for _ in range(PAGES_MAX):
        page = await rpc.signatures_of(
            account,
            until=cursor,
            before=newest_first[-1].signature if newest_first else None,
            limit=page_size,
            endpoint=endpoint,
        )
        newest_first += page
        if len(page) < page_size:
            return newest_first[::-1]
    raise Unavailable(
        f"more than {PAGES_MAX * page_size} transactions of {account} are new; raise PAGES_MAX of listing.py"
    )
