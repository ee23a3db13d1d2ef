"""Every example of the users' pages, sent in its order to the real app; a page that has gone stale fails here."""

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from solders.keypair import Keypair

from raymart_billing.connections import make_pool
from raymart_billing.payouts.running import run_now
from raymart_core.ids import Prefix, show
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.session import make_engine, make_sessions
from support.api_server import PASSWORD, Api, Person, Seller, Tenant, api_server, control_settings
from support.command_line import run
from support.empty_database import empty_database_url, migrated_database_url
from support.fake_stripe import API_KEY, WEBHOOK_SECRET, FakeStripe
from support.own_database import database_url, owner_url
from support.painting import painting
from support.payout_batches import MINT
from support.payout_rows import PayoutRows
from support.provider_earnings import Earners
from support.scripted_replica import Exchange, ScriptedReplica
from support.usdc_market import UsdcMarket
from support.weight_files import gguf

__all__ = ["database_url", "empty_database_url", "migrated_database_url", "owner_url"]

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(graphql|json)\n(.*?)^```$|^(Keep [^\n]*)$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CURL = re.compile(r"^```bash\n(curl .*?)^```$", re.MULTILINE | re.DOTALL)
KEEP = re.compile(r"`(\w+)` = `([\w.]+)`")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(slots=True, kw_only=True)
class Example:
    """One operation of a page."""

    query: str
    variables: dict[str, Any] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    """Names, and where in the answer's data their values stand."""


def examples(page: str) -> Iterator[Example]:
    """The page's operations, each with the variables and the `Keep` that follow it."""
    found: Example | None = None
    for match in BLOCK.finditer((DOCS / page).read_text()):
        language, text, keep = match.groups()
        if language == "graphql":
            if found is not None:
                yield found
            found = Example(query=text)
            continue
        assert found is not None, f"{page}: what does {match[0]!r} belong to?"
        if language == "json":
            found.variables = json.loads(text)
        else:
            first_sentence = keep.split(". ")[0]
            found.keep = dict(KEEP.findall(first_sentence))
            assert found.keep, f"{page}: {keep!r} keeps nothing"
    if found is not None:
        yield found


class Reader:
    """Somebody who works through a page."""

    def __init__(self, api: Api, *, wallet: Keypair | None = None, **values: str) -> None:
        """With `wallet`, `$signature` is its signature over `$message`."""
        now = datetime.now(UTC)
        self._api = api
        self._wallet = wallet
        self.values = {
            "now": now.isoformat(),
            "week_ago": (now - timedelta(days=7)).isoformat(),
            "password": PASSWORD,
            **values,
        }

    async def work_through(self, page: str) -> int:
        """Send each operation; returns how many there were."""
        found = list(examples(page))
        for example in found:
            variables = {name: self._value(value) for name, value in example.variables.items()}
            answer = await self._api(example.query, self.values.get("token"), **variables)
            assert not answer.errors, f"{page}: {example.query}\n{answer.errors}"
            assert not list(user_errors(answer.data)), f"{page}: {example.query}\n{answer.data}"
            for name, path in example.keep.items():
                self.values[name] = at(answer.data, path)
        return len(found)

    def _value(self, value: Any) -> Any:
        if value == "$signature":
            assert self._wallet is not None, "this page signs, and its reader has no wallet"
            return str(self._wallet.sign_message(self.values["message"].encode()))
        return self.values[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def at(data: Any, path: str) -> str:
    """The text at `path` of an answer."""
    for part in path.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    assert isinstance(data, str), f"{path} is {data!r}"
    return data


def user_errors(data: Any) -> Iterator[Any]:
    """Every user error in an answer, and every refusal of `explainRoute`."""
    if isinstance(data, list):
        for item in data:
            yield from user_errors(item)
    elif isinstance(data, dict):
        yield from data.get("userErrors") or ()
        yield from [data["refusal"]] if data.get("refusal") else []
        for value in data.values():
            yield from user_errors(value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def usdc(database_url: str) -> AsyncIterator[UsdcMarket]:
    """A chain on which people pay the treasury."""
    engine = make_engine(database_url, pool_size=2)
    market = UsdcMarket(sessions=make_sessions(engine), database_url=database_url)
    yield market
    await market.aclose()
    await engine.dispose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(database_url: str, redis_server: EmbeddedRedis, usdc: UsdcMarket) -> AsyncIterator[Api]:
    with FakeStripe() as stripe:
        settings = control_settings(
            database_url,
            redis_url=redis_server.url,
            stripe_api_key=API_KEY,
            stripe_webhook_secrets=WEBHOOK_SECRET,
            stripe_api_base=stripe.url,
            solana_chain_id="solana:localnet",
            SOLANA_RPC_URL="http://127.0.0.1:1",
            treasury_address=str(usdc.market.treasury.pubkey()),
            usdc_mint=str(usdc.market.mint),
        )
        async with api_server(settings) as api:
            yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seller(api: Api) -> AsyncIterator[Seller]:
    """A provider on line."""
    seller = await api.seller()

    async def answer(exchange: Exchange) -> None:
        exchange.prompt()
        for _ in range(exchange.request.sampling.max_tokens):
            exchange.step()
        exchange.finish(revision=seller.digest)

    async with ScriptedReplica(answer) as replica:
        await api.serve(seller, replica)
        yield seller
        api.retire(seller)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def painter(api: Api) -> AsyncIterator[Seller]:
    """A provider of pictures on line."""
    painter = await api.seller(modality=Modality.IMAGE)
    async with ScriptedReplica(painting(painter)) as replica:
        await api.serve(painter, replica)
        yield painter
        api.retire(painter)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def customer(api: Api) -> Tenant:
    """A customer with money."""
    tenant = await api.tenant()
    await api.credit(tenant)
    return tenant


class TestPages:
    async def test_customers(self, api: Api, customer: Tenant, seller: Seller, painter: Seller) -> None:
        reader = Reader(
            api, email=customer.owner.email, model=seller.model_slug, image_model=painter.model_slug
        )
        assert await reader.work_through("customer.md") >= 12
        assert reader.values["organization"] == customer.id

    async def test_what_customers_send_by_curl(self, api: Api, customer: Tenant, seller: Seller) -> None:
        """Each is served, and what the page says of its answer is there."""
        _, secret = await api.api_key(customer)
        models = ("$MODEL", "$OTHER_MODEL", "raymart/demo-chat")
        given = {"$RAYMART_URL": "", "$KEY": secret, **dict.fromkeys(models, seller.model_slug)}
        said = []
        for page in ("README.md", "docs/customer.md"):
            for command in CURL.findall((DOCS.parent / page).read_text()):
                answer = await curled(api, command, given)
                assert answer.status_code == 200, (command, answer.text)
                said.append(answer)
        readme, stream, fallback, limited, cached = said
        assert (readme.headers["x-raymart-cache"], cached.headers["x-raymart-cache"]) == ("miss", "hit")
        assert stream.text.endswith("data: [DONE]\n\n")
        assert fallback.headers["x-raymart-model"] == seller.model_slug
        assert "x-raymart-cost" in limited.headers

    async def test_providers(self, api: Api, customer: Tenant, seller: Seller, owner_url: str) -> None:
        await api.use(customer, seller, 1, broke="stalled for 5 s")
        wallet, rows = Keypair(), PayoutRows(owner_url)
        epoch = rows.epoch()
        rows.earning(seller.provider_id, epoch, gross_nano_usd=2_000_000_000)
        rows.payment(seller.provider_id, epoch, micro_usdc=2_000_000, wallet=str(wallet.pubkey()))
        reader = Reader(api, wallet=wallet, email=seller.tenant.owner.email, address=str(wallet.pubkey()))
        assert await reader.work_through("provider.md") >= 14
        assert reader.values["node"] == show(Prefix.NODE, seller.node_id)

    async def test_administrators(
        self, api: Api, customer: Tenant, seller: Seller, usdc: UsdcMarket, database_url: str
    ) -> None:
        admin: Person = await api.admin()
        batch, payee = await waiting_batch(api, database_url)
        payer = usdc.payer()
        payment = await usdc.pay(payer, micro_usdc=30_000_000)
        await usdc.settle()
        names = (await api("query ($id: ID!) { organization(id: $id) { name } }", admin, id=customer.id)).data
        reader = Reader(
            api,
            email=admin.email,
            customer_email=customer.owner.email,
            customer_name=names["organization"]["name"],
            usdc_payment=payment,
            usdc_wallet=str(payer.pubkey()),
            batch=batch,
            payee=payee,
        )
        assert await reader.work_through("admin.md") >= 20
        assert reader.values["organization"] == customer.id


class TestCommands:
    async def test_models(
        self, migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every command of the page, in its order, at a shell in a folder with two models."""
        with psycopg.connect(migrated_database_url) as connection:
            for slug in ("acme", "gpus"):
                connection.execute(
                    "insert into organization (id, slug, name, kind) values (gen_random_uuid(), %s, %s, 'customer')",
                    (slug, slug),
                )
        for name in ("model", "secret"):
            (tmp_path / f"{name}.gguf").write_bytes(gguf({"tokenizer.chat_template": name}))
        monkeypatch.chdir(tmp_path)
        settings = {"RAYMART_DATA_DIR": str(tmp_path / "data"), "RAYMART_MODEL_KEY": "k" * 40}
        commands = [
            shlex.split(line)
            for block in SHELL.findall((DOCS / "admin.md").read_text())
            for line in block.splitlines()
        ]
        assert len(commands) >= 12
        said = {}
        for program, *arguments in commands:
            assert program == "raymart"
            done = run(migrated_database_url, *arguments, **settings)
            assert done.returncode == 0, (arguments, done.stderr)
            said[" ".join(arguments[1:3])] = done.stdout
        assert "worse answers" in said["show acme/tiny"]
        assert said["rollback acme/tiny"].startswith("latest names sha256:")


async def curled(api: Api, command: str, given: dict[str, str]) -> httpx.Response:
    """What the server says to a `curl` of a page, with `given` in place of what the reader has."""
    headers, url, body = {"content-type": "application/x-www-form-urlencoded"}, "", ""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert next(words) == "curl"
    for word in words:
        if word in {"-i", "-N"}:
            continue
        text = next(words) if word.startswith("-") else word
        for name, value in given.items():
            text = text.replace(name, value)
        if word == "-H":
            name, _, value = text.partition(": ")
            headers[name] = value
        elif word == "-d":
            body = text
        else:
            url = text
    return await api.client.post(url, content=body, headers=headers)


async def waiting_batch(api: Api, database_url: str) -> tuple[str, str]:
    """Number of a batch of two payees that the clock planned, and the first one's id."""
    async with make_pool(database_url, size_max=3, name="test") as pool:
        earners = Earners(pool, api.services.sessions)
        payees = [await earners.provider() for _ in range(2)]
        for payee in payees:
            await earners.earn(payee, 20_000_000_000)
        planned = await run_now(api.services.sessions, mint=MINT, ends_epoch=True, created_by=None)
        [batch_id] = planned.plan.batches
        number = await earners.books.value("select number from payout_batch where id = %s", batch_id)
    return str(number), payees[0].id


class TestConvention:
    async def test_a_page_that_fails_is_seen(self, api: Api, tmp_path: Path) -> None:
        """The three ways in which an example can be wrong."""
        wrong = {
            "unknown.md": "```graphql\n{ noSuchField }\n```\n",
            "refused.md": '```graphql\nmutation { login(input: {email: "a@b.c", password: "x"}) { userErrors { code } } }\n```\n',
            "kept.md": "```graphql\n{ __typename }\n```\nKeep `x` = `__typename.y`.\n",
        }
        for name, text in wrong.items():
            (tmp_path / name).write_text(text)
            with pytest.raises((AssertionError, TypeError)):
                await Reader(api).work_through(str(tmp_path / name))
