"""A house pool of three machines of three providers: killed, cut off, drained, and back."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpx
import pytest

from raymart_serve.replica.own_certificate import make_own_certificate
from support import grpc_doors
from support.net_market import CHAT, NetMarket, clean_environment
from support.net_pool import NetPool
from support.netns import Machine, Network
from support.steady_load import SteadyLoad

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

PROVIDERS = {"gpu-a": "alpha", "gpu-b": "beta", "gpu-c": "gamma"}
DIRECT = "gpu-b"
"""The machine whose replicas the gateway reaches itself; the others' by their links."""
IMPOSTOR_PORT = 9_443
HEARD_S = 60
ALL = {"alpha": 1, "beta": 1, "gamma": 1}
RATE_PER_S = 40
OUT_OF_ROUTING_S = 8
BACK_S = 15
BOOTED_S = 60
PAUSE_S = 7
"""Less than the first pause of a crash loop, which is 10 s."""
SETTLED_S = 2


@dataclass(frozen=True, slots=True)
class House:
    """The pool, its machines by name, and where it is sold."""

    market: NetMarket
    pool: NetPool
    machines: dict[str, Machine]

    def wait_for(self, providers: dict[str, int], *, timeout_s: float) -> float:
        """Wait until exactly these providers are in routing; returns the seconds it took."""
        return self.market.wait_until(
            lambda: self.market.live_providers() == providers,
            timeout_s=timeout_s,
            what=f"{providers} in routing",
        )


@pytest.fixture(scope="module")
def market_settings() -> dict[str, str]:
    """No benchmark: three machines that are one measure each other. `test_join` has it."""
    return {"RAYMART_BENCHMARKS": "false"}


@pytest.fixture(scope="module")
def running(net: Network, market: NetMarket) -> Iterator[House]:
    market.new_provider("gamma")
    pool = NetPool(market, net.machine("head"))
    machines = {name: net.machine(name) for name in PROVIDERS}
    try:
        pool.start_head()
        for name, machine in machines.items():
            pool.join(machine, provider=PROVIDERS[name], direct=name == DIRECT)
        yield House(market, pool, machines)
    finally:
        for machine in (*machines.values(), pool.head):
            machine.stop(timeout_s=30)


@pytest.fixture
def house(running: House, customer: Machine) -> Iterator[House]:
    """The pool with all three in routing, whatever the test before did; the test is a customer on the network."""
    with customer.entered():
        running.wait_for(ALL, timeout_s=120)
        yield running


def ask(*, first: str | None = None, **more: Any) -> dict[str, Any]:
    """A request of about 0.1 s; to the provider `first` while it can, so that a fault there meets the most."""
    wishes = {} if first is None else {"provider": {"order": [first]}}
    return {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Please tell a story with a cat named Nora."}],
        "temperature": 0,
        "max_tokens": 5,
        **wishes,
        **more,
    }


class TestDirect:
    """ADR 0049, over the network: the gateway reaches one machine's replicas itself, by their certificate."""

    async def test_five_requests_take_one_connection_and_it_speaks_tls_alone(self, house: House):
        machine = house.machines[DIRECT]
        async with house.market.client() as client:
            for _ in range(5):
                answer = await client.post("/v1/chat/completions", json=ask(first=PROVIDERS[DIRECT]))
                assert served_by(answer) == PROVIDERS[DIRECT]
        [port] = ports_reached(house, machine)
        assert speaks_tls(machine.address, port)
        assert asked_http(machine.address, port, "/health") is None

    async def test_whoever_takes_over_the_address_hears_nothing(self, house: House, stranger: Machine):
        """The impostor speaks our protocol with a certificate of its own; without the right one it gets no byte."""
        machine, market = house.machines[DIRECT], house.market
        async with market.client() as client:
            answer = await client.post("/v1/chat/completions", json=ask(first=PROVIDERS[DIRECT]))
            assert served_by(answer) == PROVIDERS[DIRECT]
            [port] = ports_reached(house, machine)
            answers = []
            with impostor(stranger) as heard, diverted(house, machine, port, to=stranger):
                # The first only finds its connection reset, and the endpoint's breaker has the next ones wait.
                async with asyncio.timeout(HEARD_S):
                    while not heard:
                        answers.append(
                            await client.post("/v1/chat/completions", json=ask(first=PROVIDERS[DIRECT]))
                        )
            assert set(heard) == {b""}
            assert {served_by(answer) for answer in answers} <= {"alpha", "gamma"}
            # The breaker forgives, and the tests after this one have all three.
            async with asyncio.timeout(BACK_S * 4):
                while served_by(answer) != PROVIDERS[DIRECT]:
                    answer = await client.post("/v1/chat/completions", json=ask(first=PROVIDERS[DIRECT]))


