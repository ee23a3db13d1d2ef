"""Several API processes on one port: replaced when they die, replaced without a dropped stream, gone with their parent."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

import support
from raymart_core.wire.link import LINK_PATH
from raymart_core.wire.replica import GenerateRequest, Sampling, encode
from raymart_graphql.operator.workers import listen_together
from support.link_market import SERVER_NAME, make_supply
from support.node_agents import registered, registration, running_agent
from support.scripted_replica import SECRET, ScriptedReplica

PATIENCE_S = 10
BRIEF_PATIENCE_S = 2
"""For tests of what ends it. It is their time; and the less, the more a busy machine looks like a worker that hangs."""
SUPERVISOR = Path(support.__path__[0]) / "worker_supervisor.py"
WAIT_S = 60


class Stack:
    """A supervisor and its port."""

    def __init__(self, process, port):
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def ask(self) -> int:
        """The pid of whoever answers on a new connection."""
        async with httpx.AsyncClient(timeout=WAIT_S) as client:
            return int((await client.get(self.url)).text.split()[0])

    async def pids(self, *, count: int = 2, without: frozenset[int] = frozenset()) -> frozenset[int]:
        """Those who serve, once `count` do of whom none is in `without`."""
        found: set[int] = set()
        async with asyncio.timeout(WAIT_S):
            while len(found) < count:
                found |= {await self.ask()} - without
        return frozenset(found)

    async def stream(self, pieces: int, pause_s: float, begun: asyncio.Event | None = None) -> list[str]:
        """The lines of a stream; raises where it was cut."""
        async with (
            httpx.AsyncClient(timeout=WAIT_S) as client,
            client.stream("GET", f"{self.url}/?{pieces},{pause_s}") as answer,
        ):
            lines = []
            async for line in answer.aiter_lines():
                lines.append(line)
                if begun is not None:
                    begun.set()
            return lines


@contextlib.asynccontextmanager
async def supervised(*arguments: str, patience_s: float = PATIENCE_S, stderr: Path | None = None):
    """`stderr` is where the supervisor and its workers write."""
    with contextlib.ExitStack() as stack:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SUPERVISOR),
            str(patience_s),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if stderr is None else stack.enter_context(stderr.open("wb")),
        )
    try:
        port = int(await process.stdout.readline())
        yield Stack(process, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(WAIT_S):
            await process.wait()
            await process.stdout.read()  # All who inherited it have ended: nobody is left behind.


async def gone(pid: int) -> None:
    """Wait until no process has this id."""
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.02)


class TestWorkers:
    async def test_streams_survive_a_rolling_restart_and_a_stop(self):
        """Replaced one by one under load: no request fails, no stream is cut; then SIGTERM lets the last ones finish."""
        async with supervised() as stack:
            first = await stack.pids()
            streams = [asyncio.create_task(stack.stream(40, 0.05)) for _ in range(20)]
            asked = 0
            stack.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(WAIT_S):
                while len({pid for _ in range(4) if (pid := await stack.ask()) not in first}) < 2:
                    asked += 4
            for lines in await asyncio.gather(*streams):
                assert len(lines) == 41
                assert lines[-1] == "end"
            for pid in first:
                await gone(pid)
            begun = asyncio.Event()
            last = asyncio.create_task(stack.stream(10, 0.05, begun))
            await begun.wait()
            stack.process.terminate()
            assert (await last)[-1] == "end"
            assert await stack.process.wait() == 0

    @pytest.mark.slow
    async def test_a_worker_that_dies_is_replaced_and_one_that_lives_serves_on(self):
        async with supervised() as stack:
            first = await stack.pids()
            victim, other = first
            os.kill(victim, signal.SIGKILL)
            after = await stack.pids(without=frozenset({victim}))
            assert other in after

    @pytest.mark.slow
    async def test_workers_end_with_their_supervisor(self):
        async with supervised() as stack:
            pids = await stack.pids()
            stack.process.kill()
            for pid in pids:
                await gone(pid)

    async def test_workers_that_do_not_start_are_an_error(self):
        async with supervised("does-not-start") as stack:
            assert await asyncio.wait_for(stack.process.wait(), WAIT_S) == 1


class TestHangs:
    """A worker that lives and does not answer. What its supervisor decides by is tested in `test_pulse`."""

    async def test_it_says_where_and_is_replaced_while_its_sibling_serves_on(self, tmp_path):
        stderr = tmp_path / "stderr"
        async with (
            supervised(patience_s=BRIEF_PATIENCE_S, stderr=stderr) as stack,
            httpx.AsyncClient(timeout=WAIT_S, base_url=stack.url) as client,
        ):
            victim = int((await client.get("/")).text.split()[0])
            async with stream_elsewhere(stack, victim) as stream:
                with pytest.raises(httpx.TransportError):  # On the connection that was the victim's.
                    await client.get("/hang")
                await stream.goes_on()
                after = await stack.pids(without=frozenset({victim}))
                assert stream.pid in after
                assert stream.lines == {stream.pid}
            said = b""
            while b"worker.hung" not in said:
                said = await asyncio.wait_for(stack.process.stdout.readline(), WAIT_S)
            assert (b"asked=ask" in said, str(victim).encode() in said) == (True, True)
        assert "worker_app.py" in stderr.read_text()
        assert "in application" in stderr.read_text()

    @pytest.mark.slow
    async def test_one_that_was_stopped_for_less_or_with_its_supervisor_stays(self):
        """The patience passes three times."""
        async with supervised(patience_s=BRIEF_PATIENCE_S) as stack:
            stays, hangs = await stack.pids()
            os.kill(stays, signal.SIGSTOP)
            await asyncio.sleep(BRIEF_PATIENCE_S / 2)
            os.kill(stays, signal.SIGCONT)
            everybody = (stack.process.pid, stays, hangs)
            for pid in everybody:
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(BRIEF_PATIENCE_S * 2)
            for pid in everybody:
                os.kill(pid, signal.SIGCONT)
            # By then the supervisor would have replaced the other too.
            os.kill(hangs, signal.SIGSTOP)
            await gone(hangs)
            assert stays in await stack.pids(without=frozenset({hangs}))

    @pytest.mark.slow
    async def test_one_that_retires_is_not_judged(self):
        """It finishes its streams, and nobody waits for it: stopped for twice the patience, it takes them up again."""
        async with supervised(patience_s=BRIEF_PATIENCE_S) as stack, stream_elsewhere(stack, 0) as stream:
            first = await stack.pids()
            stack.process.send_signal(signal.SIGHUP)
            await stack.pids(without=first)
            (other,) = first - {stream.pid}
            await gone(other)
            os.kill(stream.pid, signal.SIGSTOP)
            await asyncio.sleep(BRIEF_PATIENCE_S * 2)
            os.kill(stream.pid, signal.SIGCONT)
            await stream.goes_on()


class RunningStream:
    """A stream that is read as it comes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.lines: set[int] = set()
        self._count = 0
        self._more = asyncio.Condition()

    async def read(self, lines) -> None:
        async for line in lines:
            async with self._more:
                self.lines.add(int(line))
                self._count += 1
                self._more.notify_all()

    async def goes_on(self) -> None:
        """Wait until it has brought more than can have been under way."""
        goal = self._count + 10
        async with asyncio.timeout(WAIT_S), self._more:
            await self._more.wait_for(lambda: self._count >= goal)


