"""Making an attempt: built, simulated, limited by what the simulation used, signed. Nothing is written or sent here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.attempts import SignedAttempt
from raymart_billing.payouts.sending.facts import Part, Payee
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.solana.answers import Blockhash
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.failures import TransactionFailure
from raymart_billing.solana.fees import limits_for
from raymart_billing.solana.token_accounts import CREATED_MAX
from raymart_billing.solana.transactions import (
    COMPUTE_UNITS_MAX,
    Limits,
    Unsigned,
    build_burn,
    build_payout,
    build_token_accounts,
)
from raymart_billing.solana.transactions import Payee as PaidAccount

Build = Callable[[Limits], Unsigned]


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """What all attempts of one round share: the newest blockhash, what others pay, and the marker's rent."""

    blockhash: Blockhash
    price_micro_lamports: int
    marker_rent_lamports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The simulation failed: a hint of what is wrong, from one endpoint."""

    failure: TransactionFailure


def memo_of(part: Part) -> str:
    """What explorers show beside the transaction: at most 40 bytes."""
    return f"raymart payout {part.batch_number}"


async def draft_marked(
    chain: Chain, part: Part, going: Going, *, rules: SendingRules
) -> SignedAttempt | Refused:
    """An attempt of `part` that creates its marker: it pays everybody, or burns the marker. Raises: RpcError, SigningRefused."""
    marker = chain.marker(part.id, part.generation)

    def build(limits: Limits) -> Unsigned:
        if part.purpose is Purpose.BURN:
            return build_burn(
                chain.treasury,
                marker=marker,
                marker_rent_lamports=going.marker_rent_lamports,
                memo=memo_of(part),
                blockhash=going.blockhash.hash,
                limits=limits,
                version=chain.version,
            )
        return build_payout(
            chain.source,
            [_paid(payee) for payee in part.payees],
            marker=marker,
            marker_rent_lamports=going.marker_rent_lamports,
            memo=memo_of(part),
            blockhash=going.blockhash.hash,
            limits=limits,
            version=chain.version,
        )

    # Each further attempt offers twice as much, whether its elders expired or are still in flight.
    return await _draft(
        chain,
        build,
        going,
        bumps=part.attempts,
        number=part.number_next,
        purpose=part.purpose,
        opens=(),
        rules=rules,
    )


async def draft_openings(
    chain: Chain, part: Part, payees: Sequence[Payee], going: Going, *, rules: SendingRules
) -> Sequence[SignedAttempt | Refused]:
    """Attempts that open the token accounts of `payees`, ten each. Raises: RpcError, SigningRefused."""
    wallets: Mapping[str, Payee] = {payee.token_account: payee for payee in payees}
    accounts = sorted(wallets)
    drafts = []
    for index, start in enumerate(range(0, len(accounts), CREATED_MAX)):
        opened = accounts[start : start + CREATED_MAX]
        owners = [Pubkey.from_string(wallets[account].wallet) for account in opened]

        def build(limits: Limits, owners: Sequence[Pubkey] = owners) -> Unsigned:
            return build_token_accounts(
                chain.treasury,
                owners,
                mint=chain.mint,
                blockhash=going.blockhash.hash,
                limits=limits,
                version=chain.version,
            )

        number = part.number_next + index
        drafts.append(
            await _draft(
                chain, build, going, bumps=0, number=number, purpose=Purpose.OPEN, opens=opened, rules=rules
            )
        )
    return drafts


async def _draft(
    chain: Chain,
    build: Build,
    going: Going,
    *,
    bumps: int,
    number: int,
    purpose: Purpose,
    opens: Sequence[str],
    rules: SendingRules,
) -> SignedAttempt | Refused:
    simulated = await chain.rpc.simulate(build(Limits(compute_units=COMPUTE_UNITS_MAX)).unsigned())
    if simulated.error is not None:
        return Refused(failure=simulated.error)
    limits = limits_for(
        simulated_units=simulated.units,
        price_micro_lamports=going.price_micro_lamports,
        bumps=bumps,
        # More than the operator's cap would not be signed, and the part would stand still.
        priority_fee_lamports_max=min(
            rules.priority_fee_lamports_max, chain.settings.priority_fee_lamports_max
        ),
    )
    unsigned = build(limits)
    signature = await chain.signer.sign(unsigned.message)
    return SignedAttempt(
        number=number,
        purpose=purpose,
        opens=opens,
        signature=str(signature),
        raw=unsigned.signed(signature),
        unsigned=unsigned,
        blockhash=going.blockhash.hash,
        last_valid_block_height=going.blockhash.last_valid_block_height,
        limits=limits,
    )


def _paid(payee: Payee) -> PaidAccount:
    return PaidAccount(
        token_account=Pubkey.from_string(payee.token_account), amount_micro_usdc=payee.amount_micro_usdc
    )
