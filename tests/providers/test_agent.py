"""The agent as a process: what happens when it is killed, stopped, told to stop, or not wanted."""

import asyncio
import json
import signal
import sys
import time

import pytest

from raymart_core.ids import Prefix, parse
from raymart_core.units import Fault
from raymart_core.wire.replica import GENERATE_PATH
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.service import revoke_node
from raymart_marketplace.supply.upstream import UpstreamBroken
from raymart_providers.identity import load_enrolment
from support.link_market import link_market, until
from support.node_agents import agent_process, register, registered, registration, running_agent
from support.raw_node import raw_node
from support.scripted_replica import SECRET, ScriptedReplica


@pytest.fixture
async def replica():
    async with ScriptedReplica() as replica:
        yield replica


@pytest.fixture
async def token_file(supply, tmp_path):
    path = tmp_path / "join.token"
    path.write_text(await supply.join_token() + "\n")
    return path


def live(market, supply):
    return market.directory.live(supply.model_slug)


async def trickle(exchange):
    """Tokens until the connection closes."""
    exchange.prompt()
    while not exchange.gone.is_set():
        exchange.step()
        await asyncio.sleep(0.01)


async def post(market, supply):
    (endpoint,) = live(market, supply)
    return await market.directory.acquire(endpoint.id).upstream.post(
        GENERATE_PATH,
        b'{"sampling":{"max_tokens":3},"prompt":"hi"}',
        request_id="req_1",
        deadline_ms=20_000,
    )


class TestKilled:
    async def test_endpoints_leave_at_once_and_come_back_with_the_next_start(
        self, market, supply, replica, token_file, tmp_path
    ):
        state_dir = tmp_path / "node"
        async with registered(state_dir, registration(supply, replica.address, SECRET)):
            async with agent_process(state_dir, market, f"--token-file={token_file}") as agent:
                await until(lambda: live(market, supply), timeout_s=20)
                killed_at = time.monotonic()
                agent.kill()
                await until(lambda: not live(market, supply), every_s=0.001)
                # By the socket's end, in milliseconds on a quiet machine, and not by the lease of 20 s.
                assert time.monotonic() - killed_at < 15
            # No token: the state directory holds the identity.
            async with agent_process(state_dir, market):
                await until(lambda: live(market, supply), timeout_s=20)

    async def test_a_request_in_flight_breaks_at_once_with_fault_network(
        self, market, supply, replica, token_file, tmp_path
    ):
        replica.script = trickle
        state_dir = tmp_path / "node"
        async with (
            registered(state_dir, registration(supply, replica.address, SECRET)),
            agent_process(state_dir, market, f"--token-file={token_file}") as agent,
        ):
            await until(lambda: live(market, supply), timeout_s=20)
            response = await post(market, supply)
            chunks = aiter(response.chunks())
            await anext(chunks)
            killed_at = time.monotonic()
            agent.kill()
            with pytest.raises(UpstreamBroken) as broken:
                async for _ in chunks:
                    pass
            assert time.monotonic() - killed_at < 15
            assert broken.value.fault is Fault.NETWORK
            async with asyncio.timeout(30):
                await replica.exchanges[0].gone.wait()


class TestStopped:
    @pytest.fixture
    async def market(self, sessions):
        async with link_market(sessions, lease_s=1.0) as market:
            yield market

    async def test_a_process_that_stands_still_leaves_within_the_lease_and_comes_back(
        self, market, supply, replica, token_file, tmp_path
    ):
        state_dir = tmp_path / "node"
        async with (
            registered(state_dir, registration(supply, replica.address, SECRET)),
            agent_process(state_dir, market, f"--token-file={token_file}") as agent,
        ):
            await until(lambda: live(market, supply), timeout_s=20)
            stopped_at = time.monotonic()
            with agent.stopped():
                await until(lambda: not live(market, supply))
                # Five heartbeats were late by then; its connection would have lasted.
                assert time.monotonic() - stopped_at < 15
            await until(lambda: live(market, supply), timeout_s=20)


class TestTerminated:
    async def test_running_requests_end_in_peace_and_the_exit_is_clean(
        self, market, supply, replica, token_file, tmp_path
    ):
        go_on = asyncio.Event()

        async def half(exchange):
            exchange.prompt()
            await go_on.wait()
            exchange.step()
            exchange.finish()

        replica.script = half
        state_dir = tmp_path / "node"
        async with (
            registered(state_dir, registration(supply, replica.address, SECRET)),
            agent_process(state_dir, market, f"--token-file={token_file}") as agent,
        ):
            await until(lambda: live(market, supply), timeout_s=20)
            response = await post(market, supply)
            chunks = aiter(response.chunks())
            await anext(chunks)
            agent.process.send_signal(signal.SIGTERM)
            await until(lambda: not live(market, supply))
            go_on.set()
            rest = b"".join([chunk async for chunk in chunks])
            assert rest.count(b"\n") == 2
            async with asyncio.timeout(30):
                assert await agent.process.wait() == 0

    async def test_a_drain_has_a_limit(self, market, supply, replica, tmp_path):
        replica.script = trickle
        state_dir = tmp_path / "node"
        async with running_agent(state_dir, market, token=await supply.join_token(), drain_s=0.2) as agent:
            await register(state_dir, registration(supply, replica.address, SECRET))
            await until(lambda: live(market, supply))
            response = await post(market, supply)
            chunks = aiter(response.chunks())
            await anext(chunks)
            agent.stop()
            with pytest.raises(UpstreamBroken):
                async for _ in chunks:
                    pass

    async def test_sigterm_without_a_marketplace_ends_it_too(self, sessions, supply, token_file, tmp_path):
        async with link_market(sessions) as market:
            pass
        async with agent_process(tmp_path / "node", market, f"--token-file={token_file}") as agent:
            await until(lambda: "link.waiting" in agent.log, timeout_s=20)
            agent.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await agent.process.wait() == 0


