"""The whole of Raymart on one machine, from its settings."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from raymart_local.control_plane import ControlPlane
from raymart_local.errors import PartFailed
from raymart_local.house_pool import DEMO_NODES, MODELS_PER_NODE, HousePool
from raymart_local.layout import Layout
from raymart_local.logs import Console
from raymart_local.operator_settings import told_to_operators
from raymart_local.part import Part
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.settings import LocalSettings
from raymart_local.solana import CHAIN_NAMES
from raymart_local.supervisor import Supervisor, supervised

_READY_POLL_S = 0.25
_CONTROL_ONLY: Final = CHAIN_NAMES | frozenset(
    {
        "DATABASE_URL",
        "MIGRATION_DATABASE_URL",
        "RAYMART_LEDGER_SEAL_KEY",
        "REDIS_URL",
        "BROKER_URL",
        "RAYMART_TOKEN_SECRET",
        "RAYMART_FORMER_TOKEN_SECRETS",
        "RAYMART_ENCRYPTION_KEYS",
        "RAYMART_MODEL_KEY",
        "RAYMART_OBJECTS_ACCESS_KEY_ID",
        "RAYMART_OBJECTS_SECRET_ACCESS_KEY",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """A stack that is ready."""

    base_url: str
    layout: Layout
    supervisor: Supervisor
    ready_after_s: float


@asynccontextmanager
async def running_stack(
    settings: LocalSettings,
    *,
    environment: Mapping[str, str],
    console: Console,
    is_fresh: bool = False,
) -> AsyncGenerator[RunningStack, None]:
    """Run the whole stack while the body runs; it begins when `GET /ready` is 200. Nothing is left afterwards.

    `is_fresh`: what an earlier run left in the data directory is deleted first.
    `environment` is what the parts inherit, the compute plane's without the names of the control plane's secrets.
    Raises: LocalError, for the person at the terminal.
    """
    layout = Layout(settings.data_dir.absolute())
    started = time.monotonic()
    endpoints = len(DEMO_NODES) * MODELS_PER_NODE if settings.house_pool else 0
    control = ControlPlane(settings, layout=layout, environment=environment, endpoints_min=endpoints)

    def parts() -> Sequence[Part]:
        if is_fresh:
            _empty(layout)
        if not settings.house_pool:
            return control.parts()
        compute = without_control_secrets(environment)
        pool = HousePool(layout=layout, environment=compute, server_url=control.base_url)
        return [*control.parts(), *pool.parts()]

    async with supervised(parts, data_dir=layout.root, console=console) as supervisor:
        await _until_ready(control.base_url, timeout_s=settings.ready_timeout_s)
        with told_to_operators(layout.operator_settings, control.operator_environment()):
            yield RunningStack(
                base_url=control.base_url,
                layout=layout,
                supervisor=supervisor,
                ready_after_s=time.monotonic() - started,
            )


def without_control_secrets(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment for the compute plane: providers' machines hold nothing that opens the control plane."""
    return {name: value for name, value in environment.items() if name not in _CONTROL_ONLY}


def _empty(layout: Layout) -> None:
    """Delete all that the stack of `layout` keeps; the caller holds its lock, whose file stays."""
    EmbeddedPostgres(layout.postgres).destroy()
    for path in layout.root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != layout.lock:
            path.unlink()


async def _until_ready(base_url: str, *, timeout_s: float) -> None:
    """Wait until the API says that everything is there. Raises: PartFailed, with what is missing."""
    missing = "the API does not answer"
    async with httpx.AsyncClient(base_url=base_url, timeout=5.0, trust_env=False) as client:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        answer = await client.get("/ready")
                        if answer.status_code == httpx.codes.OK:
                            return
                        missing = answer.text
                    except httpx.HTTPError as error:
                        missing = f"the API does not answer ({error})"
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError:
            raise PartFailed("stack", f"was not ready within {timeout_s:g} s: {missing}") from None
