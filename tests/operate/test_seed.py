"""The demo's accounts: made once, kept, repaired, and never readable by others."""

import asyncio
import json
import stat
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.signature import Signature
from sqlalchemy import func, select, update

from raymart_billing.ledger import balance, trial_balance
from raymart_billing.payout_wallets import PayoutWallet, WalletRules, current_wallet
from raymart_core.ids import Prefix, parse
from raymart_core.money import Money
from raymart_core.units import Unit
from raymart_graphql import seed as seeding
from raymart_graphql.seed import PROVIDERS, seed
from raymart_graphql.seed_models import DEMO_MODELS, DemoModel
from raymart_graphql.seed_wallets import DemoWallets, wallet_keypair
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.models import ApiKey, Organization, User
from raymart_marketplace.accounts.service import is_administrator
from raymart_marketplace.accounts.siws import check_signature, read_message
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.accounts.wallet_challenges import WalletChallenges
from raymart_marketplace.accounts.wallet_proofs import WalletProof, withdraw_proof
from raymart_marketplace.catalog.service import model_by_slug, revisions
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.models import RateCard
from raymart_marketplace.pricing.service import publish_rate_card
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply.enrolment import enrol
from raymart_marketplace.supply.models import JoinToken, NodeRole, Offer
from raymart_marketplace.supply.service import (
    offers_of,
    pause_offer,
    pool_by_slug,
    provider_by_slug,
    set_asks,
)
from raymart_serve.models import resolve
from support.logins import log_in
from support.market import enrol_message

BASE_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Demo:
    """A database of its own, because the seed's rows have fixed names."""

    sessions: Sessions
    tokens: AccessTokens
    credentials: Path
    join_tokens: Path

    async def seed(self, wallets: DemoWallets | None = None) -> dict:
        await seed(
            self.sessions,
            self.tokens,
            base_url=BASE_URL,
            credentials=self.credentials,
            join_tokens=self.join_tokens,
            wallets=wallets,
        )
        return json.loads(self.credentials.read_text())

    def joins(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.join_tokens.iterdir()}


@pytest.fixture
async def demo(migrated_database_url: str, tmp_path: Path):
    engine = make_engine(migrated_database_url, pool_size=3)
    tokens = AccessTokens(b"s" * 32, issuer="raymart", audience="raymart-api", ttl_s=43_200)
    yield Demo(make_sessions(engine), tokens, tmp_path / "credentials.json", tmp_path / "join")
    await engine.dispose()


