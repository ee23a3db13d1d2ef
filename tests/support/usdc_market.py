"""Customers who pay in USDC on a development chain, and our side of it: requests, the scanner, the books."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from sqlalchemy import func, select, text

from raymart_billing.ledger import (
    AccountKind,
    LedgerAccount,
    Movement,
    TransferCode,
    open_account,
    post,
    trial_balance,
)
from raymart_billing.solana.chain import Chain, open_chain
from raymart_billing.solana.devchain.node import Node
from raymart_billing.solana.devchain.wallet import payment_of
from raymart_billing.solana.transport import Endpoint
from raymart_billing.usdc_deposits.models import (
    SenderMark,
    TreasuryMovement,
    UsdcDeposit,
    UsdcScan,
    UsdcSender,
    UsdcTopUp,
)
from raymart_billing.usdc_deposits.rail import UsdcRail, open_usdc_rail
from raymart_billing.usdc_deposits.requests import create_top_up
from raymart_billing.usdc_deposits.scanning import Scanned, scan
from raymart_billing.usdc_deposits.sighting import look
from raymart_billing.usdc_deposits.solana_pay import PaymentRequest, parse
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import OrganizationKind, User
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.settings import ControlSettings
from support.dev_chain import Market

FUNDED = 500_000_000
"""Micro-USDC that a payer begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsdcCustomer:
    """An organization and its owner."""

    organization_id: UUID
    user_id: UUID


