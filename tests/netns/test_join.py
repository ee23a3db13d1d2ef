"""Two machines of two providers join with the documented command alone, one of them behind NAT, and are sold."""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from support.net_market import BIN, CHAT, NetMarket, clean_environment
from support.netns import Machine, Network

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

SOLD_WITHIN_S = 60
OUT_OF_ROUTING_S = 8
OUTAGE_S = 20
BACK_S = 15
ASK = {"model": CHAT, "messages": [{"role": "user", "content": "ping"}], "temperature": 0, "max_tokens": 8}


@dataclass(slots=True)
class Joined:
    """The machines, by their providers' slugs, and when each was first sold."""

    market: NetMarket
    machines: dict[str, Machine]
    authority: Path
    logs: Path
    sold_after_s: dict[str, float] = field(default_factory=dict)

    def log_of(self, machine: Machine) -> Path:
        return self.logs / f"{machine.name}.log"

    def wait_for(self, providers: dict[str, int], *, timeout_s: float) -> float:
        """Wait until exactly these are in routing; returns the seconds it took."""
        return self.market.wait_until(
            lambda: self.market.live_providers() == providers,
            timeout_s=timeout_s,
            what=f"{providers} in routing",
        )


@pytest.fixture(scope="module")
def joined(net: Network, market: NetMarket, customer: Machine) -> Iterator[Joined]:
    """Both machines, once requests were answered by each."""
    authority = market.serve_https(net.directory / "tls")
    machines = {"delta": net.machine("gpu-open"), "epsilon": net.machine_behind_nat("gpu-hidden")}
    for provider, machine in machines.items():
        market.new_provider(provider, pool=f"{provider}-own")
        (machine.home / "token").write_text(market.join_token(provider, pool=f"{provider}-own"))
    both = Joined(market, machines, authority, net.directory / "pool")
    try:
        started = time.monotonic()
        for machine in machines.values():
            join(machine, authority=authority, log=both.log_of(machine))
        with (
            customer.entered(),
            httpx.Client(
                base_url=market.address_url, headers=market.customer_headers, timeout=30, trust_env=False
            ) as client,
        ):
            while len(both.sold_after_s) < len(machines):
                for provider in machines.keys() - both.sold_after_s.keys():
                    answer = client.post(
                        "/v1/chat/completions", json=ASK | {"provider": {"only": [provider]}}
                    )
                    if answer.status_code == 200:
                        both.sold_after_s[provider] = time.monotonic() - started
                assert time.monotonic() - started < 4 * SOLD_WITHIN_S, f"{both.sold_after_s}\n{market.tail()}"
                time.sleep(0.25)
        print(f"sold after {both.sold_after_s}")
        yield both
    finally:
        for machine in machines.values():
            machine.stop(timeout_s=30)


def join(machine: Machine, *, authority: Path, log: Path) -> None:
    """What docs/provider.md says, on a machine whose operating system trusts the marketplace's certificate."""
    machine.start(
        [str(BIN / "raymart-provider"), "join", "--token-file", "token", "--server", "https://market",
         "--name", machine.name],
        log=log,
        environment={**clean_environment(), "SSL_CERT_FILE": str(authority)},
    )  # fmt: skip


class TestJoin:
    def test_both_are_sold_within_a_minute(self, joined: Joined):
        assert joined.sold_after_s.keys() == {"delta", "epsilon"}
        assert max(joined.sold_after_s.values()) <= SOLD_WITHIN_S

    def test_each_keeps_its_own_cluster_to_itself(self, joined: Joined, customer: Machine):
        """What listens beyond loopback is reached by nobody behind NAT, and is no Ray, agent or replica elsewhere."""
        hidden = joined.machines["epsilon"]
        with customer.entered():
            for _, port in sorted(hidden.open_ports() | {("", 22), ("", 6379), ("", 8265)}):
                with pytest.raises(OSError, match="timed out"):
                    socket.create_connection((hidden.public_address, port), timeout=0.5)

    def test_streams_come_through_nat(self, joined: Joined, customer: Machine):
        with customer.entered():
            pieces = asyncio.run(streamed_pieces(joined.market, "epsilon"))
        assert pieces > 1


class TestOutage:
    def test_a_machine_without_network_is_back_by_itself(self, joined: Joined, customer: Machine):
        """Its cable is out for longer than any reconnection waits; nobody touches the machine."""
        hidden = joined.machines["epsilon"]
        with customer.entered():
            joined.wait_for({"delta": 1, "epsilon": 1}, timeout_s=30)
            hidden.unplug()
            out_s = joined.wait_for({"delta": 1}, timeout_s=OUT_OF_ROUTING_S)
            time.sleep(OUTAGE_S)
            hidden.plug_in()
            back_s = joined.wait_for({"delta": 1, "epsilon": 1}, timeout_s=BACK_S)
        print(f"out of routing in {out_s:.1f} s, back {back_s:.1f} s after its cable was")

    def test_a_power_cut_costs_a_boot(self, joined: Joined, customer: Machine):
        """Everything on it dies at once; the same command, its token long spent, brings it back."""
        cut = joined.machines["delta"]
        with customer.entered():
            joined.wait_for({"delta": 1, "epsilon": 1}, timeout_s=30)
            cut.kill()
            out_s = joined.wait_for({"epsilon": 1}, timeout_s=OUT_OF_ROUTING_S)
            join(cut, authority=joined.authority, log=joined.log_of(cut))
            back_s = joined.wait_for({"delta": 1, "epsilon": 1}, timeout_s=SOLD_WITHIN_S)
        print(f"out of routing in {out_s:.1f} s, back {back_s:.1f} s after its boot")


async def streamed_pieces(market: NetMarket, provider: str) -> int:
    body = ASK | {"stream": True, "provider": {"only": [provider]}, "max_tokens": 64}
    body["messages"] = [{"role": "user", "content": "What is a payout?"}]
    pieces, last = 0, ""
    async with market.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["x-raymart-provider"] == provider
        async for line in answer.aiter_lines():
            pieces += line.startswith("data: {")
            last = line or last
    assert last == "data: [DONE]"
    return pieces
