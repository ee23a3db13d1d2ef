"""The scanner: reads what names the treasury's account, oldest first, and moves its cursor past what is stored.

    claim (fence + 1) ─▶ balance ─▶ list after the cursor ─▶ each: fetch, store + cursor in one transaction ─▶ balance

Any number may run: each takes a newer fence, and an older one is refused at its next write. What cannot be read ends the
run there, and the next begins with it: nothing is passed over. No transaction is held while the chain is asked.

Each final transaction is asked of every endpoint (`SolanaRpc.transaction`): one that says "final" alone credits nothing.
At the end the sum of what was stored is compared with the account's balance; a gap that stays is read again from the
beginning, at most once an hour.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.solana.answers import SignatureInfo
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.rpc import SIGNATURES_MAX
from raymart_billing.solana.token_accounts import NotATokenAccount, TokenAccount
from raymart_billing.usdc_deposits.arrivals import arrival_of
from raymart_billing.usdc_deposits.crediting import book
from raymart_billing.usdc_deposits.listing import list_new
from raymart_billing.usdc_deposits.models import TreasuryMovement, UsdcDeposit, UsdcDepositState, UsdcScan
from raymart_core.errors import DomainError, RaymartError, Unavailable
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

REREAD_AFTER = timedelta(hours=1)
PROBLEM_CHARACTERS_MAX = 500
KNOWN_AT_ONCE = 1_000

_CLAIM = text(
    "insert into usdc_scan (account, fence) values (:account, 1)"
    " on conflict (account) do update set fence = usdc_scan.fence + 1 returning fence, cursor"
)
_HOLD = text("select fence from usdc_scan where account = :account for no key update")
_STORED = text("update usdc_scan set cursor = :cursor where account = :account")
_ENDED = text(
    "update usdc_scan set scanned_at = clock_timestamp(), problem = null, problem_since = null"
    " where account = :account and fence = :fence"
)
_FAILED = text(
    "update usdc_scan set problem = :problem, problem_since = coalesce(problem_since, clock_timestamp())"
    " where account = :account and fence = :fence"
)
_GAP = text(
    """
    update usdc_scan
       set gap_micro_usdc = :gap,
           cursor = case when reread then null else cursor end,
           reread_at = case when reread then clock_timestamp() else reread_at end
      from (
        select account, coalesce(gap_micro_usdc = :gap, false)
               and (reread_at is null or reread_at < clock_timestamp() - cast(:after as interval)) as reread
          from usdc_scan where account = :account for no key update
      ) as due
     where usdc_scan.account = due.account and fence = :fence
    returning reread
    """
)


class Superseded(RaymartError):
    """A newer scanner has begun; this one stores nothing more."""


@dataclass(slots=True, kw_only=True)
class Scanned:
    """What one run did."""

    stored: int = 0
    """Transactions written down for the first time."""
    credited: int = 0
    undecided: int = 0
    """Deposits that wait for a person."""
    gap_micro_usdc: int | None = None
    """The account's balance less the sum of its movements; None when they agree, or when it could not be told."""


Step = Callable[[str], Awaitable[None]]
"""Called between steps, with the name of the one that is done: where tests stop a scanner."""


async def _go_on(_step: str) -> None:
    """Nothing stops a scanner but its errors."""


async def scan(
    sessions: Sessions, chain: Chain, *, page_size: int = SIGNATURES_MAX, after_step: Step = _go_on
) -> Scanned:
    """Store what is final and new. Safe to repeat, and to run beside another.

    Raises: RpcError and StoriesDiffer (what was stored before stays; the problem is kept in `usdc_scan`), Superseded.
    """
    account = str(chain.treasury_token_account)
    fence, cursor = await _claim(sessions, account)
    try:
        await chain.check()
        done = await _read(sessions, chain, fence, cursor, page_size=page_size, after_step=after_step)
    except DomainError as error:
        async with session_scope(sessions) as session:
            problem = error.message[:PROBLEM_CHARACTERS_MAX]
            await session.execute(_FAILED, {"account": account, "fence": fence, "problem": problem})
        log.warning("usdc_scan.stopped", account=account, error=error.message)
        raise
    async with session_scope(sessions) as session:
        await session.execute(_ENDED, {"account": account, "fence": fence})
    return done


async def read_again(session: AsyncSession, account: str) -> None:
    """Let the next scan begin with the account's first transaction. What is stored is not booked twice."""
    await session.execute(_STORED, {"account": account, "cursor": None})


async def _claim(sessions: Sessions, account: str) -> tuple[int, str | None]:
    async with session_scope(sessions) as session:
        row = (await session.execute(_CLAIM, {"account": account})).one()
    return row.fence, row.cursor


