"""Fixtures of payouts."""

import pytest

from raymart_billing.connections import Pool
from support.payout_batches import PayoutBatches


@pytest.fixture
def batches(pool: Pool) -> PayoutBatches:
    """Batches nobody else uses."""
    return PayoutBatches(pool)
