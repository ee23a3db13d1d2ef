"""`raymart budget`."""

import json

from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope
from support.command_line import failed, run
from support.market import make_customer


class TestBudget:
    async def test_budgets_are_set_listed_and_removed(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            organization = await session.get_one(Organization, customer.organization_id)
            slug, scope_id = organization.slug, show(Prefix.ORGANIZATION, organization.id)
        said = run(database_url, "budget", "set", scope_id, "monthly", "12.5")
        assert (said.returncode, "monthly budget of 12.5" in said.stdout) == (0, True), said
        [row] = json.loads(run(database_url, "budget", "list", slug, "-o", "json").stdout)
        assert (row["scope_id"], row["period"], row["limit"]) == (scope_id, "monthly", "12.500000000 USD")
        assert "monthly" in run(database_url, "budget", "list", slug, COLUMNS="300").stdout
        assert run(database_url, "budget", "remove", scope_id, "monthly").returncode == 0
        assert json.loads(run(database_url, "budget", "list", slug, "-o", "json").stdout) == []
        assert "no monthly budget" in failed(run(database_url, "budget", "remove", scope_id, "monthly"))

    def test_open_leases_are_listed(self, database_url: str):
        listed = run(database_url, "budget", "leases", "-o", "json")
        assert isinstance(json.loads(listed.stdout), list)

    def test_wrong_arguments_are_one_line(self, database_url: str):
        known = show(Prefix.PROJECT, new_id())
        for arguments, said in (
            (("set", "nonsense", "daily", "1"), "names no organization"),
            (("set", known, "daily", "a lot"), "a lot"),
            (("set", known, "daily", "1"), "no such project"),
            (("set", known, "daily", "1", "--actor", "nobody@example.test"), "nobody@example.test"),
            (("list", "no-such-slug"), "no-such-slug"),
        ):
            assert said in failed(run(database_url, "budget", *arguments))
