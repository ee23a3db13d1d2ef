"""The pool of these tests, and a customer that exists."""

import pytest

from raymart_billing.connections import Pool
from raymart_marketplace.db.session import Sessions
from support.old_books import OldBooks


@pytest.fixture
async def books(pool: Pool, sessions: Sessions) -> OldBooks:
    """A customer and a provider nobody else uses; nothing of theirs is moved in time."""
    return await OldBooks(pool, sessions).found()
