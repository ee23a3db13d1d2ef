"""From "sign a new attempt" to its bytes at the endpoints: look, set money aside, draft, write, commit, and only then send."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending import attempts, standing
from raymart_billing.payouts.sending.attempts import SignedAttempt
from raymart_billing.payouts.sending.blame import blame
from raymart_billing.payouts.sending.claims import Claim, lock
from raymart_billing.payouts.sending.drafting import Refused, draft_marked, draft_openings
from raymart_billing.payouts.sending.facts import Part, Payee
from raymart_billing.payouts.sending.failpoints import Failpoint, Failpoints
from raymart_billing.payouts.sending.preflight import (
    OpenAccounts,
    Quarantine,
    Verdict,
    cost_lamports,
    inspect,
)
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.supplies import Supply
from raymart_billing.payouts.sending.wallets import WALLET_CHANGED, outdated_items
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.failures import Cause
from raymart_billing.solana.token_accounts import CREATED_MAX
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

OPENINGS_REACHED = (
    "its payees' token accounts were tried to be opened {openings} times; look why, then release it"
)
SIMULATION_FAILED = "its simulation failed: {text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """Makes and sends attempts of parts, for one round."""

    sessions: Sessions
    chain: Chain
    rules: SendingRules
    failpoints: Failpoints
    sent: list[Claim] = field(default_factory=list)
    """Parts whose newest attempt the endpoints were given; noted for all together when the round ends."""

    async def prepare(self, part: Part, supply: Supply) -> bool:
        """Sign and send the next attempt of `part`, or write down why not; returns whether the part has gone on.

        Raises: RpcError, SigningRefused, NotAllowed, LeaseLost.
        """
        verdict = await self._inspect(part)
        if isinstance(verdict, Quarantine):
            await self.quarantine(part, verdict)
            return True
        opening = verdict.payees if isinstance(verdict, OpenAccounts) else ()
        if opening and await self._is_tired_of_opening(part, opening):
            return False
        shortage = supply.purse.take(
            # What it has in flight was set aside already: a raised fee costs a fee.
            lamports=cost_lamports(part, len(opening), rents=supply.rents, rules=self.rules),
            micro_usdc=0 if part.live or opening or part.purpose is Purpose.BURN else part.total_micro_usdc,
        )
        if shortage is not None:
            await self._write(part, standing.wait_for_funds, shortage)
            return False
        return await self._draft_and_send(part, opening, supply)

    async def quarantine(self, part: Part, verdict: Quarantine) -> None:
        """Keep payees out of `part`; its marker is burnt from the next round on."""
        async with session_scope(self.sessions) as session:
            await lock(session, part.claim)
            await standing.quarantine(session, part, verdict.reasons)
        self.failpoints.hit(Failpoint.AFTER_QUARANTINE)

    async def _inspect(self, part: Part) -> Verdict:
        if part.purpose is Purpose.PAY and not part.live:
            async with session_scope(self.sessions) as session:
                outdated = await outdated_items(session, [payee.item_id for payee in part.payees])
            if outdated:
                return Quarantine(reasons=dict.fromkeys(outdated, WALLET_CHANGED))
        addresses = [] if part.purpose is Purpose.BURN else [payee.token_account for payee in part.payees]
        found = dict(zip(addresses, await self.chain.rpc.accounts(addresses), strict=True))
        missing = [address for address, account in found.items() if account is None]
        opened: dict[str, int] = {}
        if missing:
            async with session_scope(self.sessions) as session:
                opened = await attempts.times_opened(session, missing)
        return inspect(part, found, mint=self.chain.mint, opened=opened, rules=self.rules)

    async def _is_tired_of_opening(self, part: Part, opening: Sequence[Payee]) -> bool:
        wanted = -(-len(opening) // CREATED_MAX)
        if part.openings + wanted <= self.rules.openings_max:
            return False
        await self._write(part, standing.hold, OPENINGS_REACHED.format(openings=part.openings))
        return True

    async def _draft_and_send(self, part: Part, opening: Sequence[Payee], supply: Supply) -> bool:
        if opening:
            drafts = await draft_openings(self.chain, part, opening, supply.going, rules=self.rules)
        else:
            drafts = [await draft_marked(self.chain, part, supply.going, rules=self.rules)]
        signed = [draft for draft in drafts if isinstance(draft, SignedAttempt)]
        for draft in drafts:
            if isinstance(draft, Refused):
                await self._heed(part, draft, supply, is_opening=bool(opening))
        if signed:
            await self._commit_and_broadcast(part, signed)
        return bool(signed)

    async def _heed(self, part: Part, refused: Refused, supply: Supply, *, is_opening: bool) -> None:
        """A simulation failed: somebody may be to blame, and nothing was spent."""
        purpose = Purpose.OPEN if is_opening else part.purpose
        found = blame(part, purpose, refused.failure, version=self.chain.version)
        is_ours = found.cause is Cause.ACCOUNT_FROZEN and supply.is_treasury_frozen
        if found.quarantined and not is_ours:
            await self.quarantine(part, Quarantine(reasons=found.quarantined))
            return
        reason = SIMULATION_FAILED.format(text=refused.failure.text)
        if found.cause in (Cause.TREASURY_SHORT_OF_SOL, Cause.TREASURY_SHORT_OF_USDC):
            await self._write(part, standing.wait_for_funds, f"{found.cause.value}: {reason}")
        else:
            await self._write(part, standing.note, reason)

    async def _commit_and_broadcast(self, part: Part, signed: Sequence[SignedAttempt]) -> None:
        marker = str(self.chain.marker(part.id, part.generation).address)
        async with session_scope(self.sessions) as session:
            await attempts.write(session, part, signed, marker=marker)
            self.failpoints.hit(Failpoint.BEFORE_ATTEMPT_COMMIT)
        self.failpoints.hit(Failpoint.AFTER_ATTEMPT_COMMIT)
        for attempt in signed:
            log.info(
                "payout.attempt_signed",
                part_id=str(part.id),
                batch=part.batch_number,
                number=attempt.number,
                purpose=attempt.purpose.value,
                signature=attempt.signature,
            )
            await self.chain.rpc.broadcast(attempt.raw)
        self.failpoints.hit(Failpoint.AFTER_BROADCAST)
        self.sent.append(part.claim)

    async def _write(self, part: Part, write: standing.Write, reason: str) -> None:
        async with session_scope(self.sessions) as session:
            await lock(session, part.claim)
            await write(session, part, reason)
