"""Methods that no real node has: the faucet, time, forks and faults, for those who can only reach the chain by HTTP."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Final

from raymart_billing.solana.devchain.chain import Chain
from raymart_billing.solana.devchain.errors import INTERNAL_ERROR, RpcError
from raymart_billing.solana.devchain.faucet import Faucet, FaucetFailed
from raymart_billing.solana.devchain.faults import Faults
from raymart_billing.solana.devchain.node import Method
from raymart_billing.solana.devchain.params import Params, address_of, invalid
from raymart_billing.solana.devchain.view import NodeView

AIRDROP_LAMPORTS_MAX: Final = 1_000_000 * 10**9
TOKENS_MAX: Final = 10**15
SLOTS_MAX: Final = 1_000_000


def development_methods(chain: Chain, faucet: Faucet) -> Mapping[str, Method]:
    """`requestAirdrop` and the `devchain_` methods.

    | method | parameters | result |
    |---|---|---|
    | `requestAirdrop` | address, lamports | signature |
    | `devchain_giveTokens` | owner, base units, mint (default: the USDC of this chain) | signature |
    | `devchain_usdcMint` | | the mint's address |
    | `devchain_advance` | slots | newest slot |
    | `devchain_rollback` | slots | signatures that are gone, newest first |
    | `devchain_finality` | slots until a block is final | the same |
    | `devchain_faults` | the faults of this node to set, by name | all of them |
    """

    def request_airdrop(view: NodeView, params: Params) -> str:
        address, lamports = params.address(0), params.number(1)
        if not 0 < lamports <= AIRDROP_LAMPORTS_MAX:
            raise invalid(f"{lamports} lamports are not between 1 and {AIRDROP_LAMPORTS_MAX}")
        with _refusing():
            return faucet.airdrop(address, lamports=lamports).signature

    def give_tokens(view: NodeView, params: Params) -> str:
        owner, amount = params.address(0), params.number(1)
        if not 0 < amount <= TOKENS_MAX:
            raise invalid(f"{amount} base units are not between 1 and {TOKENS_MAX}")
        with _refusing():
            mint = address_of(params.text(2)) if params.has(2) else faucet.create_mint()
            return faucet.give_tokens(owner, mint=mint, amount=amount).signature

    def usdc_mint(view: NodeView, params: Params) -> str:
        with _refusing():
            return str(faucet.create_mint())

    def advance(view: NodeView, params: Params) -> int:
        chain.advance(_slots(params))
        return chain.slot("processed")

    def rollback(view: NodeView, params: Params) -> list[str]:
        try:
            return [landed.signature for landed in chain.rollback(_slots(params))]
        except ValueError as error:
            raise invalid(str(error)) from error

    def finality(view: NodeView, params: Params) -> int:
        chain.finality_slots = _slots(params)
        return chain.finality_slots

    return {
        "requestAirdrop": request_airdrop,
        "devchain_giveTokens": give_tokens,
        "devchain_usdcMint": usdc_mint,
        "devchain_advance": advance,
        "devchain_rollback": rollback,
        "devchain_finality": finality,
        "devchain_faults": _faults,
    }


def _faults(view: NodeView, params: Params) -> dict[str, object]:
    """Set what is named, leave the rest."""
    wanted = params.config(0)
    names = {field.name: field.type for field in fields(Faults)}
    unknown = sorted(set(wanted.names()) - set(names))
    if unknown:
        raise invalid(f"no fault is called {unknown[0]!r}; there are {', '.join(sorted(names))}")
    for name in wanted.names():
        value = wanted.is_set(name) if names[name] is bool else wanted.number(name)
        setattr(view.faults, name, value)
    return asdict(view.faults)


def _slots(params: Params) -> int:
    slots = params.number(0)
    if slots > SLOTS_MAX:
        raise invalid(f"{slots} slots are more than {SLOTS_MAX}")
    return slots


@contextmanager
def _refusing() -> Iterator[None]:
    """What the faucet cannot do is an answer."""
    try:
        yield
    except FaucetFailed as error:
        raise RpcError(INTERNAL_ERROR, str(error)) from error
