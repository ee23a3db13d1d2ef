"""A marketplace on one machine of a test's network: `raymart up` without providers of its own, and its customers."""

import asyncio
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg

from raymart_core.ids import Prefix, new_id, parse
from raymart_local.layout import Layout
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from raymart_marketplace.supply.models import NodeRole, PoolKind, ProviderState
from support import tls_front
from support.netns import Machine
from support.tls_front import make_certificate

BIN = Path(sys.executable).parent
CHAT = "raymart/demo-chat"
PORT = 8000
ASK_NANO_USD = 100
_TOKEN_S = 600.0
"""A little less than a token lives."""


def clean_environment() -> dict[str, str]:
    """What programs of a test's machines inherit: nothing of anybody's Ray, stack or Python cache settings."""
    kept = ("PATH", "LANG", "TERM", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in kept if name in os.environ}


class NetMarket:
    """The marketplace. Ask it from a machine of its network (`Machine.entered`)."""

    def __init__(self, machine: Machine, data_dir: Path, *, settings: Mapping[str, str] = {}) -> None:
        self.machine = machine
        self.data_dir = data_dir
        self.base_url = f"http://{machine.name}:{PORT}"
        self._settings = dict(settings)
        self._tokens: dict[str, tuple[str, float]] = {}

    @property
    def address_url(self) -> str:
        """The same by its address, for clients that resolve no names."""
        return f"http://{self.machine.address}:{PORT}"

    def start(self, *, timeout_s: float = 180.0) -> None:
        """Start it and wait until it is ready."""
        environment = {
            **clean_environment(),
            "RAYMART_HOST": "0.0.0.0",
            "RAYMART_PORT": str(PORT),
            "RAYMART_PUBLIC_URL": self.base_url,
            "RAYMART_HOUSE_POOL": "false",
            "RAYMART_DATA_DIR": str(self.data_dir),
            "RAYMART_DEVELOPMENT": "true",
            "RAYMART_REQUIRE_SECOND_FACTOR": "false",
            **self._settings,
        }
        up = self.machine.start(
            [str(BIN / "raymart"), "up"], log=self.data_dir / "up.out", environment=environment
        )

        def is_ready() -> bool:
            assert up.poll() is None, self.tail()
            # Written last, when the whole stack is ready.
            return Layout(self.data_dir).operator_settings.exists()

        self.wait_until(is_ready, timeout_s=timeout_s, what="the marketplace is ready")

    def stop(self) -> None:
        """End it as Ctrl-C would, and delete what its Postgres keeps elsewhere."""
        self.machine.stop(timeout_s=60)
        EmbeddedPostgres(Layout(self.data_dir).postgres).destroy()

    def serve_https(self, folder: Path) -> Path:
        """Be at https://<name> too; returns the certificate of the authority that others have to trust."""
        certificate, key, authority = make_certificate(
            folder, name=self.machine.name, address=self.machine.address
        )
        self.machine.start(
            [sys.executable, tls_front.__file__, str(certificate), str(key), "443", str(PORT)],
            log=folder / "front.log",
            environment=clean_environment(),
        )
        return authority

    @property
    def credentials(self) -> dict[str, Any]:
        """credentials.json of the seeded accounts."""
        return json.loads((self.data_dir / "credentials.json").read_text())

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement on the marketplace's database."""
        with self.machine.entered(), psycopg.connect(self.database_url, autocommit=True) as connection:
            done = connection.execute(statement, parameters)
            return done.fetchall() if done.description else []

    @property
    def database_url(self) -> str:
        """Its database, as the runtime's role; reachable on its machine alone."""
        lines = Layout(self.data_dir).operator_settings.read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines if "=" in line)
        [url] = shlex.split(given["DATABASE_URL"])
        return url

    def graphql(self, query: str, variables: dict[str, Any] | None = None, *, who: str = "admin") -> Any:
        """Data of an operation by a seeded account; errors fail the test."""
        with httpx.Client(base_url=self.address_url, timeout=30, trust_env=False) as client:
            answer = client.post(
                "/graphql",
                json={"query": query, "variables": variables or {}},
                headers={"authorization": f"Bearer {self._token(client, who)}"},
            ).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def _token(self, client: httpx.Client, who: str) -> str:
        token, until = self._tokens.get(who, ("", 0.0))
        if time.monotonic() < until:
            return token
        providers = {one["email"].partition("@")[0]: one for one in self.credentials["providers"]}
        account = self.credentials[who] if who not in providers else providers[who]
        login = {"email": account["email"], "password": account["password"]}
        answer = client.post("/graphql", json={"query": _LOGIN, "variables": {"input": login}}).json()
        token = answer["data"]["login"]["token"]
        self._tokens[who] = token, time.monotonic() + _TOKEN_S
        return token

    @property
    def customer_headers(self) -> dict[str, str]:
        """With the seeded customer's key."""
        return {"Authorization": f"Bearer {self.credentials['customer']['api_key']}"}

    def client(self) -> httpx.AsyncClient:
        """The seeded customer's HTTP client."""
        return httpx.AsyncClient(
            base_url=self.address_url,
            headers=self.customer_headers,
            timeout=60,
            limits=httpx.Limits(max_connections=250),
            trust_env=False,
        )

    def live_providers(self, model: str = CHAT) -> Counter[str]:
        """How many endpoints of each provider, by slug, requests for the model can be routed to now."""
        query = (
            "query($slug: String!) { model(slug: $slug) {"
            " liveEndpoints(first: 100) { nodes { provider { slug } } } } }"
        )
        nodes = self.graphql(query, {"slug": model})["model"]["liveEndpoints"]["nodes"]
        return Counter(one["provider"]["slug"] for one in nodes)

    def sell_only_chat(self) -> None:
        """Close the seeded offers of other models: three engines on each machine are two too many here."""
        self.rows(
            "update offer set state = 'closed' where revision_id not in (select r.id from model_revision r "
            "join model m on m.id = r.model_id where m.slug = %s)",
            CHAT,
        )

    def new_provider(self, slug: str, *, pool: str | None = None) -> None:
        """A provider that may serve and sells the demo's chat model; with a `pool` of its own when one is named."""
        with self.machine.entered():
            asyncio.run(self._new_provider(slug, pool))

    def join_token(self, provider: str | None, *, pool: str = "house") -> str:
        """A fresh one-time token: of a provider's node, or of the pool's controller."""
        with self.machine.entered():
            return asyncio.run(self._join_token(provider, pool))

    def wait_until(self, holds: Callable[[], bool], *, timeout_s: float, what: str) -> float:
        """Poll until `holds`; returns the seconds it took, fails the test after `timeout_s`."""
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < timeout_s, (
                f"not within {timeout_s} s: {what}\n{self.machines()}{self.tail()}"
            )
            time.sleep(0.1)
        return time.monotonic() - started

    def machines(self) -> str:
        """What the marketplace thinks of each node, for a failure's message."""
        nodes = self.rows("select name, state from node order by name")
        checks = self.rows(
            "select n.name, b.state, c.check_name, c.value, c.limit_value, c.reason from benchmark b "
            "join node n on n.id = b.node_id left join benchmark_check c on c.benchmark_id = b.id and c.reason <> ''"
        )
        return f"{nodes}\n{checks}\n"

    def tail(self) -> str:
        """The ends of all logs, for a failure's message."""
        paths = sorted([*self.data_dir.glob("logs/*.log"), *self.data_dir.parent.glob("*/*.log")])
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1_500:]}" for path in paths)

    async def _new_provider(self, slug: str, pool: str | None) -> None:
        from raymart_marketplace.accounts.service import create_organization
        from raymart_marketplace.supply.service import create_pool, create_provider, open_offer

        [(revision_id,)] = self.rows(
            "select r.id from model_revision r join model m on m.id = r.model_id where m.slug = %s", CHAT
        )
        engine = make_engine(self.database_url, pool_size=1)
        try:
            async with session_scope(make_sessions(engine)) as session:
                organization = await create_organization(
                    session, name=slug, kind=OrganizationKind.PROVIDER, slug=f"{slug}-{new_id().hex[-6:]}"
                )
                provider = await create_provider(
                    session,
                    organization_id=organization.id,
                    slug=slug,
                    name=slug,
                    state=ProviderState.ACTIVE,
                )
                if pool is not None:
                    await create_pool(
                        session, slug=pool, kind=PoolKind.PROVIDER, region="local", provider_id=provider.id
                    )
                await open_offer(
                    session,
                    provider_id=provider.id,
                    revision_id=revision_id,
                    ask_prompt_nano_usd=ASK_NANO_USD,
                    ask_completion_nano_usd=ASK_NANO_USD,
                )
        finally:
            await engine.dispose()

    async def _join_token(self, provider: str | None, pool: str) -> str:
        from raymart_marketplace.supply.service import create_join_token

        [(pool_id,)] = self.rows("select id from pool where slug = %s", pool)
        provider_id = None
        if provider is not None:
            [(provider_id,)] = self.rows("select id from provider where slug = %s", provider)
        engine = make_engine(self.database_url, pool_size=1)
        try:
            async with session_scope(make_sessions(engine)) as session:
                _, text = await create_join_token(
                    session,
                    pool_id=pool_id,
                    provider_id=provider_id,
                    role=NodeRole.NODE if provider is not None else NodeRole.CONTROLLER,
                    user_id=None,
                )
                return text
        finally:
            await engine.dispose()


def request_id(shown: str) -> Any:
    """The id in the database of a request as its answer names it."""
    return parse(Prefix.REQUEST, shown)


_LOGIN = "mutation($input: LoginInput!) { login(input: $input) { token userErrors { code message } } }"
