"""`raymart privacy`."""

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
