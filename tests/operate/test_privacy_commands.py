"""`raymart privacy`."""

import json
import zipfile
from pathlib import Path

from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope
from support.command_line import failed, run
from support.market import make_customer


class TestExport:
    async def test_writes_a_zip_once(self, database_url: str, sessions: Sessions, tmp_path: Path):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            slug = (await session.get_one(Organization, customer.organization_id)).slug
        output = tmp_path / "export.zip"
        said = run(database_url, "privacy", "export", slug, "--output", str(output))
        assert (said.returncode, str(output) in said.stdout) == (0, True), said
        with zipfile.ZipFile(output) as archive:
            assert slug in archive.read("organization.jsonl").decode()
            assert "about.json" in archive.namelist()
        again = run(database_url, "privacy", "export", slug, "--output", str(output))
        assert "exists already" in failed(again)
        assert "no-such" in failed(run(database_url, "privacy", "export", "no-such", "--output", str(output)))


class TestErase:
    async def test_is_asked_for_listed_and_taken_back(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            organization = await session.get_one(Organization, customer.organization_id)
            slug, name = organization.slug, organization.name
        wrong = run(database_url, "privacy", "erase", slug, "--confirm-name", "another")
        assert "not the organization's name" in failed(wrong)
        done = run(database_url, "privacy", "erase", slug, "--confirm-name", name, "-o", "json")
        [asked] = json.loads(done.stdout)
        assert (asked["due_at"] > asked["created_at"], asked["erased_at"]) == (True, None)
        assert "already" in failed(run(database_url, "privacy", "erase", slug, "--confirm-name", name))
        assert asked in json.loads(run(database_url, "privacy", "list", "-o", "json").stdout)
        [cancelled] = json.loads(run(database_url, "privacy", "cancel", slug, "-o", "json").stdout)
        assert cancelled["cancelled_at"] is not None
        assert asked not in json.loads(run(database_url, "privacy", "list", "-o", "json").stdout)
        assert "nothing was changed" in failed(run(database_url, "privacy", "cancel", slug))