class TestCredentials:
    async def test_file_has_the_contracts_shape(self, demo: Demo):
        document = await demo.seed()
        assert document.keys() == {"base_url", "admin", "treasurer", "customer", "providers"}
        assert document["base_url"] == BASE_URL
        assert document["admin"].keys() == {"email", "password", "token"}
        assert document["customer"].keys() == {"email", "password", "token", "api_key", "organization_id"}
        assert [each.keys() for each in document["providers"]] == [
            {"email", "password", "token", "provider_id"}
        ] * 2

    async def test_every_login_works(self, demo: Demo):
        document = await demo.seed()
        for login in [document["admin"], document["treasurer"], document["customer"], *document["providers"]]:
            async with session_scope(demo.sessions) as session:
                user = await log_in(session, email=login["email"], password=login["password"])
            claims = demo.tokens.verify(login["token"])
            assert claims.user_id == user.id
            assert demo.tokens.seconds_left(claims) > 43_000

    async def test_key_and_ids_name_the_seeded_rows(self, demo: Demo):
        document = await demo.seed()
        authenticator = Authenticator(demo.sessions, demo.tokens)
        caller = await authenticator.caller(f"Bearer {document['customer']['api_key']}".encode())
        assert caller.organization_id == parse(Prefix.ORGANIZATION, document["customer"]["organization_id"])
        async with session_scope(demo.sessions) as session:
            for wanted, login in zip(PROVIDERS, document["providers"], strict=True):
                provider = await provider_by_slug(session, wanted.slug)
                assert parse(Prefix.PROVIDER, login["provider_id"]) == provider.id
            admin = demo.tokens.verify(document["admin"]["token"]).user_id
            assert await is_administrator(session, admin)
            assert not await is_administrator(
                session, demo.tokens.verify(document["customer"]["token"]).user_id
            )

    async def test_only_the_owner_can_read_the_files(self, demo: Demo):
        await demo.seed()
        for path in (demo.credentials, *demo.join_tokens.iterdir()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(demo.join_tokens.stat().st_mode) == 0o700
        assert {path.name for path in demo.credentials.parent.iterdir()} == {"credentials.json", "join"}


class TestRepeat:
    async def test_second_run_keeps_passwords_and_key_and_makes_no_rows(self, demo: Demo):
        first = await demo.seed()
        before = await counts(demo)
        second = await demo.seed()
        assert without_tokens(second) == without_tokens(first)
        assert await counts(demo) == before
        assert demo.tokens.verify(second["admin"]["token"])

    async def test_two_runs_at_once_agree_with_the_file(self, demo: Demo, monkeypatch):
        """Each finds no file and makes new passwords; the first is slow to write its own."""
        await demo.seed()
        demo.credentials.unlink()
        write, turns, second_wrote = seeding._write, count(), threading.Event()

        def slowly(*arguments) -> None:
            is_first = next(turns) == 0
            if is_first:
                # The other must not get to its file before this one is written: the wait is in vain.
                second_wrote.wait(timeout=2)
            write(*arguments)
            if not is_first:
                second_wrote.set()

        monkeypatch.setattr(seeding, "_write", slowly)
        await asyncio.gather(demo.seed(), demo.seed())
        await _every_login_works(demo, json.loads(demo.credentials.read_text()))

    @pytest.mark.parametrize("damage", ["missing", "empty", "no json", "another shape", "wrong secrets"])
    async def test_lost_or_damaged_file_is_repaired(self, demo: Demo, damage: str):
        """Also what a crash between the commit and the file leaves behind."""
        first = await demo.seed()
        wrong = json.loads(json.dumps(first).replace("rm_live_", "rm_live_x"))
        for login in [wrong["admin"], wrong["customer"], *wrong["providers"]]:
            login["password"] = "not the password"
        match damage:
            case "missing":
                demo.credentials.unlink()
            case "empty":
                demo.credentials.write_text("")
            case "no json":
                demo.credentials.write_text("{")
            case "another shape":
                demo.credentials.write_text('{"admin": [], "customer": null, "providers": 3}')
            case "wrong secrets":
                demo.credentials.write_text(json.dumps(wrong))
        document = await demo.seed()
        await _every_login_works(demo, document)
        authenticator = Authenticator(demo.sessions, demo.tokens)
        assert await authenticator.caller(f"Bearer {document['customer']['api_key']}".encode())
        async with session_scope(demo.sessions) as session:
            living = select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None))
            assert await session.scalar(living) == 1, "a key that nobody holds stays valid"
            assert (await balance_of(session, document)).available == seeding.CREDIT

    async def test_changes_that_people_made_stay(self, demo: Demo):
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            offer, *_ = await offers_of(session, (await provider_by_slug(session, "alpha")).id)
            await set_asks(session, offer_id=offer.id, ask_prompt_nano_usd=1, ask_completion_nano_usd=2)
            await pause_offer(session, offer_id=offer.id)
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            kept = await session.get_one(Offer, offer.id)
            assert (kept.ask_prompt_nano_usd, kept.state.value) == (1, "paused")