@contextlib.asynccontextmanager
async def stream_elsewhere(stack: Stack, pid: int):
    """An endless stream of another worker than `pid`."""
    async with contextlib.AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
        while True:
            client = await opened.enter_async_context(httpx.AsyncClient(timeout=WAIT_S))
            answer = await opened.enter_async_context(client.stream("GET", f"{stack.url}/?1000000,0.05"))
            lines = answer.aiter_lines()
            stream = RunningStream(int(await anext(lines)))
            if stream.pid != pid:
                break
        reading = tasks.create_task(stream.read(lines))
        yield stream
        reading.cancel()


class LinkedStack:
    """Two workers that are marketplaces, a node with a link to one of them, and a connection to each."""

    def __init__(self, stack, supply):
        self._stack = stack
        self._slug = supply.model_slug
        self.clients: dict[int, httpx.AsyncClient] = {}
        """By the pid of the worker that the connection is with; it stays as long as nobody closes it."""

    async def connect(self, *, count: int = 2, without: frozenset[int] = frozenset()) -> None:
        """Have a connection to each of `count` workers that are not in `without`."""
        async with asyncio.timeout(WAIT_S):
            while len(self.clients.keys() - without) < count:
                # For as long as it likes: the next connection may be another worker's.
                limits = httpx.Limits(keepalive_expiry=None)
                client = httpx.AsyncClient(timeout=WAIT_S, base_url=self._stack.url, limits=limits)
                pid = (await self._state(client))["pid"]
                if pid in without or pid in self.clients:
                    await client.aclose()
                else:
                    self.clients[pid] = client

    async def until_live(self, pid: int, count: int) -> dict[str, int]:
        """The worker's state once it knows `count` live endpoints."""
        async with asyncio.timeout(WAIT_S):
            while (state := await self._state(self.clients[pid]))["live"] != count:
                await asyncio.sleep(0.02)
        assert state["pid"] == pid
        return state

    def generate(self, pid: int):
        """A request at the worker, to be streamed."""
        body = encode(GenerateRequest(sampling=Sampling(max_tokens=3), prompt="hi"))
        return self.clients[pid].stream("POST", "/generate", params={"model": self._slug}, content=body)

    async def aclose(self) -> None:
        for client in self.clients.values():
            await client.aclose()

    async def _state(self, client: httpx.AsyncClient) -> dict[str, int]:
        return (await client.get("/", params={"model": self._slug})).json()


