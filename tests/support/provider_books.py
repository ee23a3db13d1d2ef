"""What a provider earned, kept back and was paid, in the real ledger."""

from uuid import UUID

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, open_account, post
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.db.session import Sessions, session_scope

_CODES = {
    TransferCode.USAGE_EARNING: (AccountKind.USAGE_CLEARING, AccountKind.PROVIDER_PAYABLE),
    TransferCode.REFUND_CLAWBACK: (AccountKind.PROVIDER_PAYABLE, AccountKind.PLATFORM_REFUND),
    TransferCode.RESERVE_KEPT: (AccountKind.PROVIDER_PAYABLE, AccountKind.PROVIDER_RESERVE),
    TransferCode.RESERVE_RELEASED: (AccountKind.PROVIDER_RESERVE, AccountKind.PROVIDER_PAYABLE),
    TransferCode.PAYOUT_SENT: (AccountKind.PROVIDER_PAYABLE, AccountKind.PAYOUT_CLEARING),
    TransferCode.PAYOUT_SETTLED: (AccountKind.PAYOUT_CLEARING, AccountKind.EXTERNAL_USDC),
    TransferCode.PAYOUT_RETURNED: (AccountKind.PAYOUT_CLEARING, AccountKind.PROVIDER_PAYABLE),
    TransferCode.USAGE_SHORTFALL: (AccountKind.PLATFORM_LOSS, AccountKind.USAGE_CLEARING),
}
_PLATFORMS = {AccountKind.PLATFORM_REFUND, AccountKind.PLATFORM_LOSS, AccountKind.EXTERNAL_USDC}


class ProviderBooks:
    """Posts movements of one provider; its customer is an organization of no other test's."""

    def __init__(self, sessions: Sessions, provider_id: UUID) -> None:
        self._sessions = sessions
        self._provider_id = provider_id
        self._customer_id = new_id()

    async def move(self, code: TransferCode, nano_usd: int, *, key: str | None = None) -> None:
        """One transfer of a code between its two accounts."""
        async with session_scope(self._sessions) as session:
            accounts = [await open_account(session, kind, self._owner(kind)) for kind in _CODES[code]]
            await post(
                session,
                [
                    Movement(
                        key=key or f"test:{new_id()}",
                        debit_account_id=accounts[0],
                        credit_account_id=accounts[1],
                        amount=Money(nano_usd),
                        code=code,
                    )
                ],
            )

    async def earn(self, nano_usd: int) -> None:
        """Usage that the platform bore, and the provider's part of it."""
        await self.move(TransferCode.USAGE_SHORTFALL, nano_usd)
        await self.move(TransferCode.USAGE_EARNING, nano_usd)

    async def send(self, item_id: UUID, micro_usdc: int) -> None:
        """The payment leaves the provider's account, as planning books it."""
        await self.move(TransferCode.PAYOUT_SENT, micro_usdc * 1_000, key=f"payout:{item_id}:sent")

    async def settle(self, item_id: UUID, micro_usdc: int) -> None:
        """The payment is final, as the sender books it."""
        await self.move(TransferCode.PAYOUT_SETTLED, micro_usdc * 1_000, key=f"payout:{item_id}:settled")

    def _owner(self, kind: AccountKind) -> UUID | None:
        if kind in _PLATFORMS:
            return None
        return self._customer_id if kind is AccountKind.USAGE_CLEARING else self._provider_id