class TestRefused:
    async def exit_of(self, agent):
        async with asyncio.timeout(20):
            code = await agent.process.wait()
        said = [line for line in agent.log.splitlines() if line.startswith("raymart-provider: ")]
        assert len(said) == 1, agent.log
        assert "Traceback" not in agent.log
        return code, said[0]

    async def test_a_stolen_token_prints_one_line_with_what_to_do(self, market, supply, tmp_path):
        token = await supply.join_token()
        async with raw_node(market) as thief:
            await thief.enrol(token, name="thief")
        async with agent_process(tmp_path / "node", market, f"--token={token}") as agent:
            code, said = await self.exit_of(agent)
        assert code == 1
        assert "make a new one" in said
        assert token not in agent.log

    async def test_a_revoked_node_ends_and_says_so(self, market, supply, sessions, token_file, tmp_path):
        state_dir = tmp_path / "node"
        async with agent_process(state_dir, market, f"--token-file={token_file}") as agent:
            await until(lambda: "link.live" in agent.log, timeout_s=20)
            node_id = parse(Prefix.NODE, load_enrolment(state_dir / "node.json").node_id)
            async with session_scope(sessions) as session:
                await revoke_node(session, node_id=node_id)
            market.endpoint.disconnect(node_id)
            code, said = await self.exit_of(agent)
        assert (code, "revoked" in said) == (1, True)

    async def test_no_token_and_no_identity(self, market, tmp_path):
        async with agent_process(tmp_path / "node", market) as agent:
            code, said = await self.exit_of(agent)
        assert (code, "--token-file" in said) == (1, True)

    async def test_a_second_agent_on_the_same_state_is_kept_out(self, market, token_file, tmp_path):
        state_dir = tmp_path / "node"
        async with agent_process(state_dir, market, f"--token-file={token_file}") as first:
            await until(lambda: "link.live" in first.log, timeout_s=20)
            async with agent_process(state_dir, market, name="node") as second:
                await second.process.wait()
            assert second.process.returncode == 1
            assert "another agent runs" in first.log  # They share the log.
            assert first.process.returncode is None

    async def test_a_copy_of_the_state_throws_the_first_out_and_there_is_no_fight(
        self, market, token_file, tmp_path
    ):
        state_dir, copy = tmp_path / "node", tmp_path / "copy"
        async with agent_process(state_dir, market, f"--token-file={token_file}") as first:
            await until(lambda: "link.live" in first.log, timeout_s=20)
            copy.mkdir(mode=0o700)
            for name in ("node.key", "node.json"):
                (copy / name).write_bytes((state_dir / name).read_bytes())
                (copy / name).chmod(0o600)
            async with agent_process(copy, market, name="node") as second:
                code, said = await self.exit_of(first)
                assert (code, "run only one" in said) == (1, True)
                assert second.process.returncode is None

    async def test_a_world_readable_key_is_not_used(self, market, token_file, tmp_path):
        state_dir = tmp_path / "node"
        async with agent_process(state_dir, market, f"--token-file={token_file}") as agent:
            await until(lambda: "link.live" in agent.log, timeout_s=20)
        (state_dir / "node.key").chmod(0o644)
        async with agent_process(state_dir, market) as agent:
            code, said = await self.exit_of(agent)
        assert (code, "chmod 600" in said) == (1, True)


class TestRetries:
    async def test_an_agent_waits_for_a_marketplace_that_is_not_up_yet(
        self, sessions, supply, token_file, tmp_path
    ):
        async with link_market(sessions) as market:
            await market.stop()
            async with agent_process(tmp_path / "node", market, f"--token-file={token_file}") as agent:
                await until(lambda: "link.waiting" in agent.log, timeout_s=20)
                await market.start()
                await until(lambda: "link.live" in agent.log, timeout_s=20)


class TestImports:
    async def test_a_node_agent_never_imports_ray_or_the_control_plane(self):
        """A node without GPUs must start in a blink, and the compute plane holds no database driver."""
        code = (
            "import sys, json, raymart_providers.cli;"
            "print(json.dumps([m for m in ('ray', 'xllamacpp', 'sqlalchemy', 'psycopg') if m in sys.modules]))"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert json.loads(out) == []
