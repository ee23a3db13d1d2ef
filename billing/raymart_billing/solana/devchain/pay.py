"""Pay a Solana Pay URL on the development chain, as somebody with a phone would: `... devchain.pay RPC_URL solana:...`.

The wallet is new and gets what it needs from the chain's faucet. Prints the payment's signature once it is confirmed.
"""

import asyncio
import sys

from solders.keypair import Keypair

from raymart_billing.solana.devchain.wallet import DevWallet
from raymart_billing.solana.rpc import SolanaRpc
from raymart_billing.usdc_deposits.solana_pay import parse
from raymart_core.errors import DomainError, InvalidRequest, Unavailable

FEE_LAMPORTS = 10_000_000
ARGUMENTS = 2


def main(arguments: list[str]) -> None:
    """Ends with status 1 and a sentence when it cannot be paid."""
    try:
        if len(arguments) != ARGUMENTS:
            raise InvalidRequest("give the development chain's RPC address and a solana: URL with an amount")
        sys.stdout.write(asyncio.run(pay(*arguments)) + "\n")
    except (DomainError, Unavailable) as error:
        sys.stderr.write(f"raymart: {error.message}\n")
        raise SystemExit(1) from None


async def pay(rpc_url: str, url: str) -> str:
    """The signature of a confirmed payment by a new wallet. Raises: InvalidRequest, Unavailable."""
    amount = parse(url).amount
    if amount is None:
        raise InvalidRequest("the request leaves the amount to the payer; ask for one", param="url")
    rpc = SolanaRpc([rpc_url])
    try:
        wallet = DevWallet(rpc, Keypair())
        await rpc.request("requestAirdrop", [str(wallet.address), FEE_LAMPORTS])
        await rpc.request("devchain_giveTokens", [str(wallet.address), amount.amount])
        signature = await wallet.pay(url)
        status = await wallet.confirmed(signature)
    finally:
        await rpc.aclose()
    if status.error is not None:
        raise InvalidRequest(f"payment {signature} failed on the chain: {status.error.text}", param="url")
    return signature


if __name__ == "__main__":
    main(sys.argv[1:])
