"""A whole stack of a test's own: `raymart up` as its users run it, with a PostgreSQL that the test may break."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money
from raymart_local.ports import LOOPBACK
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.accounts.models import OrganizationKind

MODEL = "raymart/demo-chat"
STORY = "Please tell a story with a cat named Nora."
HOLD_TTL_S = 20
STEP_DELAY_MS = 15
"""Slows the tiny model to the pace of a large one, so that a stream lasts long enough to be broken."""
_RAYMART = str(Path(sys.executable).parent / "raymart")


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization with a key and a balance of its own."""

    organization_id: str
    api_key: str


class RunningStack:
    """`raymart up` in `data_dir`; PostgreSQL belongs to the test, so that it can be restarted under load."""

    def __init__(self, data_dir: Path, *, port: int, settings: Mapping[str, str] = {}) -> None:
        """`settings` are environment variables, stronger than this class's own."""
        self.data_dir = data_dir
        self.base_url = f"http://{LOOPBACK}:{port}"
        self.postgres = EmbeddedPostgres(data_dir.parent / "postgres")
        self._environment = {
            **os.environ,
            "RAYMART_DATA_DIR": str(data_dir),
            "RAYMART_PORT": str(port),
            "RAYMART_READY_TIMEOUT_S": "400",
            "RAYMART_REQUEST_DEADLINE_S": "15",
            "RAYMART_HOLD_TTL_S": str(HOLD_TTL_S),
            "RAYMART_REPLICA_STEP_DELAY_MS": str(STEP_DELAY_MS),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout_s: float = 400.0) -> None:
        """Start and wait until it is ready."""
        self._environment["DATABASE_URL"] = self.postgres.start()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "up.out").open("ab") as output:
            self._process = subprocess.Popen(
                [_RAYMART, "up"],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.wait_until(self.is_ready, timeout_s=timeout_s, what="the stack is ready")

    def is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.data_dir / "up.out").read_text(errors="replace")[-4_000:])
        try:
            return httpx.get(f"{self.base_url}/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)

    def kill_everything(self) -> None:
        """SIGKILL every process of the stack and its PostgreSQL at once, as a power cut would."""
        assert self._process is not None
        victims = [psutil.Process(self._process.pid), *self.processes()]
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()
        self.postgres.stop("immediate")
        psutil.wait_procs(victims, timeout=20)
        self._process.wait(10)

    def processes(self) -> list[psutil.Process]:
        """Every process of the stack below the supervisor, wherever it was re-parented."""
        mark = str(self.data_dir)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environ = process.environ()
                if process.pid != os.getpid() and environ.get("RAYMART_DATA_DIR") == mark:
                    found.append(process)
        return [process for process in found if self._process is None or process.pid != self._process.pid]

    def replica_of(self, node: str, *, model: str = MODEL) -> psutil.Process:
        """The Serve replica of `model` that runs on `node`, which has one of each of its models."""
        [(placement_id,)] = self.rows(
            "select p.id from placement p join node n on n.id = p.node_id join model_revision r on r.id = p.revision_id"
            " join model m on m.id = r.model_id where n.name = %s and m.slug = %s and p.desired",
            node, model,
        )  # fmt: skip
        title = f"ServeReplica:placement-{show(Prefix.PLACEMENT, placement_id)}:"
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any(title in part for part in process.cmdline()):
                    return process
        raise AssertionError(f"no replica of {model} runs on {node}")

    def agent_of(self, node: str) -> psutil.Process:
        """The node agent of `node`."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if "join" in command and f"--name={node}" in command:
                    return process
        raise AssertionError(f"no agent runs for {node}")

    @property
    def credentials(self) -> dict[str, Any]:
        """credentials.json of the seeded accounts."""
        return json.loads((self.data_dir / "credentials.json").read_text())

    def client(self, api_key: str | None = None) -> httpx.AsyncClient:
        """An HTTP client of the stack, with the seeded customer's key unless another is given."""
        key = api_key or self.credentials["customer"]["api_key"]
        return httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            limits=httpx.Limits(max_connections=250),
        )

    def graphql(
        self,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        who: str = "admin",
        bearer: str | None = None,
    ) -> dict[str, Any]:
        """Run an operation as one of the seeded accounts, or with a token or key; errors fail the test."""
        answer = httpx.post(
            f"{self.base_url}/graphql",
            json={"query": query, "variables": variables or {}},
            headers={"Authorization": f"Bearer {bearer or self.credentials[who]['token']}"},
            timeout=30,
        ).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def provider(self, slug: str) -> dict[str, Any]:
        """A seeded provider's part of the credentials."""
        return next(one for one in self.credentials["providers"] if one["email"].startswith(f"{slug}@"))

    def raymart(self, *arguments: str) -> str:
        """What `raymart` prints at a shell that only knows where the stack keeps its data. A failure fails the test."""
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        done = subprocess.run(
            [_RAYMART, *arguments],
            env={**bare, "RAYMART_DATA_DIR": str(self.data_dir)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on the stack's database."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()

    def live_providers(self, model: str = MODEL) -> set[str]:
        """Slugs of the providers that requests for the model can be routed to now."""
        data = self.graphql(
            "query ($slug: String!) { model(slug: $slug) {"
            " liveEndpoints(first: 100) { nodes { provider { slug } } } } }",
            {"slug": model},
        )
        return {endpoint["provider"]["slug"] for endpoint in data["model"]["liveEndpoints"]["nodes"]}

    def new_customer(self, balance: Money) -> Customer:
        """A fresh organization with a key and exactly `balance`."""
        return asyncio.run(_new_customer(self.postgres.url, balance))

    def wait_until(self, holds: Callable[[], bool], *, timeout_s: float, what: str) -> float:
        """Poll until `holds`; returns the seconds it took, fails the test after `timeout_s`."""
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > timeout_s:
                raise AssertionError(f"not within {timeout_s} s: {what}\n{self.tail()}")
            time.sleep(0.1)
        return time.monotonic() - started

    def tail(self) -> str:
        """The ends of all logs, for a failure's message."""
        paths: Iterable[Path] = sorted((self.data_dir / "logs").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1_200:]}" for path in paths)

    def books(self) -> dict[str, Any]:
        """The trial balance as the admin sees it."""
        return self.graphql(
            "{ trialBalance { balanced drift { amount } debits { amount } credits { amount } } }"
        )["trialBalance"]

    def pending_nano_usd(self) -> int:
        """Money that is held at this moment, over all accounts."""
        return int(self.rows("select coalesce(sum(debits_pending), 0) from ledger_account")[0][0])

    def unposted(self) -> int:
        """Usage records that the ledger has not taken yet."""
        return int(self.rows("select count(*) from usage_record where posted_at is null")[0][0])


async def _new_customer(database_url: str, balance: Money) -> Customer:
    from raymart_billing.ledger import grant_credit
    from raymart_marketplace.accounts import service
    from raymart_marketplace.db.session import make_engine, make_sessions, session_scope

    engine = make_engine(database_url, pool_size=1)
    try:
        async with session_scope(make_sessions(engine)) as session:
            name = f"load-{new_id().hex}"
            user = await service.sign_up(
                session,
                email=f"{name}@raymart.test",
                password="correct horse battery",
                name=name,
                organization_name=name,
                kind=OrganizationKind.CUSTOMER,
            )
            [(organization, _)] = await service.memberships(session, user.id)
            [project] = await service.projects(session, organization.id)
            _, api_key = await service.create_api_key(
                session, project_id=project.id, user_id=user.id, name="load"
            )
            await grant_credit(
                session,
                organization_id=organization.id,
                amount=balance,
                key=f"grant:{name}",
                actor_id=user.id,
            )
        return Customer(str(organization.id), api_key)
    finally:
        await engine.dispose()


def stories(text: str = STORY, **more: Any) -> dict[str, Any]:
    """Body of a chat request whose answer is long."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON events of an SSE body."""
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line[6:])
