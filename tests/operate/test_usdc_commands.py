"""`raymart usdc` against the development chain's server: a request is paid by its URL and credited once, after finality."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from typer.testing import CliRunner

from raymart_core.errors import DomainError
from raymart_core.ids import new_id
from raymart_graphql.cli import command_line
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import OrganizationKind, User
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.dev_chain_process import DevChainProcess

SCANS_MAX = 200
"""Until something is final: 32 slots of 10 ms, and a scan takes longer than one of them."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevChainProcess]:
    """The real server, with its own treasury and mint."""
    with DevChainProcess(tmp_path_factory.mktemp("chain")) as process:
        yield process


class Shop:
    """A customer, a wallet with tokens, and the command line."""

    def __init__(self, url: str, chain: DevChainProcess, directory: Path) -> None:
        self.url, self.chain = url, chain
        self.slug, self.email = asyncio.run(self._customer())
        self.payer = Keypair()
        self.keypair = directory / "payer.json"
        self.keypair.write_text(self.payer.to_json())
        chain.ask("requestAirdrop", str(self.payer.pubkey()), 10**9)
        chain.ask("devchain_giveTokens", str(self.payer.pubkey()), 100_000_000, chain.told["usdc_mint"])

    def __call__(self, *arguments: str) -> str:
        """Standard output of `raymart usdc <arguments>`. Raises: what the command raises."""
        told = self.chain.told
        variables = {
            "DATABASE_URL": self.url,
            "RAYMART_TOKEN_SECRET": "7f" * 32,
            "SOLANA_RPC_URL": told["rpc_url"],
            "RAYMART_SOLANA_CHAIN_ID": "solana:localnet",
            "RAYMART_TREASURY_ADDRESS": told["treasury"],
            "RAYMART_USDC_MINT": told["usdc_mint"],
        }
        done = CliRunner().invoke(command_line("usdc"), ["usdc", *arguments], env=variables)
        if isinstance(done.exception, DomainError):
            raise done.exception
        if done.exception is not None:
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self(*arguments, "-o", "json"))

    def decide(self, *arguments: str) -> str:
        """A command that asks who decides, and why."""
        return self(*arguments, "--reason", "a test says so", "--actor", self.email)

    def until_final(self, signature: str) -> dict[str, Any]:
        """The deposit of a payment once it is final; each scan before is one that must not credit it."""
        for _ in range(SCANS_MAX):
            self("scan")
            found = [row for row in self.rows("deposits") if row["signature"] == signature]
            if found and found[0]["state"] != "seen":
                return found[0]
        raise AssertionError(f"{signature} is not final after {SCANS_MAX} scans")

    async def _customer(self) -> tuple[str, str]:
        engine = make_engine(self.url, pool_size=2)
        unique = f"usdc-cli-{new_id().hex}"
        async with session_scope(make_sessions(engine)) as session:
            organization = await accounts.create_organization(
                session, name=unique, kind=OrganizationKind.CUSTOMER
            )
            user = User(id=new_id(), email=f"{unique}@example.com", name="Owner", password_hash="x")
            session.add(user)
        await engine.dispose()
        return organization.slug, user.email


@pytest.fixture
def shop(database_url: str, chain: DevChainProcess, tmp_path: Path) -> Shop:
    return Shop(database_url, chain, tmp_path)


class TestTopUp:
    def test_the_urls_payment_is_credited_once_after_finality_also_after_rescans(self, shop: Shop) -> None:
        shown = shop("request", "--customer", shop.slug, "--amount", "12.5", "--actor", shop.email)
        url = shown.splitlines()[-1]
        assert "█" in shown
        signature = shop("pay", url, "--keypair", str(shop.keypair)).strip()
        deposit = shop.until_final(signature)
        assert (deposit["state"], deposit["customer"]) == ("credited", shop.slug)
        assert deposit["paid_by"] == str(shop.payer.pubkey())
        for options in ((), ("--from-beginning",), ("--from-beginning",)):
            assert shop("scan", *options).startswith("0 new transactions, 0 credited")
        assert [row["amount"] for row in shop.rows("deposits", "--customer", shop.slug)] == ["12.500000 USDC"]
        facts = {row["what"]: row["value"] for row in shop.rows("treasury")}
        assert (facts["wallet"], facts["problem"], facts["gap_micro_usdc"]) == (
            shop.chain.told["treasury"],
            None,
            None,
        )


class TestDecisions:
    @pytest.mark.slow
    def test_what_names_nobody_is_assigned_funded_or_sent_back(self, shop: Shop) -> None:
        signatures = []
        for micro in (1_000_000, 2_000_000):
            url = shop("request", "--customer", shop.slug, "--actor", shop.email).splitlines()[-1]
            bare = url.split("&reference=")[0]
            signatures.append(
                shop("pay", bare, "--keypair", str(shop.keypair), "--amount", str(micro // 10**6)).strip()
            )
        first, second = signatures
        assert shop.until_final(first)["held"] == "it names no request"
        shop.until_final(second)
        assert "1.000000 USDC credited" in shop.decide("assign", first, "--customer", shop.slug)
        assert "waits for approval" in shop.decide("refund", second)
        assert "final again" in shop.decide("cancel-refund", second)
        assert "the platform's own" in shop.decide("fund", second)
        assert {row["signature"]: row["state"] for row in shop.rows("deposits")}.items() >= {
            (first, "credited"),
            (second, "funding"),
        }

    def test_marks_are_listed_until_they_are_taken_away(self, shop: Shop) -> None:
        wallet = str(shop.payer.pubkey())
        shop.decide("mark", wallet, "--as", "exchange")
        assert wallet in {row["wallet"] for row in shop.rows("senders")}
        shop("unmark", wallet)
        assert wallet not in {row["wallet"] for row in shop.rows("senders")}

    @pytest.mark.parametrize("arguments", [("pay", "solana:x", "--keypair", "/nowhere"), ("assign", "none")])
    def test_misuse_says_what_is_wrong(self, shop: Shop, arguments: tuple[str, ...]) -> None:
        more = ("--customer", shop.slug, "--reason", "x", "--actor", shop.email)
        with pytest.raises(DomainError):
            shop(*arguments, *(more if arguments[0] == "assign" else ()))
