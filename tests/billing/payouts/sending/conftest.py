"""Fixtures of sending."""

import pytest

from raymart_billing.connections import Pool
from raymart_marketplace.db.session import Sessions
from support.sending import Sending


@pytest.fixture
def sending(pool: Pool, sessions: Sessions) -> Sending:
    """The engine on a chain of this test's own, with two endpoints."""
    return Sending(pool, sessions)
