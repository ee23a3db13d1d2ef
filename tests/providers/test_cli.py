"""The provider's commands, as a person runs them."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from raymart_core.ids import Prefix, parse
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node
from raymart_providers.identity import load_enrolment
from support.link_market import until
from support.node_agents import agent_process, registered, registration
from support.scripted_replica import SECRET, ScriptedReplica

COMMAND = str(Path(sys.executable).parent / "raymart-provider")


async def run(*arguments):
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


@pytest.fixture
async def node(market, supply, tmp_path):
    """A running agent with one replica: its state directory."""
    state_dir = tmp_path / "node"
    async with (
        ScriptedReplica() as replica,
        agent_process(state_dir, market, f"--token={await supply.join_token()}"),
        registered(state_dir, registration(supply, replica.address, SECRET)),
    ):
        await until(lambda: market.directory.live(supply.model_slug), timeout_s=20)
        yield state_dir


class TestStatus:
    async def test_a_live_node_shows_its_link_and_replicas(self, node, supply):
        code, out, _ = await run("status", f"--state-dir={node}")
        assert code == 0
        assert "link live" in out
        assert supply.pool_slug in out
        assert supply.model_slug in out

    async def test_json_is_for_programs(self, node, supply):
        code, out, _ = await run("status", f"--state-dir={node}", "-o", "json")
        report = json.loads(out)
        assert code == 0
        assert (report["role"], report["link"]["state"]) == ("node", "live")
        assert report["replicas"][0]["model"] == supply.model_slug
        assert SECRET not in out

    async def test_without_an_agent_it_says_how_to_start_one(self, tmp_path):
        code, _, error = await run("status", f"--state-dir={tmp_path / 'none'}")
        assert code == 1
        assert "raymart-provider join" in error
        assert "Traceback" not in error


class TestDoctor:
    async def test_a_healthy_node_has_no_failure(self, node):
        code, out, _ = await run("doctor", f"--state-dir={node}", "-o", "json")
        checks = {check["check"]: check for check in json.loads(out)}
        assert code == 0
        assert [name for name, check in checks.items() if check["result"] == "fail"] == []
        for name in ("machine", "node key", "identity", "marketplace", "clock", "agent", "link", "replicas"):
            assert checks[name]["result"] == "ok", checks[name]

    async def test_a_fresh_machine_is_told_what_to_do(self, tmp_path):
        code, out, _ = await run("doctor", f"--state-dir={tmp_path / 'none'}", "--server=http://127.0.0.1:1")
        assert code == 1
        for said in ("join token", "cannot be reached", "raymart-provider join"):
            assert said in " ".join(out.split())

    async def test_an_unsafe_key_is_found(self, node):
        (node / "node.key").chmod(0o644)
        code, out, _ = await run("doctor", f"--state-dir={node}", "-o", "json")
        (check,) = [check for check in json.loads(out) if check["check"] == "node key"]
        assert code == 1
        assert (check["result"], "chmod 600" in check["found"]) == ("fail", True)


class TestLeave:
    async def test_a_node_that_leaves_is_revoked_and_its_key_gone(self, market, supply, sessions, tmp_path):
        state_dir = tmp_path / "node"
        async with agent_process(state_dir, market, f"--token={await supply.join_token()}") as agent:
            await until(lambda: "link.live" in agent.log, timeout_s=20)
            code, _, error = await run("leave", f"--state-dir={state_dir}")
            assert (code, "another agent runs" in error) == (1, True)
        node_id = parse(Prefix.NODE, load_enrolment(state_dir / "node.json").node_id)
        code, out, error = await run("leave", f"--state-dir={state_dir}")
        assert (code, "has left" in out) == (0, True), error
        assert not (state_dir / "node.key").exists()
        async with session_scope(sessions) as session:
            assert (await session.get_one(Node, node_id)).revoked_at is not None
        # The machine may join again, with a new token and a new key.
        async with agent_process(state_dir, market, f"--token={await supply.join_token()}") as agent:
            await until(lambda: agent.log.count("link.live") == 2, timeout_s=20)

    async def test_without_the_marketplace_the_key_stays_unless_forced(self, market, supply, tmp_path):
        state_dir = tmp_path / "node"
        async with agent_process(state_dir, market, f"--token={await supply.join_token()}") as agent:
            await until(lambda: "link.live" in agent.log, timeout_s=20)
        away = "--server=http://127.0.0.1:1"
        code, _, error = await run("leave", f"--state-dir={state_dir}", away)
        assert (code, "--forget" in error, (state_dir / "node.key").exists()) == (1, True, True)
        code, _, _ = await run("leave", f"--state-dir={state_dir}", away, "--forget")
        assert (code, (state_dir / "node.key").exists()) == (0, False)

    async def test_there_is_nothing_to_leave_before_the_first_join(self, tmp_path):
        code, _, error = await run("leave", f"--state-dir={tmp_path / 'none'}")
        assert (code, "nothing to leave" in error) == (1, True)


class TestJoin:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "--server, --name and --token-file"),
            (("--server=ftp://x", "--name=a"), "no http(s)://"),
            (("--server=http://market.example", "--name=a"), "not encrypted"),
            (("--server=http://127.0.0.1:1", "--name=a", "--token-file=/nowhere"), "cannot be read"),
        ],
    )
    async def test_what_cannot_work_is_said_in_one_line(self, tmp_path, arguments, said):
        code, _, error = await run("join", f"--state-dir={tmp_path / 'node'}", *arguments)
        assert code == 1
        assert said in error
        assert len(error.strip().splitlines()) == 1

    async def test_a_state_directory_belongs_to_one_node(self, node, market):
        # The agent holds the directory's lock, so its identity is read from a copy.
        copy = node.with_name("copy")
        copy.mkdir(mode=0o700)
        (copy / "node.json").write_bytes((node / "node.json").read_bytes())
        (copy / "node.json").chmod(0o600)
        code, _, error = await run("join", f"--state-dir={copy}", f"--server={market.url}", "--name=other")
        assert (code, "another --state-dir" in error) == (1, True)
