"""The chain as a process has it: endpoints, mint, treasury, and in workers the key behind its policy. One per process."""

from collections.abc import Sequence
from uuid import UUID

from solders.pubkey import Pubkey

from raymart_billing.solana.addresses import token_account
from raymart_billing.solana.errors import SignerMisconfigured, WrongChain
from raymart_billing.solana.fees import Funds
from raymart_billing.solana.marker import Marker, marker_of
from raymart_billing.solana.rpc import Commitment, SolanaRpc
from raymart_billing.solana.signing import (
    Books,
    KeypairFileSigner,
    Policy,
    PolicySigner,
    Signer,
)
from raymart_billing.solana.token_accounts import Mint, NotATokenAccount, TokenAccount
from raymart_billing.solana.transactions import USDC_DECIMALS, Source, Version
from raymart_billing.solana.transport import Endpoint
from raymart_core.errors import Unavailable
from raymart_marketplace.chain_settings import ChainSettings

MICRO_USDC = 10**USDC_DECIMALS
"""One USDC."""


class Chain:
    """Solana with our treasury. Reads for everybody; signs only where `books` were given and a key is set."""

    def __init__(self, settings: ChainSettings, rpc: SolanaRpc, *, books: Books | None = None) -> None:
        assert settings.treasury_address is not None, "the settings see to it"
        assert settings.usdc_mint_address is not None, "the settings see to it"
        self.settings = settings
        self.rpc = rpc
        self.mint = Pubkey.from_string(settings.usdc_mint_address)
        self.treasury = Pubkey.from_string(settings.treasury_address)
        self.treasury_token_account = token_account(self.treasury, self.mint)
        self._books = books
        self._signer: PolicySigner | None = None
        self._is_checked = False

    @property
    def id(self) -> str:
        """Such as `solana:mainnet`."""
        return self.settings.solana_chain_id

    @property
    def version(self) -> Version:
        """Of the transactions that we make."""
        return self.settings.payout_transaction_version

    @property
    def source(self) -> Source:
        """Where payouts come from."""
        return Source(
            treasury=self.treasury,
            token_account=self.treasury_token_account,
            mint=self.mint,
            decimals=USDC_DECIMALS,
        )

    @property
    def signer(self) -> Signer:
        """The treasury's key behind its policy, read when first asked for. Raises: SignerMisconfigured."""
        if self._signer is None:
            if self._books is None:
                raise SignerMisconfigured("this process may not sign; only workers hold the treasury's key")
            key = _open_key(self.settings, self.treasury)
            policy = policy_of(self.settings, treasury=self.treasury, mint=self.mint)
            self._signer = PolicySigner(key, policy, self._books)
        return self._signer

    def marker(self, part_id: UUID, generation: int) -> Marker:
        """Where a part's marker lies. Raises: SignerMisconfigured without a marker key."""
        key = self.settings.payout_marker_key
        if key is None:
            raise SignerMisconfigured(
                "RAYMART_PAYOUT_MARKER_KEY is not set, so markers would be guessable; make one with `openssl rand -hex 32`"
                " and keep it for good"
            )
        return marker_of(key.get_secret_value().encode(), self.treasury, part_id, generation)

    async def check(self) -> None:
        """See that the endpoints are of the right chain and the mint is USDC's kind. Once; a repeat asks nothing.

        Raises: WrongChain, RpcError.
        """
        if self._is_checked:
            return
        await self.rpc.check()
        (account,) = await self.rpc.accounts([self.mint])
        try:
            mint = None if account is None else Mint.parse(account)
        except NotATokenAccount:
            mint = None
        if mint is None or mint.decimals != USDC_DECIMALS:
            raise WrongChain(
                f"{self.mint} is no token of {USDC_DECIMALS} decimals on {self.id}; correct RAYMART_USDC_MINT"
            )
        self._is_checked = True

    async def funds(self, *, commitment: Commitment = "confirmed") -> Funds:
        """What the treasury holds, at the newest confirmed state unless told otherwise. Raises: RpcError."""
        rent = await self.rpc.rent_exempt(0)
        wallet, tokens = await self.rpc.accounts(
            [self.treasury, self.treasury_token_account], commitment=commitment
        )
        try:
            held = None if tokens is None else TokenAccount.parse(tokens)
        except NotATokenAccount:
            held = None
        is_ours = held is not None and held.mint == self.mint and held.owner == self.treasury
        return Funds(
            lamports=0 if wallet is None else wallet.lamports,
            micro_usdc=held.amount if held is not None and is_ours else 0,
            has_token_account=is_ours,
            is_frozen=held is not None and held.is_frozen,
            rent_lamports=rent,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.rpc.aclose()
        if self._signer is not None:
            await self._signer.aclose()


def open_chain(
    settings: ChainSettings, *, books: Books | None = None, endpoints: Sequence[Endpoint] | None = None
) -> Chain | None:
    """The chain of `settings`; None without `SOLANA_RPC_URL`. Connects when it is first used.

    Workers hand in `books`, by which the signer sees what it may sign; every other process reads only. `endpoints`
    take the place of the addresses, for tests.
    """
    given = endpoints or [url.get_secret_value() for url in settings.solana_rpc_urls]
    if not given:
        return None
    rpc = SolanaRpc(given, chain_id=settings.solana_chain_id, timeout_s=settings.solana_rpc_timeout_s)
    return Chain(settings, rpc, books=books)


def required(chain: Chain | None) -> Chain:
    """`chain`. Raises: Unavailable when none is configured."""
    if chain is None:
        raise Unavailable("Solana is not configured here; the operator sets SOLANA_RPC_URL")
    return chain


def policy_of(settings: ChainSettings, *, treasury: Pubkey, mint: Pubkey) -> Policy:
    """What the treasury's key may be used for."""
    return Policy(
        treasury=treasury,
        token_account=token_account(treasury, mint),
        mint=mint,
        decimals=USDC_DECIMALS,
        transaction_micro_usdc_max=settings.payout_transaction_usdc_max * MICRO_USDC,
        day_micro_usdc_max=settings.payout_day_usdc_max * MICRO_USDC,
        priority_fee_lamports_max=settings.priority_fee_lamports_max,
    )


def _open_key(settings: ChainSettings, treasury: Pubkey) -> Signer:
    if settings.treasury_keychain is not None:
        # Workers alone come here: no other process is to have its clients of key services in memory.
        from raymart_billing.solana.signing.keychain import KeychainSigner  # noqa: PLC0415

        return KeychainSigner(config_json=settings.treasury_keychain.get_secret_value(), address=treasury)
    if settings.treasury_keypair is not None:
        return KeypairFileSigner.open(settings.treasury_keypair)
    raise SignerMisconfigured(
        "the treasury's key is not set; give workers RAYMART_TREASURY_KEYPAIR, a file of mode 0600, or"
        " RAYMART_TREASURY_KEYCHAIN"
    )
