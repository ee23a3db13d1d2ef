"""What the treasury has left for the parts of one round, so that no two of them count on the same money.

Parts in flight have not left the finalized balance yet; what they will take is set aside first. Parts that were finalized
and are not settled yet are then counted twice for some seconds: too little is believed to be there, never too much.
"""

from dataclasses import replace

from raymart_billing.payouts.sending.preflight import why_short
from raymart_billing.solana.fees import Funds


class Purse:
    """Finalized balances, less what was promised."""

    def __init__(self, funds: Funds, *, in_flight_lamports: int, in_flight_micro_usdc: int) -> None:
        self._left = replace(
            funds,
            lamports=funds.lamports - in_flight_lamports,
            micro_usdc=funds.micro_usdc - in_flight_micro_usdc,
        )

    def take(self, *, lamports: int, micro_usdc: int) -> str | None:
        """Set this much aside; or say what is missing, and set nothing aside."""
        shortage = why_short(self._left, lamports=lamports, micro_usdc=micro_usdc)
        if shortage is None:
            self._left = replace(
                self._left,
                lamports=self._left.lamports - lamports,
                micro_usdc=self._left.micro_usdc - micro_usdc,
            )
        return shortage
