"""A house pool on the machines of a test's network, by the commands that providers and operators type."""

from pathlib import Path

import psutil

from support.net_market import BIN, NetMarket, clean_environment
from support.netns import Machine

CPUS = 2
STEP_DELAY_MS = 10
"""Slows the tiny model to the pace of a large one, so that requests run when something breaks."""


class NetPool:
    """The head with the controller on one machine, and what makes other machines its members."""

    def __init__(self, market: NetMarket, head: Machine) -> None:
        self.market = market
        self.head = head
        self._logs = market.data_dir.parent / "pool"
        self._direct: set[str] = set()
        self._server = (f"--server={market.base_url}", "--allow-plaintext", "--token-file=token")

    def start_head(self) -> None:
        """The pool's Ray head, and the controller beside it."""
        (self.head.home / "token").write_text(self.market.join_token(None))
        self._command(self.head, "controller", "--name=controller")

    def join(self, machine: Machine, *, provider: str, direct: bool = False) -> None:
        """Make `machine` a node of `provider`; the gateway reaches its replicas by its link, or itself when `direct`."""
        if direct:
            self._direct.add(machine.name)
        (machine.home / "token").write_text(self.market.join_token(provider))
        self.boot(machine)

    def boot(self, machine: Machine) -> None:
        """What a boot of a provider's machine starts, the first and all later ones."""
        direct = ["--direct"] if machine.name in self._direct else []
        self._command(machine, "join", f"--name={machine.name}", f"--cpus={CPUS}", *direct)

    def replicas_of(self, machine: Machine) -> list[psutil.Process]:
        """The Serve replicas on `machine`."""
        return [one for one in machine.running() if "ServeReplica:" in title_of(one)]

    def ray_address(self) -> str:
        """host:port of the head."""
        [port] = self.head.home.glob(".raymart/controller/ray/port")
        return f"{self.head.address}:{port.read_text().strip()}"

    def authority_of(self, machine: Machine) -> Path:
        """The certificate of the pool's authority, as a member got it."""
        [found] = machine.home.glob(".raymart/node/**/authority.crt")
        return found

    def _command(self, machine: Machine, *command: str) -> None:
        machine.start(
            [str(BIN / "raymart-provider"), *command, f"--ray-host={machine.address}", *self._server],
            log=self._logs / f"{machine.name}.log",
            environment={
                **clean_environment(), "RAYMART_REPLICA_STEP_DELAY_MS": str(STEP_DELAY_MS)
            },
        )  # fmt: skip


def title_of(process: psutil.Process) -> str:
    """The command line of a process, which may be ending; "" then."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
