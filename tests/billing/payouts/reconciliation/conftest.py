"""Fixtures of reconciliation."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from raymart_local.postgres import EmbeddedPostgres
from support.empty_database import migrated_database_url
from support.reconciling import Reconciling, reconciling

__all__ = ["migrated_database_url"]


@pytest.fixture
async def world(postgres: EmbeddedPostgres, migrated_database_url: str) -> AsyncIterator[Reconciling]:
    """A database, a chain and an engine of this test's own."""
    runtime_url = urlsplit(postgres.runtime_url)._replace(path=urlsplit(migrated_database_url).path).geturl()
    async with reconciling(migrated_database_url, runtime_url) as made:
        yield made