async def _read(
    sessions: Sessions,
    chain: Chain,
    fence: int,
    cursor: str | None,
    *,
    page_size: int,
    after_step: Step,
) -> Scanned:
    account, done = str(chain.treasury_token_account), Scanned()
    before = await _balances(chain)
    infos = await list_new(chain.rpc, account, cursor=cursor, page_size=page_size)
    await after_step("listed")
    for start in range(0, len(infos), KNOWN_AT_ONCE):
        batch = infos[start : start + KNOWN_AT_ONCE]
        known = await _known(sessions, account, batch)
        for info in batch:
            if info.signature not in known:
                await _take(sessions, chain, fence, info, done)
                await after_step("stored")
        if batch[-1].signature in known:
            await _pass(sessions, account, fence, batch[-1].signature)
    await after_step("read")
    await _compare(sessions, chain, fence, before, done)
    return done


async def _take(sessions: Sessions, chain: Chain, fence: int, info: SignatureInfo, done: Scanned) -> None:
    """Fetch one transaction and store it, with the cursor behind it."""
    account = str(chain.treasury_token_account)
    transaction = await chain.rpc.transaction(info.signature)
    if transaction is None:
        raise Unavailable(
            f"not all endpoints know transaction {info.signature} of slot {info.slot} as final; it is read again, and"
            " nothing after it before"
        )
    arrival = arrival_of(transaction, account=account, mint=str(chain.mint), memo=info.memo)
    async with session_scope(sessions) as session:
        await _hold(session, account, fence)
        deposit = await book(session, arrival)
        await session.execute(_STORED, {"account": account, "cursor": info.signature})
    done.stored += 1
    if deposit is not None:
        done.credited += deposit.state is UsdcDepositState.CREDITED
        done.undecided += deposit.state is UsdcDepositState.FINAL


async def _pass(sessions: Sessions, account: str, fence: int, signature: str) -> None:
    async with session_scope(sessions) as session:
        await _hold(session, account, fence)
        await session.execute(_STORED, {"account": account, "cursor": signature})


async def _hold(session: AsyncSession, account: str, fence: int) -> None:
    """Lock the cursor until the transaction ends. Raises: Superseded."""
    newest = await session.scalar(_HOLD, {"account": account})
    if newest != fence:
        raise Superseded(f"a scanner with fence {newest} has taken over from {fence}")


async def _known(sessions: Sessions, account: str, infos: Sequence[SignatureInfo]) -> frozenset[str]:
    query = select(TreasuryMovement.signature).where(
        TreasuryMovement.account == account,
        TreasuryMovement.signature.in_([info.signature for info in infos]),
    )
    async with session_scope(sessions) as session:
        return frozenset((await session.scalars(query)).all())


async def _balances(chain: Chain) -> frozenset[int]:
    """What each endpoint says that the account holds, at finalized. 0 where there is no account."""
    found = set()
    for endpoint in range(chain.rpc.endpoints):
        (tokens,) = await chain.rpc.accounts([chain.treasury_token_account], endpoint=endpoint)
        try:
            found.add(0 if tokens is None else TokenAccount.parse(tokens).amount)
        except NotATokenAccount as error:
            raise Unavailable(f"the treasury's token account cannot be read: {error}") from error
    return frozenset(found)


async def _compare(
    sessions: Sessions, chain: Chain, fence: int, before: frozenset[int], done: Scanned
) -> None:
    """See whether something was missed. Says nothing while money moves or the endpoints differ: the next run will."""
    after = await _balances(chain)
    if len(before | after) != 1:
        return
    account = str(chain.treasury_token_account)
    async with session_scope(sessions) as session:
        query = select(func.coalesce(func.sum(TreasuryMovement.delta_micro_usdc), 0))
        stored = int(await session.scalar(query.where(TreasuryMovement.account == account)) or 0)
        (balance,) = after
        done.gap_micro_usdc = (balance - stored) or None
        found = {"account": account, "fence": fence, "gap": done.gap_micro_usdc, "after": REREAD_AFTER}
        reread = await session.scalar(_GAP, found)
    if done.gap_micro_usdc is not None:
        log.error(
            "usdc_scan.gap", account=account, gap_micro_usdc=done.gap_micro_usdc, reads_again=bool(reread)
        )


async def last_scan(session: AsyncSession, account: str) -> UsdcScan | None:
    """How far the account was read; None before the first scan."""
    return await session.get(UsdcScan, account, populate_existing=True)


async def undecided(session: AsyncSession) -> int:
    """Deposits that wait for a person."""
    query = select(func.count()).where(UsdcDeposit.state == UsdcDepositState.FINAL)
    return int(await session.scalar(query) or 0)
