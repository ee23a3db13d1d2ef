"""For files whose tests look at everything there is: a database that no other file writes to.

Import both fixtures into the file, or into the `conftest.py` of its folder.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from raymart_local.postgres import EmbeddedPostgres
from support.empty_database import new_database


@pytest.fixture(scope="module")
def owner_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """URL of the file's own database, as superuser."""
    with new_database(postgres, template=migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres, owner_url: str) -> str:
    """The same as the runtime's role."""
    return urlsplit(postgres.runtime_url)._replace(path=urlsplit(owner_url).path).geturl()
