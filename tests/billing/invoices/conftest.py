"""A database in which the past can be written, and a customer in it."""

import pytest

from raymart_billing.connections import Pool
from raymart_marketplace.db.session import Sessions
from support.old_books import OldBooks, old_books_url

__all__ = ["old_books_url"]


@pytest.fixture(scope="session")
def database_url(old_books_url: str) -> str:
    """In place of the session's database."""
    return old_books_url


@pytest.fixture
async def books(pool: Pool, sessions: Sessions) -> OldBooks:
    """A customer and a provider nobody else uses."""
    return await OldBooks(pool, sessions).found()