@pytest.fixture
async def linked(sessions, database_url, tmp_path):
    """`LinkedStack` whose workers both know the endpoint, and the scripted replica behind it."""
    supply = await make_supply(sessions)
    async with contextlib.AsyncExitStack() as stack:
        workers = await stack.enter_async_context(
            supervised("linked_worker_app.py", database_url, SERVER_NAME)
        )
        market = SimpleNamespace(url=workers.url, link_url=workers.url.replace("http", "ws") + LINK_PATH)
        replica = await stack.enter_async_context(ScriptedReplica())
        await stack.enter_async_context(
            running_agent(tmp_path / "node", market, token=await supply.join_token(), drain_s=0.1)
        )
        await stack.enter_async_context(
            registered(tmp_path / "node", registration(supply, replica.address, SECRET))
        )
        linked = LinkedStack(workers, supply)
        stack.push_async_callback(linked.aclose)
        await linked.connect()
        for pid in linked.clients:
            await linked.until_live(pid, 1)
        yield linked, replica


async def endless(exchange):
    exchange.prompt()
    while not exchange.gone.is_set():
        exchange.step()
        await asyncio.sleep(0.01)


class TestOneNode:
    """Its link is with one of two workers. Slow for their start: what they share is tested in `marketplace/siblings`."""

    async def test_every_worker_serves_on_it_and_knows_at_once_when_it_is_lost(self, linked):
        stack, replica = linked
        for pid in stack.clients:
            async with stack.generate(pid) as answer:
                assert (answer.status_code, answer.headers["x-pid"]) == (200, str(pid))
                assert len([line async for line in answer.aiter_lines()]) == 5
        mine = {pid: (await stack.until_live(pid, 1))["mine"] for pid in stack.clients}
        assert sorted(mine.values()) == [0, 1]
        (holder,) = (pid for pid, count in mine.items() if count)
        (other,) = mine.keys() - {holder}
        replica.script = endless
        async with stack.generate(other) as streaming:
            lines = streaming.aiter_lines()
            await anext(lines)
            os.kill(holder, signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass
        # The answer that broke took its connection with it.
        await stack.clients.pop(other).aclose()
        # The node comes back by itself, to whom the kernel likes.
        await stack.connect(without=frozenset({holder}))
        for pid in stack.clients.keys() - {holder}:
            await stack.until_live(pid, 1)

    @pytest.mark.slow
    async def test_it_comes_back_to_the_others_when_the_worker_that_has_its_link_hangs(self, linked):
        stack, _replica = linked
        mine = {pid: (await stack.until_live(pid, 1))["mine"] for pid in stack.clients}
        (holder,) = (pid for pid, count in mine.items() if count)
        os.kill(holder, signal.SIGSTOP)
        await gone(holder)
        await stack.connect(without=frozenset({holder}))
        for pid in stack.clients.keys() - {holder}:
            await stack.until_live(pid, 1)
            async with stack.generate(pid) as answer:
                assert len([line async for line in answer.aiter_lines()]) == 5

    @pytest.mark.slow
    async def test_replaced_workers_know_it_too(self, linked):
        stack, _replica = linked
        first = frozenset(stack.clients)
        stack._stack.process.send_signal(signal.SIGHUP)
        await stack.connect(without=first)
        for pid in stack.clients.keys() - first:
            await stack.until_live(pid, 1)
            async with stack.generate(pid) as answer:
                assert len([line async for line in answer.aiter_lines()]) == 5


class TestOnePort:
    @pytest.mark.parametrize(("count", "is_shared"), [(1, False), (2, True)])
    def test_only_several_workers_share_a_port(self, count, is_shared):
        listeners = listen_together("127.0.0.1", 0, count=count)
        port = listeners[0].getsockname()[1]
        with contextlib.ExitStack() as stack:
            for listener in listeners:
                stack.enter_context(listener)
            assert {each.getsockname()[1] for each in listeners} == {port}
            if is_shared:
                for listener in listen_together("127.0.0.1", port, count=2):
                    stack.enter_context(listener)
            else:
                with pytest.raises(OSError, match="in use"):
                    listen_together("127.0.0.1", port, count=2)