@dataclass(kw_only=True)
class UsdcMarket:
    """Shorthand for what happens between a customer, the chain and us. Its treasury begins empty."""

    sessions: Sessions
    database_url: str
    market: Market = field(default_factory=lambda: Market.funded(micro_usdc=0))
    chains: list[Chain] = field(default_factory=list)

    def settings(self, **changed: object) -> ControlSettings:
        """As the processes of this market have them."""
        return ControlSettings(
            DATABASE_URL=self.database_url,
            token_secret="s" * 32,
            solana_chain_id="solana:localnet",
            SOLANA_RPC_URL="http://127.0.0.1:1",
            treasury_address=str(self.market.treasury.pubkey()),
            usdc_mint=str(self.market.mint),
            **changed,
        )

    @property
    def rail(self) -> UsdcRail:
        """What the API knows of the chain."""
        found = open_usdc_rail(self.settings())
        assert found is not None
        return found

    @property
    def account(self) -> str:
        """The treasury's token account."""
        return str(self.market.treasury_tokens)

    def chain(self, *nodes: Node) -> Chain:
        """The chain as it is seen through `nodes`, or through its first one."""
        endpoints: Sequence[Endpoint] = [node.handle for node in nodes] or [self.market.chain.handle]
        chain = open_chain(self.settings(), endpoints=endpoints)
        assert chain is not None
        self.chains.append(chain)
        return chain

    async def aclose(self) -> None:
        """Close what was opened."""
        for chain in self.chains:
            await chain.aclose()

    async def customer(self) -> UsdcCustomer:
        """A customer nobody else uses."""
        unique = f"usdc-{new_id().hex}"
        async with session_scope(self.sessions) as session:
            organization = await accounts.create_organization(
                session, name=f"Org {unique}", kind=OrganizationKind.CUSTOMER
            )
            user = User(id=new_id(), email=f"{unique}@example.com", name="Owner", password_hash="x")
            session.add(user)
        return UsdcCustomer(organization_id=organization.id, user_id=user.id)

    async def top_up(self, customer: UsdcCustomer, usdc: str | None = "25") -> UsdcTopUp:
        """A new request."""
        async with session_scope(self.sessions) as session:
            return await create_top_up(
                session,
                self.rail,
                organization_id=customer.organization_id,
                amount=None if usdc is None else Money.parse(usdc, Asset.USDC),
                key=new_id().hex,
                actor_id=customer.user_id,
            )

    def payer(self, *, micro_usdc: int = FUNDED) -> Keypair:
        """A wallet with tokens."""
        return self.market.wallet(micro_usdc=micro_usdc)

    async def pay(
        self,
        payer: Keypair,
        request: UsdcTopUp | None = None,
        *,
        micro_usdc: int | None = None,
        memo: str | None = None,
        node: Node | None = None,
        is_v1: bool = False,
    ) -> str:
        """Pay a request, or without one; it has landed and is not final. Returns the signature."""
        if request is not None:
            asked = parse(request.url)
            assert asked.amount is not None or micro_usdc is not None
            amount = micro_usdc if micro_usdc is not None else (asked.amount.amount if asked.amount else 0)
            instructions = payment_of(asked, payer.pubkey(), micro_usdc=amount)
        else:
            assert micro_usdc is not None
            instructions = [self.market.transfer(payer, self.market.treasury.pubkey(), micro_usdc=micro_usdc)]
        if memo is not None:
            instructions.insert(0, memo_instruction(memo))
        build = self.market.v1 if is_v1 else self.market.v0
        return await self.market.send(build(payer, *instructions), node=node)

    def payment(self, payer: Keypair, request: UsdcTopUp, *, blockhash: Hash) -> bytes:
        """A signed payment of a request that is not sent."""
        asked = parse(request.url)
        assert asked.amount is not None
        instructions = payment_of(asked, payer.pubkey(), micro_usdc=asked.amount.amount)
        return self.market.v0(payer, *instructions, blockhash=blockhash)

    async def send(
        self, payer: Keypair, *instructions: Instruction, more_signers: Sequence[Keypair] = ()
    ) -> str:
        """Send a transaction of several signers; returns its signature."""
        message = MessageV0.try_compile(payer.pubkey(), instructions, [], self.market.blockhash())
        return await self.market.send(bytes(VersionedTransaction(message, [payer, *more_signers])))

    async def pay_other_mint(self, payer: Keypair, request: UsdcTopUp, *, amount: int) -> str:
        """Pay the treasury's wallet in another token of six decimals, with the request's reference and memo.

        It also names the treasury's USDC account, so that the scanner has to look at it.
        """
        faucet, treasury = self.market.chain.faucet, self.market.treasury.pubkey()
        other = faucet.create_mint("worthless")
        faucet.open_token_account(treasury, mint=other)
        faucet.give_tokens(payer.pubkey(), mint=other, amount=amount)
        asked = parse(request.url)
        swapped = PaymentRequest(recipient=treasury, mint=other, references=asked.references, memo=asked.memo)
        memo, transfer = payment_of(swapped, payer.pubkey(), micro_usdc=amount)
        return await self.send(payer, memo, naming(transfer, self.market.treasury_tokens))

    async def mark(self, payer: Keypair, mark: str) -> None:
        """Say what a sender is."""
        async with session_scope(self.sessions) as session:
            session.add(
                UsdcSender(wallet=str(payer.pubkey()), mark=SenderMark(mark), reason="a test says so")
            )

    async def erase(self, customer: UsdcCustomer) -> None:
        """As if the customer had been erased an hour ago."""
        async with session_scope(self.sessions) as session:
            await session.execute(
                text(
                    "insert into organization_erasure (id, organization_id, due_at, erased_at) values"
                    " (:id, :organization, now() - interval '1 hour', now())"
                ),
                {"id": new_id(), "organization": customer.organization_id},
            )

    async def owe(self, customer: UsdcCustomer, *, micro_usdc: int) -> None:
        """Let the customer owe something, as after a lost dispute."""
        await self._post(
            TransferCode.DISPUTE_SHORTFALL,
            (AccountKind.CUSTOMER_RECEIVABLE, customer.organization_id),
            (AccountKind.CUSTOMER_DISPUTE, customer.organization_id),
            micro_usdc,
        )

    async def spend(self, customer: UsdcCustomer, *, micro_usdc: int) -> None:
        """Take from the balance, as an administrator's correction does."""
        await self._post(
            TransferCode.ADJUSTMENT_DEBIT,
            (AccountKind.CUSTOMER_BALANCE, customer.organization_id),
            (AccountKind.PLATFORM_REVENUE, None),
            micro_usdc,
        )

    async def grant(self, customer: UsdcCustomer, *, micro_usdc: int) -> None:
        """Give credit that nobody paid."""
        await self._post(
            TransferCode.CREDIT_GRANT,
            (AccountKind.PROMOTIONAL_CREDIT, None),
            (AccountKind.CUSTOMER_BALANCE, customer.organization_id),
            micro_usdc,
        )

    async def _post(
        self,
        code: TransferCode,
        debit: tuple[AccountKind, UUID | None],
        credit: tuple[AccountKind, UUID | None],
        micro_usdc: int,
    ) -> None:
        async with session_scope(self.sessions) as session:
            movement = Movement(
                key=f"test:{new_id()}",
                debit_account_id=await open_account(session, *debit),
                credit_account_id=await open_account(session, *credit),
                amount=Money(micro_usdc * 1_000),
                code=code,
            )
            await post(session, [movement])

    async def suspense(self) -> int:
        """What is nobody's, in micro-USDC, of all tests on this database."""
        return await self._balance(AccountKind.USDC_SUSPENSE, None)

    async def scan(self, chain: Chain | None = None, **options: object) -> Scanned:
        """One run of the scanner."""
        return await scan(self.sessions, chain or self.chain(), **options)

    async def look(self, chain: Chain | None = None) -> int:
        """One look at what is not final."""
        return await look(self.sessions, chain or self.chain())

    async def settle(self) -> Scanned:
        """Let everything become final, and scan."""
        self.market.chain.finalize()
        return await self.scan()

    async def deposit(self, signature: str) -> UsdcDeposit | None:
        """What is known of a payment."""
        async with session_scope(self.sessions) as session:
            return await session.scalar(
                select(UsdcDeposit).where(
                    UsdcDeposit.signature == signature, UsdcDeposit.account == self.account
                )
            )

    async def balance(self, customer: UsdcCustomer) -> int:
        """A customer's balance in micro-USDC worth of dollars; the nano-USD must be whole ones."""
        return await self._balance(AccountKind.CUSTOMER_BALANCE, customer.organization_id)

    async def moved(self) -> int:
        """The sum of the treasury's movements as they are stored."""
        async with session_scope(self.sessions) as session:
            query = select(func.coalesce(func.sum(TreasuryMovement.delta_micro_usdc), 0))
            return int(await session.scalar(query.where(TreasuryMovement.account == self.account)) or 0)

    async def position(self) -> UsdcScan:
        """How far the treasury was read."""
        async with session_scope(self.sessions) as session:
            return await session.get_one(UsdcScan, self.account)

    async def books_hold(self) -> bool:
        """Whether the ledger adds up."""
        async with session_scope(self.sessions) as session:
            found = await trial_balance(session)
        return found.debits == found.credits == found.transferred and not found.drifts

    async def _balance(self, kind: AccountKind, owner_id: UUID | None) -> int:
        async with session_scope(self.sessions) as session:
            query = select(LedgerAccount).where(
                LedgerAccount.kind == kind, LedgerAccount.owner_id == owner_id
            )
            account = await session.scalar(query)
        if account is None:
            return 0
        micro, rest = divmod(account.credits_posted - account.debits_posted, 1_000)
        # The platform's own accounts are moved by other tests too, by any nano-USD.
        assert rest == 0 or owner_id is None
        return micro


def reference_of(request: UsdcTopUp) -> Pubkey:
    """The key that a payment of it names."""
    return Pubkey.from_string(request.reference)


def memo_instruction(text: str) -> Instruction:
    """A memo without signers."""
    return Instruction(Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"), text.encode(), [])


def naming(instruction: Instruction, *keys: Pubkey) -> Instruction:
    """The instruction with more accounts on it, read-only."""
    more = [AccountMeta(key, is_signer=False, is_writable=False) for key in keys]
    return Instruction(instruction.program_id, instruction.data, [*instruction.accounts, *more])