class TestMarket:
    async def test_credit_is_granted_once_and_the_books_balance(self, demo: Demo):
        for _ in range(3):
            document = await demo.seed()
        async with session_scope(demo.sessions) as session:
            assert (await balance_of(session, document)).available == Money(1_000_000_000)
            assert (await trial_balance(session)).balanced

    async def test_both_providers_offer_each_bundled_model_at_their_share_of_its_rate_card(self, demo: Demo):
        await demo.seed()
        offered = {}
        async with session_scope(demo.sessions) as session:
            for slug in ("alpha", "beta"):
                offers = await offers_of(session, (await provider_by_slug(session, slug)).id)
                terms = await load_terms(session, [offer.id for offer in offers])
                offered[slug] = {offer.revision_id: terms[offer.id].asks for offer in offers}
            for model in DEMO_MODELS:
                [revision] = await revisions(session, await model_by_slug(session, model.slug))
                assert offered["beta"].pop(revision.id) == model.prices
                share = {unit: price * 8 // 10 for unit, price in model.prices.items()}
                assert offered["alpha"].pop(revision.id) == share
        assert offered == {"alpha": {}, "beta": {}}

    async def test_the_model_has_one_published_rate_card_and_what_people_publish_stays(self, demo: Demo):
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            model = await model_by_slug(session, "raymart/demo-chat")
            await publish_rate_card(session, model_id=model.id, prices={Unit.REQUEST: 1}, actor_id=None)
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            cards = await session.scalars(
                select(RateCard).where(RateCard.model_id == model.id).order_by(RateCard.version)
            )
            assert [(card.version, card.state.value) for card in cards] == [(1, "retired"), (2, "published")]

    @pytest.mark.parametrize("model", DEMO_MODELS, ids=lambda model: model.slug)
    def test_digest_is_of_what_is_shipped(self, model: DemoModel):
        assert resolve(model.source, model.sha256).exists()


class TestJoinTokens:
    async def test_each_token_enrols_its_node(self, demo: Demo):
        await demo.seed()
        joins = demo.joins()
        assert joins.keys() == {"demo-a", "demo-b", "controller"}
        for name, provider in (("demo-a", "alpha"), ("demo-b", "beta"), ("controller", None)):
            async with session_scope(demo.sessions) as session:
                node = await enrol(session, enrol_message(joins[name], name=name, machine_id="one machine"))
                owner = await provider_by_slug(session, provider) if provider else None
                assert node.provider_id == (owner.id if owner else None)
                assert node.role is (NodeRole.NODE if provider else NodeRole.CONTROLLER)
                assert node.pool_id == (await pool_by_slug(session, "house")).id

    async def test_enrolled_nodes_get_no_new_token(self, demo: Demo):
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            await enrol(session, enrol_message(demo.joins()["demo-a"], name="demo-a"))
        stale = demo.joins()
        await demo.seed()
        fresh = demo.joins()
        assert fresh.keys() == {"demo-b", "controller"}
        assert fresh["demo-b"] != stale["demo-b"]

    async def test_fresh_tokens_replace_expired_ones(self, demo: Demo):
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            await session.execute(update(JoinToken).values(expires_at=func.clock_timestamp()))
        await demo.seed()
        async with session_scope(demo.sessions) as session:
            await enrol(session, enrol_message(demo.joins()["demo-a"], name="demo-a"))


async def _every_login_works(demo: Demo, document: dict) -> None:
    for login in [document["admin"], document["treasurer"], document["customer"], *document["providers"]]:
        async with session_scope(demo.sessions) as session:
            await log_in(session, email=login["email"], password=login["password"])


async def balance_of(session, document: dict):
    return await balance(session, parse(Prefix.ORGANIZATION, document["customer"]["organization_id"]))


async def counts(demo: Demo) -> list[int]:
    """Rows of the tables that a repeat must not grow (join tokens are made anew)."""
    async with session_scope(demo.sessions) as session:
        return [
            await session.scalar(select(func.count()).select_from(table)) or 0
            for table in (User, Organization, ApiKey, Offer)
        ]


def without_tokens(document: dict) -> dict:
    """The credentials but for their fresh access tokens."""
    kept = json.loads(json.dumps(document))
    for login in [kept["admin"], kept["treasurer"], kept["customer"], *kept["providers"]]:
        del login["token"]
    return kept


class TestPayoutWallets:
    @pytest.fixture
    async def wallets(self, redis_server: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[DemoWallets]:
        redis = make_redis(redis_server.url)
        yield DemoWallets(
            challenges=WalletChallenges(redis, domain="d", uri="http://d", chain_id="solana:localnet"),
            rules=WalletRules(cool_down=timedelta(hours=72), proof_fresh=timedelta(minutes=10)),
            folder=tmp_path / "wallets",
        )
        await redis.aclose()

    async def test_each_provider_has_one_that_it_holds_the_key_of(self, demo: Demo, wallets: DemoWallets):
        for _ in range(2):
            await demo.seed(wallets)
        async with session_scope(demo.sessions) as session:
            choices = (await session.scalars(select(PayoutWallet).order_by(PayoutWallet.id))).all()
            assert len(choices) == len(PROVIDERS)
            for wanted, choice in zip(PROVIDERS, choices, strict=True):
                path = wallets.folder / f"{wanted.slug}.json"
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert str(Keypair.from_bytes(bytes(json.loads(path.read_text()))).pubkey()) == choice.address
                assert choice.is_first
                assert choice.payable_from == choice.created_at
                proof = await session.get_one(WalletProof, choice.proof_id)
                check_signature(read_message(proof.message), str(Signature(proof.signature)))

    async def test_choice_that_people_ended_stays_ended(self, demo: Demo, wallets: DemoWallets):
        await demo.seed(wallets)
        async with session_scope(demo.sessions) as session:
            provider = await provider_by_slug(session, "alpha")
            choice = await current_wallet(session, provider.id)
            await withdraw_proof(session, organization_id=provider.organization_id, address=choice.address)
        await demo.seed(wallets)
        async with session_scope(demo.sessions) as session:
            assert await current_wallet(session, provider.id) is None

    async def test_key_of_an_earlier_run_is_used_again(self, wallets: DemoWallets):
        path = wallets.folder / "x.json"
        assert wallet_keypair(path) == wallet_keypair(path)
