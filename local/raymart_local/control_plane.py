"""The control plane's part of the embedded stack: Postgres, Redis, a Solana chain, migrations, seed, API, Celery."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from raymart_local import postgres
from raymart_local.errors import PortBusy
from raymart_local.layout import Layout
from raymart_local.part import Part, answers_http, says_yes
from raymart_local.ports import is_free
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.program import Program
from raymart_local.redis import EmbeddedRedis
from raymart_local.secret_file import secret_at
from raymart_local.settings import LocalSettings
from raymart_local.solana import CHAIN_NAMES, SIGNING_NAMES, SOLANA, EmbeddedSolana, without

API = "api"
SEED = "seed"
URL_NAMES: Final = frozenset({"DATABASE_URL", "REDIS_URL", "BROKER_URL", "SOLANA_RPC_URL"})
"""Settings that are not called `RAYMART_...`."""

_OPEN: Final = {
    # One machine is for looking around: GraphQL introspection is on unless the caller says otherwise.
    "RAYMART_DEVELOPMENT": "true",
    # The demo's administrator has a password in a file and no authenticator app.
    "RAYMART_REQUIRE_SECOND_FACTOR": "false",
}
"""Only where nobody else reaches the API."""
_BIN = Path(sys.executable).parent
_API_GRACE_S = 25.0
"""The API lets running requests end for 20 s."""


class ControlPlane:
    """Parts of the control plane and the environment they share. A URL in the settings replaces its embedded part."""

    def __init__(
        self, settings: LocalSettings, *, layout: Layout, environment: Mapping[str, str], endpoints_min: int
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._inherited = environment
        self._endpoints_min = endpoints_min
        self._postgres = EmbeddedPostgres(layout.postgres) if settings.database_url is None else None
        is_redis_needed = settings.redis_url is None or settings.broker_url is None
        self._redis = EmbeddedRedis(layout.redis) if is_redis_needed else None
        self._solana = None
        if not settings.solana_rpc_url:
            self._solana = EmbeddedSolana(
                layout.solana, treasury_keypair=layout.treasury_keypair, marker_key=layout.payout_marker_key
            )

    @property
    def base_url(self) -> str:
        """Where the API answers those on this machine."""
        return f"http://{self._settings.reachable_host}:{self._settings.port}"

    def parts(self) -> Sequence[Part]:
        """All parts, each after what it needs. Raises: PortBusy, when the API could not listen."""
        if not is_free(self._settings.port, host=self._settings.host):
            raise PortBusy(self._settings.port, purpose="API", setting="RAYMART_PORT")
        return [
            *self._stores(),
            # Redis too: every process of the control plane gets the URLs of both stores.
            self._migrate(),
            self._task(SEED, "seed", *self._seed_arguments(), needs=("migrate",)),
            self._api(),
            self._worker(),
            self._celery("beat", f"--schedule={self._layout.beat_schedule}", "--pidfile="),
        ]

    def environment(self) -> Mapping[str, str]:
        """What every process of the control plane gets; known once the stores' ports are chosen.

        Not the chain: what needs it adds `_chain_environment`, and what signs `_signing_environment`.
        """
        return {
            **(_OPEN if self._settings.is_on_loopback else {}),
            # Everybody on this machine has one address.
            "RAYMART_GRAPHQL_POINTS_PER_HOUR": "1000000",
            "RAYMART_GRAPHQL_POINTS_PER_HOUR_ADDRESS": "1000000",
            **without(self._inherited, CHAIN_NAMES | {"MIGRATION_DATABASE_URL"}),
            "RAYMART_PUBLIC_URL": self._inherited.get("RAYMART_PUBLIC_URL", self.base_url),
            "DATABASE_URL": self._database_url(),
            "REDIS_URL": self._redis_url(self._settings.redis_url, database=0),
            "BROKER_URL": self._redis_url(self._settings.broker_url, database=1),
            "RAYMART_TOKEN_SECRET": secret_at(self._layout.token_secret),
            "RAYMART_DATA_DIR": str(self._layout.root),
            # One that is given may be several, while they are replaced.
            "RAYMART_MODEL_KEY": self._inherited.get("RAYMART_MODEL_KEY")
            or secret_at(self._layout.model_key),
            "RAYMART_LEDGER_SEAL_KEY": secret_at(self._layout.ledger_seal_key),
            "RAYMART_LEDGER_HEAD_FILE": str(self._layout.ledger_head),
            "RAYMART_HOST": self._settings.host,
            "RAYMART_PORT": str(self._settings.port),
            "RAYMART_READY_ENDPOINTS_MIN": str(self._endpoints_min),
            "PYTHONUNBUFFERED": "1",
        }

    def operator_environment(self) -> Mapping[str, str]:
        """What `raymart` at another terminal needs; known once everything is ready. Nothing with which money is sent."""
        told = {**self.environment(), **self._chain_environment()}
        return {
            name: value for name, value in told.items() if name.startswith("RAYMART_") or name in URL_NAMES
        }

    def _migrate(self) -> Part:
        needs = self._needs("postgres", "redis")

        def program() -> Program:
            given = self._settings.migration_database_url
            url = self._postgres.owner_url if self._postgres is not None else given
            # Only here: no process that serves may hold the owner's password.
            return self._program("db", "upgrade").with_environment(
                {} if url is None else {"MIGRATION_DATABASE_URL": url}
            )

        return Part(name="migrate", kind="task", program=program, needs=needs)

    def _stores(self) -> Sequence[Part]:
        parts = []
        if self._postgres is not None:
            parts.append(
                Part(
                    name="postgres",
                    program=self._postgres.prepare,
                    is_ready=says_yes(self._postgres.is_answering),
                    starts_max=3,
                    # Everything hangs on it: better a clear end than a half-dead stack.
                    if_it_dies="end the stack",
                    stop_signal=postgres.STOP_SIGNAL,
                    stop_grace_s=20.0,
                )
            )
        if self._redis is not None:
            ready = says_yes(self._redis.is_answering)
            # Redis warns at each start of kernel settings that are not ours to change.
            parts.append(Part(name="redis", program=self._redis.prepare, is_ready=ready, shows_log=False))
        if self._solana is not None:
            parts.append(self._solana.part())
        return parts

    def _chain_environment(self) -> Mapping[str, str]:
        """Which chain, without anything that could sign. Known once the embedded one is ready."""
        if self._solana is not None:
            return self._solana.environment()
        return {
            name: self._inherited[name] for name in CHAIN_NAMES - SIGNING_NAMES if name in self._inherited
        }

    def _signing_environment(self) -> Mapping[str, str]:
        """What sends money: for workers only."""
        if self._solana is not None:
            return self._solana.signing_environment()
        return {name: self._inherited[name] for name in SIGNING_NAMES if name in self._inherited}

    def _api(self) -> Part:
        return Part(
            name=API,
            program=lambda: self._program("serve-api").with_environment(self._chain_environment()),
            needs=(SEED, *self._needs("redis", SOLANA)),
            is_ready=answers_http(f"{self.base_url}/health"),
            stop_grace_s=_API_GRACE_S,
        )

    def _worker(self) -> Part:
        arguments = ("--pool=solo", "--concurrency=1", "--without-gossip", "--without-mingle")
        worker = self._celery("worker", *arguments)

        def program() -> Program:
            return worker.program().with_environment(self._signing_environment())

        return replace(worker, program=program)

    def _celery(self, name: str, *arguments: str) -> Part:
        argv = (sys.executable, "-m", "celery", "-A", "raymart_billing.celery_app", name, *arguments)
        self._layout.beat_schedule.parent.mkdir(parents=True, exist_ok=True)
        return Part(
            name=f"celery-{name}",
            program=lambda: Program(
                argv=(*argv, "--loglevel=INFO"), env={**self.environment(), **self._chain_environment()}
            ),
            needs=("migrate", *self._needs("redis", SOLANA)),
            ready_log_line="ready." if name == "worker" else "beat: Starting",
        )

    def _task(self, name: str, *arguments: str, needs: tuple[str, ...]) -> Part:
        return Part(name=name, kind="task", program=lambda: self._program(*arguments), needs=needs)

    def _program(self, *arguments: str) -> Program:
        return Program(argv=(str(_BIN / "raymart"), *arguments), env=self.environment())

    def _seed_arguments(self) -> tuple[str, ...]:
        return (
            f"--output={self._layout.credentials}",
            f"--base-url={self.base_url}",
            f"--join-tokens={self._layout.join_tokens}",
        )

    def _needs(self, *names: str) -> tuple[str, ...]:
        """Those of `names` that are parts of ours."""
        embedded = {"postgres": self._postgres, "redis": self._redis, SOLANA: self._solana}
        return tuple(name for name in names if embedded[name] is not None)

    def _database_url(self) -> str:
        if self._postgres is not None:
            return self._postgres.runtime_url
        assert self._settings.database_url is not None
        return self._settings.database_url

    def _redis_url(self, given: str | None, *, database: int) -> str:
        if given is not None:
            return given
        assert self._redis is not None
        return self._redis.url_of(database=database)
