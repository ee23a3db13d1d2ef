"""Approved batches with money behind them, a development chain with two endpoints, and the engine between the two."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg
from pydantic import SecretStr
from solders.instruction import Instruction
from solders.keypair import Keypair
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.connections import Pool
from raymart_billing.payouts.books import DatabaseBooks
from raymart_billing.payouts.models import BatchKind
from raymart_billing.payouts.sending.booking import EarningsBooking
from raymart_billing.payouts.sending.failpoints import Failpoint
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.sender import Round, Sender
from raymart_billing.solana import Chain, Endpoint, SolanaRpc
from raymart_billing.solana.chain import policy_of
from raymart_billing.solana.devchain import Node
from raymart_billing.solana.signing import KeypairFileSigner, PolicySigner
from raymart_core.ids import new_id
from raymart_marketplace.chain_settings import ChainSettings
from raymart_marketplace.db.session import Sessions
from support.dev_chain import SOL, Market
from support.payout_batches import PayoutBatches

MARKER_KEY = "k" * 32
USDC_MAX = 1_000_000_000


class Killed(Exception):
    """The process ended at a failpoint: what a SIGKILL would leave is left."""


@dataclass
class KillOnce:
    """Ends the process at the next of these places."""

    place: Failpoint | None = None

    def hit(self, place: Failpoint) -> None:
        if place is self.place:
            self.place = None
            raise Killed(place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payees:
    """A batch in one part, with the wallets that it pays in order."""

    batch_id: UUID
    part_id: UUID
    items: Sequence[UUID]
    providers: Sequence[UUID]
    wallets: Sequence[Keypair]
    amounts: Sequence[int]


class Sending:
    """The engine on a chain of its own. Rounds look at one part unless told otherwise: the database has other tests' too."""

    def __init__(
        self,
        pool: Pool,
        sessions: Sessions,
        *,
        market: Market | None = None,
        rules: SendingRules | None = None,
        endpoints: Sequence[Endpoint] | None = None,
        version: int = 1,
    ) -> None:
        self.rows = PayoutBatches(pool)
        self.pool = pool
        self.sessions = sessions
        self.market = market or Market.funded()
        self.rules = rules or SendingRules(pause_s=0.0)
        self.kill = KillOnce()
        self.second: Node = self.market.chain.node()
        self.chain = chain_of(
            self.market,
            sessions,
            endpoints or [self.market.chain.handle, self.second.handle],
            version=version,
        )
        self.sender = self.another()

    def another(self, chain: Chain | None = None) -> Sender:
        """One more worker, as a restart would make it."""
        return Sender(
            self.sessions,
            chain or self.chain,
            bookings={BatchKind.EARNINGS: EarningsBooking()},
            rules=self.rules,
            failpoints=self.kill,
        )

    async def batch(
        self, *amounts: int, wallets: Sequence[Keypair] | None = None, is_approved: bool = True
    ) -> Payees:
        """An approved batch in one part; the money is in clearing, as planning leaves it."""
        made = wallets or self.market.wallets(len(amounts), lamports=0)
        addresses = [(str(one.pubkey()), str(self.market.tokens_of(one.pubkey()))) for one in made]
        batch = await self.rows.batch(*amounts, to=addresses, mint=str(self.market.mint))
        providers = []
        for item_id, amount in zip(batch.items, amounts, strict=True):
            provider_id = await self.rows.value("select provider_id from payout_item where id = %s", item_id)
            providers.append(provider_id)
            await self._earn_and_reserve(item_id, provider_id, amount)
        part_id = new_id()
        if is_approved:
            await self.rows.approve(batch)
            part_id = await self.rows.value("select id from payout_part where batch_id = %s", batch.id)
        return Payees(
            batch_id=batch.id,
            part_id=part_id,
            items=batch.items,
            providers=providers,
            wallets=made,
            amounts=amounts,
        )

    async def round(self, part_id: UUID) -> Round:
        """One step with the part."""
        return await self.sender.round(part_id)

    async def finish(self, batch_id: UUID, *, rounds: int = 12) -> None:
        """Rounds over all parts of the batch, with finality between them, until it is finalized."""
        for _ in range(rounds):
            if await self.batch_state(batch_id) == "finalized":
                return
            for [part_id] in await self.rows.fetch(
                "select id from payout_part where batch_id = %s and state not in ('finalized', 'failed') order by id",
                batch_id,
            ):
                await self.round(part_id)
            self.market.chain.finalize()
        raise AssertionError(f"not finalized after {rounds} rounds: {await self.parts(batch_id)}")

    async def parts(self, batch_id: UUID) -> list[tuple]:
        return await self.rows.fetch(
            "select state, state_reason, attempts from payout_part where batch_id = %s order by position",
            batch_id,
        )

    async def part(self, part_id: UUID, column: str = "state"):
        return await self.rows.value(f"select {column} from payout_part where id = %s", part_id)

    async def batch_state(self, batch_id: UUID) -> str:
        return await self.rows.value("select state from payout_batch where id = %s", batch_id)

    async def items(self, batch_id: UUID) -> list[str]:
        rows = await self.rows.fetch(
            "select state from payout_item where batch_id = %s order by position", batch_id
        )
        return [state for [state] in rows]

    async def attempts(self, part_id: UUID) -> list[tuple[str, str]]:
        return await self.rows.fetch(
            "select purpose, state from payout_attempt where part_id = %s order by number", part_id
        )

    async def forget_attempts(self, owner_url: str, part_id: UUID) -> None:
        """What a database restored from a backup looks like: the part was planned, and nothing else is known."""
        async with as_owner(owner_url) as connection:
            await connection.execute("delete from payout_attempt where part_id = %s", (part_id,))
            await connection.execute(
                "update payout_part set state = 'planned', attempts = 0, marker = null, state_reason = null,"
                " locked_until = null where id = %s",
                (part_id,),
            )

    async def restore_as_approved(self, owner_url: str, payees: Payees) -> None:
        """Bring the batch back to the moment after its approval: what was sent, paid and quarantined since is forgotten.

        The ledger keeps what it has; its keys are those of the items, so that booking the same again is a no-op.
        """
        forget = (
            "delete from payout_attempt where part_id in (select id from payout_part where batch_id = %s)",
            """update payout_item set state = 'planned', reason = null,
                      part_id = (select id from payout_part where batch_id = payout_item.batch_id and position = 0)
                where batch_id = %s""",
            "delete from payout_part where batch_id = %s and position > 0",
            """update payout_part set state = 'planned', attempts = 0, marker = null, state_reason = null, slot = null,
                      signature = null, fee_lamports = null, finalized_at = null, locked_until = null
                where batch_id = %s""",
            "update payout_batch set state = 'approved', finished_at = null where id = %s",
            "delete from outbox where task = 'payouts.send_part' and %s::uuid is not null",
        )
        async with as_owner(owner_url) as connection:
            for statement in forget:
                await connection.execute(statement, (payees.batch_id,))

    async def restore_as_planned(self, owner_url: str, payees: Payees) -> None:
        """Bring the batch back to the moment before its approval."""
        forget = (
            "delete from payout_attempt where part_id in (select id from payout_part where batch_id = %s)",
            "update payout_item set state = 'planned', reason = null, part_id = null where batch_id = %s",
            "delete from payout_part where batch_id = %s",
            "delete from payout_approval where batch_id = %s",
            "update payout_batch set state = 'planned', approved_at = null, finished_at = null where id = %s",
            "delete from outbox where task = 'payouts.send_part' and %s::uuid is not null",
        )
        async with as_owner(owner_url) as connection:
            for statement in forget:
                await connection.execute(statement, (payees.batch_id,))

    async def age(self, owner_url: str, payees: Payees, age: str) -> None:
        """Let the batch be this old."""
        async with as_owner(owner_url) as connection:
            await connection.execute(
                "update payout_batch set created_at = created_at - %s::interval where id = %s",
                (age, payees.batch_id),
            )
            await connection.execute(
                "update payout_part set finalized_at = finalized_at - %s::interval where batch_id = %s",
                (age, payees.batch_id),
            )

    async def expire_lease(self, part_id: UUID) -> None:
        """As if the worker that died were long dead."""
        await self.rows.fetch(
            "update payout_part set locked_until = clock_timestamp() where id = %s", part_id
        )

    async def hand_over(self, wallet: Keypair) -> None:
        """The wallet gives its token account to somebody else, as SPL Token lets it."""
        authority = models.SetAuthorityParams(
            program_id=TOKEN_PROGRAM_ID,
            account=self.market.tokens_of(wallet.pubkey()),
            authority=models.AuthorityType.ACCOUNT_OWNER,
            current_authority=wallet.pubkey(),
            new_authority=Keypair().pubkey(),
            signers=[],
        )
        await self._by_wallet(wallet, token.set_authority(authority))

    async def close(self, wallet: Keypair) -> None:
        """The wallet closes its empty token account and takes the rent."""
        closing = models.CloseAccountParams(
            program_id=TOKEN_PROGRAM_ID,
            account=self.market.tokens_of(wallet.pubkey()),
            dest=wallet.pubkey(),
            owner=wallet.pubkey(),
            signers=[],
        )
        await self._by_wallet(wallet, token.close_account(closing))

    async def _by_wallet(self, wallet: Keypair, instruction: Instruction) -> None:
        self.market.chain.faucet.airdrop(wallet.pubkey(), lamports=SOL)
        await self.market.send(self.market.v0(wallet, instruction))
        self.market.chain.finalize()

    def balances(self, payees: Payees) -> list[int]:
        """What the chain shows that the wallets have."""
        return [self.market.balance(wallet.pubkey()) for wallet in payees.wallets]

    async def ledger(self, provider_id: UUID, kind: str) -> int:
        """The provider's balance in micro-dollars."""
        found = await self.rows.fetch(
            "select credits_posted - debits_posted from ledger_account where kind = %s and owner_id = %s",
            kind,
            provider_id,
        )
        return found[0][0] // 1_000 if found else 0

    async def _earn_and_reserve(self, item_id: UUID, provider_id: UUID, micro: int) -> None:
        customer, nano = new_id(), micro * 1_000
        kinds = [
            ("promotional_credit", None), ("customer_balance", customer), ("usage_clearing", customer),
            ("provider_payable", provider_id), ("payout_clearing", provider_id),
        ]  # fmt: skip
        ids = [
            await self.rows.value("select ledger_open_account(%s, %s::uuid, 'usd')", kind, owner)
            for kind, owner in kinds
        ]
        await self.rows.value(
            "select ledger_post_batch(%s, %s, %s, %s, %s)",
            [f"test:{item_id}:{step}" for step in range(3)] + [f"payout:{item_id}:sent"],
            ids[:-1],
            ids[1:],
            [nano] * 4,
            ["credit_grant", "usage_charge", "usage_earning", "payout_sent"],
        )


@asynccontextmanager
async def as_owner(owner_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A transaction without any guard. Of this transaction only: those of other tests' rows stay."""
    async with (
        await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection,
        connection.transaction(),
    ):
        await connection.execute("set local session_replication_role = replica")
        yield connection


def chain_of(market: Market, sessions: Sessions, endpoints: Sequence[Endpoint], *, version: int = 1) -> Chain:
    """The chain as a worker has it, with the treasury's key in memory."""
    settings = ChainSettings(
        solana_chain_id="solana:localnet",
        SOLANA_RPC_URL="http://127.0.0.1:1",
        usdc_mint=str(market.mint),
        treasury_address=str(market.treasury.pubkey()),
        payout_marker_key=SecretStr(MARKER_KEY),
        payout_transaction_version=version,
        payout_transaction_usdc_max=USDC_MAX,
        payout_day_usdc_max=USDC_MAX,
    )
    books = DatabaseBooks(sessions)
    chain = Chain(settings, SolanaRpc(endpoints), books=books)
    policy = policy_of(settings, treasury=market.treasury.pubkey(), mint=market.mint)
    chain._signer = PolicySigner(KeypairFileSigner(market.treasury), policy, books)
    return chain