def served_by(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-raymart-provider"]


def ports_reached(house: House, machine: Machine) -> list[int]:
    """The port of each connection that the marketplace has with the replica on `machine`."""
    [replica] = house.pool.replicas_of(machine)
    # In its columns: what waits to be read and sent, the own end, the other, the processes.
    connections = machine.run(["ss", "-Htnp", "state", "established"], environment=os.environ)
    market = house.market.machine.address
    return [
        int(own.rpartition(":")[2])
        for _, _, own, peer, users in (line.split(maxsplit=4) for line in connections.splitlines())
        if f"pid={replica.pid}," in users and market in peer
    ]


@contextlib.contextmanager
def impostor(machine: Machine) -> Iterator[list[bytes]]:
    """A TLS server on `machine`; what each of its callers said, b"" for one that hung up instead."""
    heard: list[bytes] = []
    tls = make_own_certificate(ip_address(machine.address)).context

    def listen() -> None:
        with contextlib.suppress(OSError):  # Until the listener is shut down.
            while True:
                heard.append(said_in_tls(tls, listener.accept()[0]))

    with machine.entered():
        listener = socket.create_server((machine.address, IMPOSTOR_PORT))
    listening = threading.Thread(target=listen, daemon=True)
    with listener:
        listening.start()
        try:
            yield heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listening.join()


def said_in_tls(tls: ssl.SSLContext, caller: socket.socket) -> bytes:
    """What a caller says first, b"" if it never does."""
    caller.settimeout(10)
    with caller, contextlib.suppress(OSError), tls.wrap_socket(caller, server_side=True) as connection:
        return connection.recv(65_536)
    return b""


@contextlib.contextmanager
def diverted(house: House, machine: Machine, port: int, *, to: Machine) -> Iterator[None]:
    """What the marketplace sends to `port` of `machine` comes to the impostor on `to`; what is connected breaks."""
    wanted = ("OUTPUT", "-p", "tcp", "-d", machine.address, "--dport", str(port))
    nat = (*wanted, "-j", "DNAT", "--to-destination", f"{to.address}:{IMPOSTOR_PORT}")
    reset = (*wanted, "-j", "REJECT", "--reject-with", "tcp-reset")
    market = house.market.machine
    market.firewall("-t", "nat", "-A", *nat)
    market.firewall("-A", *reset)
    try:
        yield
    finally:
        market.firewall("-D", *reset)
        market.firewall("-t", "nat", "-D", *nat)


class TestNodeKilled:
    async def test_none_of_1800_requests_fails(self, house: House):
        """SIGKILL of everything on a machine under 40 requests a second, and the machine is started again."""
        victim = house.machines["gpu-b"]
        async with (
            house.market.client() as client,
            SteadyLoad(client, ask(first="beta"), count=1_800, rate_per_s=RATE_PER_S) as load,
        ):
            await load.reached(10)
            await asyncio.to_thread(victim.kill)
            killed_at = load.elapsed_s
            await load.reached(22)
            await asyncio.to_thread(house.pool.boot, victim)
            back_s = await asyncio.to_thread(house.wait_for, ALL, timeout_s=BOOTED_S)
            outcome = await load.outcome()
        print(f"node killed after {killed_at:.1f} s, back {back_s:.1f} s after its boot: {outcome}")
        assert not outcome.failed, outcome.failed[:3]
        assert back_s <= BACK_S
        assert len(outcome.sent) == 1_800
        assert outcome.retried, "the machine was killed while it served nothing"
        # What is sent while it is being killed may reach it still.
        assert outcome.served_by(before_s=killed_at - 1)["beta"] > 100
        assert outcome.served_by(after_s=killed_at, before_s=22)["beta"] == 0


class TestLinkCutSilently:
    async def test_it_is_out_of_routing_in_8_s_and_nothing_fails(self, house: House):
        """Nobody is told: packets from and to the cheapest machine are lost from one moment on."""
        victim = house.machines["gpu-a"]
        async with (
            house.market.client() as client,
            SteadyLoad(client, ask(), count=600, rate_per_s=RATE_PER_S) as load,
        ):
            await load.reached(5)
            await asyncio.to_thread(victim.unplug)
            cut_at = load.elapsed_s
            out_s = await asyncio.to_thread(
                house.wait_for, {"beta": 1, "gamma": 1}, timeout_s=OUT_OF_ROUTING_S
            )
            await asyncio.to_thread(victim.plug_in)
            back_s = await asyncio.to_thread(house.wait_for, ALL, timeout_s=BACK_S)
            outcome = await load.outcome()
        print(
            f"cut off after {cut_at:.1f} s: out of routing in {out_s:.1f} s, back in {back_s:.1f} s; {outcome}"
        )
        assert not outcome.failed, outcome.failed[:3]
        assert outcome.retried, "the machine was cut off while it served nothing"


class TestDrain:
    async def test_nothing_fails_and_running_streams_finish(self, house: House):
        node = node_global_id(house, "gpu-b")
        async with (
            house.market.client() as client,
            SteadyLoad(client, ask(first="beta"), count=600, rate_per_s=RATE_PER_S) as load,
        ):
            await load.reached(3)
            begun = [asyncio.Event() for _ in range(3)]
            streams = [asyncio.create_task(streamed(client, "beta", begun=event)) for event in begun]
            for event in begun:
                await event.wait()
            # The streams stand still until the node is draining, or a fast model would have ended them.
            [replica] = house.pool.replicas_of(house.machines["gpu-b"])
            replica.suspend()
            assert not all(stream.done() for stream in streams), "no stream was running"
            await asyncio.to_thread(mutate, house, "drainNode", node)
            drained_at = load.elapsed_s
            replica.resume()
            ends = await asyncio.gather(*streams)
            outcome = await load.outcome()
            await asyncio.to_thread(mutate, house, "resumeNode", node)
            back_s = await asyncio.to_thread(house.wait_for, ALL, timeout_s=BACK_S)
        print(f"drained after {drained_at:.1f} s: {outcome}; back in {back_s:.1f} s; streams {ends}")
        assert not outcome.failed, outcome.failed[:3]
        assert [end for _, end in ends] == ["[DONE]"] * 3
        assert {provider for provider, _ in ends} == {"beta"}
        assert outcome.served_by(before_s=drained_at - 1)["beta"] > 50
        assert outcome.served_by(after_s=drained_at + 1)["beta"] == 0


async def streamed(client: httpx.AsyncClient, provider: str, *, begun: asyncio.Event) -> tuple[str, str]:
    """Who served a story, and the last thing that was said; `begun` is set with its first token."""
    body = ask(first=provider, stream=True, max_tokens=300)
    last = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                begun.set()
                last = line.removeprefix("data: ")
                assert last == "[DONE]" or "error" not in json.loads(last), last
    return answer.headers["x-raymart-provider"], last


def node_global_id(house: House, name: str) -> str:
    query = "{ viewer { organizations(first: 5) { nodes { provider { nodes(first: 50) { nodes { id name } } } } } } }"
    data = house.market.graphql(query, who=PROVIDERS[name])
    [provider] = [one["provider"] for one in data["viewer"]["organizations"]["nodes"] if one["provider"]]
    [node] = [one["id"] for one in provider["nodes"]["nodes"] if one["name"] == name]
    return str(node)


def reason_of(house: House, name: str) -> str:
    """What the owner of a machine is told about what is placed on it."""
    query = (
        "{ viewer { organizations(first: 5) { nodes { provider { nodes(first: 50) { nodes {"
        " name placements(first: 10) { nodes { desired state reason } } } } } } } } }"
    )
    data = house.market.graphql(query, who=PROVIDERS[name])
    [provider] = [one["provider"] for one in data["viewer"]["organizations"]["nodes"] if one["provider"]]
    [node] = [one for one in provider["nodes"]["nodes"] if one["name"] == name]
    return " ".join(one["reason"] for one in node["placements"]["nodes"] if one["desired"])


def mutate(house: House, mutation: str, node: str) -> None:
    """Run `mutation` on a node of beta's."""
    text = f"mutation($input: {mutation[0].upper()}{mutation[1:]}Input!) {{ {mutation}(input: $input) {{ userErrors {{ message }} }} }}"
    answer = house.market.graphql(text, {"input": {"nodeId": node}}, who="beta")
    assert answer[mutation]["userErrors"] == []


class TestCrashLoop:
    async def test_it_is_left_alone_for_a_while_says_why_and_fails_nobody(self, house: House):
        """Each replica on a machine dies as soon as it serves; Ray Serve alone would start another for ever."""
        victim, others = house.machines["gpu-a"], {"beta": 1, "gamma": 1}
        async with (
            house.market.client() as client,
            SteadyLoad(client, ask(), count=400, rate_per_s=10) as load,
        ):
            deaths = 0
            while "crash loop" not in (reason := await asyncio.to_thread(reason_of, house, "gpu-a")):
                for replica in house.pool.replicas_of(victim):
                    if await asyncio.to_thread(house.market.live_providers) == ALL:
                        replica.kill()
                        deaths += 1
                assert load.elapsed_s < 100, f"{deaths} deaths, and it says {reason!r}"
                await asyncio.sleep(0.2)
            said_at = load.elapsed_s
            await asyncio.to_thread(house.wait_for, others, timeout_s=10)
            # Serve may have begun with the next one already, unseen while it loads; it is taken back.
            seen_at = load.elapsed_s
            while load.elapsed_s < seen_at + SETTLED_S:
                if house.pool.replicas_of(victim):
                    seen_at = load.elapsed_s
                assert load.elapsed_s < said_at + PAUSE_S, "the last replica stays"
                await asyncio.sleep(0.1)
            starts = 0
            while load.elapsed_s < said_at + PAUSE_S:
                starts += len(house.pool.replicas_of(victim))
                await asyncio.sleep(0.2)
            back_s = await asyncio.to_thread(house.wait_for, ALL, timeout_s=BOOTED_S)
            outcome = await load.outcome()
        print(
            f"after {deaths} deaths in {said_at:.1f} s: {reason!r}; back after {back_s:.1f} s more; {outcome}"
        )
        assert deaths <= 4
        assert starts == 0, "a replica was started during the pause"
        assert not outcome.failed, outcome.failed[:3]


class TestStranger:
    """Promise 17, over the network: a machine that nobody knows, next to the pool's, without a secret.

    Whatever listens beyond loopback is tried. Our agents listen on loopback alone, and replicas that the gateway
    does not reach itself.
    """

    def test_no_port_answers_http(self, house: House, stranger: Machine):
        """Dashboard, jobs, Serve, metrics, replicas: nothing, or 401."""
        answered, refused = {}, set()
        with stranger.entered():
            for machine, port in open_ports(house):
                for path in PATHS:
                    status = asked_http(machine.address, port, path)
                    if status == 401:
                        refused.add(machine.name)
                    elif status is not None:
                        answered[f"{machine.name}:{port}{path}"] = status
        assert answered == {}
        assert refused == {"head", *PROVIDERS}, "the ports of these machines were not reached at all"

    @pytest.mark.parametrize("token", ["", "00" * 32])
    @pytest.mark.parametrize("way", ["in clear", "in TLS without a certificate"])
    def test_no_port_answers_grpc(self, house: House, stranger: Machine, token: str, way: str):
        """The cluster's state, its machines, their workers and Serve's replicas, each by methods of its own.

        The stranger even knows the pool's authority, so that it is the others who refuse.
        """
        authority = "" if way == "in clear" else str(house.pool.authority_of(house.machines["gpu-a"]))
        asked = knocked(house, stranger, token, authority, "")
        said = Counter(status for statuses in asked.values() for status in statuses.values())
        print(f"{way}: {len(asked)} ports, {dict(said)}")
        # UNIMPLEMENTED: another service's port; UNAVAILABLE: one that hangs up without a member's certificate.
        assert said.keys() <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE"}, asked

    def test_a_member_is_answered_where_a_stranger_is_not(self, house: House, stranger: Machine):
        """What the refusals rest on: the same knocks, from the same place, with a member's certificate and token."""
        authority = house.pool.authority_of(house.machines["gpu-a"])
        token = (authority.parent / "token").read_text().strip()
        asked = knocked(house, stranger, token, str(authority), str(authority.parent))
        assert asked[house.pool.ray_address()]["/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"] == "OK"
        silent = {machine.name for machine in house.machines.values()} - {
            name for name, said in answers_by_machine(house, asked).items() if said - {"UNAVAILABLE"}
        }
        assert silent == set()

    def test_its_ports_speak_tls_as_the_pools_members_only(self, house: House, stranger: Machine):
        """What the refusals above rest on: on every machine there are ports that show the pool's certificate."""
        with stranger.entered():
            shown = {machine.name for machine, port in open_ports(house) if speaks_tls(machine.address, port)}
        assert shown == {"head", *PROVIDERS}

    @pytest.mark.parametrize("mode", ["token", "disabled"])
    def test_it_does_not_join_the_cluster(self, house: House, stranger: Machine, mode: str):
        token = stranger.home / "guessed-token"
        token.write_text("00" * 32)
        head = house.pool.ray_address()
        with pytest.raises((AssertionError, subprocess.TimeoutExpired)) as refusal:
            stranger.run(
                [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={head}"],
                environment={**clean_environment(), "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(token)},
                timeout_s=45,
            )
        assert "Ray runtime started" not in str(refusal.value)
        stranger.kill()


PATHS = (
    "/", "/nodes", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/api/serve/applications/", "/-/routes",
    "/metrics", "/health", "/stats", "/v1/generate", "/v1/status", "/v1/replicas",
)  # fmt: skip


def knocked(
    house: House, stranger: Machine, token: str, authority: str, member: str
) -> dict[str, dict[str, str]]:
    """What each open port of the pool says to each of Ray's methods."""
    addresses = [f"{machine.address}:{port}" for machine, port in open_ports(house)]
    command = [sys.executable, grpc_doors.__file__, token, authority, member, *addresses]
    asked: dict[str, dict[str, str]] = json.loads(
        stranger.run(command, environment=clean_environment(), timeout_s=170)
    )
    return asked


def answers_by_machine(house: House, asked: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Every status that any port of a machine gave."""
    return {
        machine.name: {
            status
            for address, statuses in asked.items()
            if address.startswith(f"{machine.address}:")
            for status in statuses.values()
        }
        for machine in (house.pool.head, *house.machines.values())
    }


def open_ports(house: House) -> list[tuple[Machine, int]]:
    """Every port that listens beyond loopback on a machine of the pool."""
    return [
        (machine, port)
        for machine in (house.pool.head, *house.machines.values())
        for port in sorted({port for _, port in machine.open_ports()})
    ]


def asked_http(host: str, port: int, path: str) -> int | None:
    """The status of an answer; None when there is none."""
    try:
        return httpx.get(f"http://{host}:{port}{path}", timeout=1, trust_env=False).status_code
    except httpx.HTTPError:
        return None


def speaks_tls(host: str, port: int) -> bool:
    """Whether a port shows a certificate to whoever asks."""
    try:
        return bool(ssl.get_server_certificate((host, port), timeout=2))
    except OSError:
        return False
