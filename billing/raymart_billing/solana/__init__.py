"""Solana: endpoints that are not trusted, transactions that land at most once, and a key that signs only what it should."""

from raymart_billing.solana.answers import (
    Blockhash,
    ChainAccount,
    ChainTransaction,
    Confirmation,
    Presence,
    SignatureInfo,
    SignatureStatus,
    Simulation,
    TokenBalance,
)
from raymart_billing.solana.chain import MICRO_USDC, Chain, open_chain, required
from raymart_billing.solana.errors import (
    EndpointsDisagree,
    RpcError,
    RpcRefused,
    RpcUnavailable,
    SignerMisconfigured,
    SigningRefused,
    WrongChain,
)
from raymart_billing.solana.failures import Cause, Explanation, Item, Layout, TransactionFailure, explain
from raymart_billing.solana.fees import Funds, Shortage, limits_for, payout_cost_lamports
from raymart_billing.solana.marker import Marker, marker_address, marker_seed
from raymart_billing.solana.rpc import SolanaRpc
from raymart_billing.solana.signing import Books, Signer
from raymart_billing.solana.token_accounts import NotATokenAccount, TokenAccount, why_unpayable
from raymart_billing.solana.transactions import (
    PAYEES_MAX,
    Limits,
    Payee,
    Source,
    TransactionTooLarge,
    Unsigned,
    build_burn,
    build_payout,
    build_reclaim,
    build_token_accounts,
    items_layout,
    payout_layout,
)
from raymart_billing.solana.transport import Endpoint

__all__ = [
    "MICRO_USDC",
    "PAYEES_MAX",
    "Blockhash",
    "Books",
    "Cause",
    "Chain",
    "ChainAccount",
    "ChainTransaction",
    "Confirmation",
    "Endpoint",
    "EndpointsDisagree",
    "Explanation",
    "Funds",
    "Item",
    "Layout",
    "Limits",
    "Marker",
    "NotATokenAccount",
    "Payee",
    "Presence",
    "RpcError",
    "RpcRefused",
    "RpcUnavailable",
    "Shortage",
    "SignatureInfo",
    "SignatureStatus",
    "Signer",
    "SignerMisconfigured",
    "SigningRefused",
    "Simulation",
    "SolanaRpc",
    "Source",
    "TokenAccount",
    "TokenBalance",
    "TransactionFailure",
    "TransactionTooLarge",
    "Unsigned",
    "WrongChain",
    "build_burn",
    "build_payout",
    "build_reclaim",
    "build_token_accounts",
    "explain",
    "items_layout",
    "limits_for",
    "marker_address",
    "marker_seed",
    "open_chain",
    "payout_cost_lamports",
    "payout_layout",
    "required",
    "why_unpayable",
]
