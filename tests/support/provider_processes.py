"""A provider's machine as processes that may be killed: the agent, and real llama.cpp replicas that register with it."""

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from raymart_graphql.seed_models import CHAT
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.accounts.service import create_organization
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import NodeRole, PoolKind, ProviderState
from raymart_marketplace.supply.service import create_join_token, create_pool, create_provider, open_offer
from support.node_agents import AgentProcess, agent_process

READY_S = 90.0
SLOTS = 4
"""Of one replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What an agent needs to know of the marketplace, and what is sold there."""

    url: str
    sessions: Sessions
    revision_id: UUID
    digest: str


async def chat_market(sessions: Sessions, url: str) -> Market:
    """Publish the bundled chat model, to be sold by `ProviderMachine`s."""
    async with session_scope(sessions) as session:
        model = await ensure_model(
            session,
            slug=CHAT.slug,
            name=CHAT.name,
            description=CHAT.description,
            modality=CHAT.modality,
            licence="apache-2.0",
        )
        revision = await publish_revision(
            session,
            model=model,
            engine=CHAT.engine,
            source=CHAT.source,
            sha256=CHAT.sha256,
            quantization=CHAT.quantization,
            context_length=CHAT.context_length,
            capabilities=CHAT.capabilities,
        )
        return Market(url=url, sessions=sessions, revision_id=revision.id, digest=revision.digest)


@dataclass(slots=True, kw_only=True)
class ProviderMachine:
    """One provider with one machine. Everything that was started ends with `stack`."""

    slug: str
    market: Market
    folder: Path
    stack: contextlib.AsyncExitStack
    replicas: list[asyncio.subprocess.Process] = field(default_factory=list)
    agent: AgentProcess | None = None
    step_delay_ms: int = 0

    async def open(self, *, replicas: int, step_delay_ms: int = 0) -> None:
        """Sell the model, join, and serve, with so long a pause before each token."""
        self.step_delay_ms = step_delay_ms
        token = await self._sell()
        await self.start_agent(f"--token={token}")
        for _ in range(replicas):
            await self.start_replica()

    async def start_agent(self, *arguments: str) -> None:
        """Join, or be there again after a death."""
        self.agent = await self.stack.enter_async_context(
            agent_process(self.folder, self.market, *arguments, name=self.slug)  # type: ignore[arg-type]
        )

    async def start_replica(self) -> None:
        """One more replica; returns when it is ready."""
        facts = {
            "--engine": CHAT.engine,
            "--source": CHAT.source,
            "--sha256": CHAT.sha256,
            "--revision": self.market.digest,
            "--model": CHAT.slug,
            "--context-length": str(CHAT.context_length),
            "--slots": str(SLOTS),
            "--step-delay-ms": str(self.step_delay_ms),
            "--agent-file": str(self.folder / "agent.json"),
        }
        command = [
            sys.executable,
            "-m",
            "raymart_serve.replica",
            *(word for pair in facts.items() for word in pair),
        ]
        with self.folder.with_suffix(".replica.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self.stack.push_async_callback(_end, process)
        assert process.stdout is not None
        async with asyncio.timeout(READY_S):
            json.loads(await process.stdout.readline())
        self.replicas.append(process)

    def kill_replica(self) -> None:
        """SIGKILL of one engine; the agent sees its connection end."""
        self.replicas.pop().kill()

    def kill_agent(self) -> None:
        """SIGKILL of the agent alone: its link is reset, its replicas go on."""
        assert self.agent is not None
        self.agent.kill()

    def kill(self) -> None:
        """SIGKILL of everything at once, as when the power goes."""
        self.kill_agent()
        while self.replicas:
            self.kill_replica()

    def freeze(self) -> None:
        """SIGSTOP of the agent: its link falls silent and stays open."""
        assert self.agent is not None
        self.agent.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the agent go on."""
        assert self.agent is not None
        self.agent.process.send_signal(signal.SIGCONT)

    async def _sell(self) -> str:
        async with session_scope(self.market.sessions) as session:
            organization = await create_organization(session, name=self.slug, kind=OrganizationKind.PROVIDER)
            provider = await create_provider(
                session,
                organization_id=organization.id,
                slug=self.slug,
                name=self.slug,
                state=ProviderState.ACTIVE,
            )
            pool = await create_pool(
                session,
                slug=f"{self.slug}-own",
                kind=PoolKind.PROVIDER,
                region="local",
                provider_id=provider.id,
            )
            await open_offer(
                session,
                provider_id=provider.id,
                revision_id=self.market.revision_id,
                ask_prompt_nano_usd=50,
                ask_completion_nano_usd=150,
            )
            _, token = await create_join_token(
                session,
                pool_id=pool.id,
                provider_id=provider.id,
                role=NodeRole.NODE,
                user_id=None,
                ttl_s=3600,
            )
        return token


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()
