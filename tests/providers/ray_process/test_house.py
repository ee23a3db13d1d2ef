"""A house pool by commands alone: its controller runs the head, a provider's machine joins, all with TLS."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.supply.membership import PoolDesk
from raymart_marketplace.supply.models import NodeRole
from raymart_providers.ray_process.own_files import RayHome
from raymart_providers.ray_process.sweep import marked, sweep
from support.link_market import link_market, make_supply, until
from support.node_agents import agent_process

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions, source="bundled:demo-llm.gguf", sha256=SHA256, context_length=640)


@pytest.fixture
async def market(sessions):
    desk = PoolDesk(sessions=sessions, box=SecretBox([b"k" * 32]))
    async with link_market(sessions, pools=desk) as market:
        yield market


@pytest.fixture
def homes(tmp_path):
    homes = [RayHome(tmp_path / name / "ray") for name in ("controller", "gpu-1")]
    try:
        yield homes
    finally:
        for home in homes:
            sweep(home.mark)
            home.forget()


@contextlib.asynccontextmanager
async def controller_with_head(state_dir, market, token):
    command = [str(Path(sys.executable).parent / "raymart-provider"), "controller", "--ray-host=127.0.0.1"]
    command += [f"--server={market.url}", "--name=controller", f"--state-dir={state_dir}", f"--token={token}"]
    with state_dir.with_suffix(".log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(40):
            assert await process.wait() == 0, state_dir.with_suffix(".log").read_text()


class TestHousePool:
    async def test_a_machine_joins_the_pools_cluster_and_is_sold(self, market, supply, homes, tmp_path):
        def live():
            return market.directory.live(supply.model_slug)

        async with (
            controller_with_head(
                tmp_path / "controller", market, await supply.join_token(NodeRole.CONTROLLER)
            ),
            agent_process(
                tmp_path / "gpu-1", market, f"--token={await supply.join_token()}", "--ray=auto"
            ) as agent,
        ):
            await until(live, timeout_s=150)
            assert all("RAY_USE_TLS" in process.environ() for home in homes for process in marked(home.mark))
            agent.process.terminate()
            async with asyncio.timeout(60):
                assert await agent.process.wait() == 0, agent.log
            assert marked(homes[1].mark) == []
        assert marked(homes[0].mark) == []
