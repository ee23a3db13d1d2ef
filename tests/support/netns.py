"""Machines of a network on one host: Linux network namespaces on a bridge, and routers with NAT. Needs root.

A machine has a network, a machine id and a hosts file of its own; files, processes and the clock are the host's.
Source: ip-netns(8), iptables-extensions(8), conntrack.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from raymart_core.ids import new_id

_CLONE_NEWNET = 0x40000000
_PUBLIC = "10.88.0"
_ETC_NETNS = Path("/etc/netns")
_KILLED_WITHIN_S = 10.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Why this machine cannot have namespaces, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("iptables", "iptables")):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    probe = f"rm{os.getpid()}p"
    try:
        _run("ip", "netns", "add", probe)
        _run("ip", "netns", "exec", probe, "iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")
    except subprocess.CalledProcessError as error:
        return f"this kernel gives no namespace with connection tracking: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", probe], check=False, capture_output=True, timeout=20)
    return None


@dataclass(slots=True)
class Machine:
    """One machine: a network namespace with the address `address` on its interface eth0."""

    name: str
    namespace: str
    address: str
    home: Path
    """Its user's home directory."""
    plug: tuple[str, str, str]
    """Where its cable ends: namespace, interface and bridge."""
    public_address: str = ""
    """Where the world sees it; its router's, behind NAT."""
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(
        self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Run a program on this machine, in a session of its own; its output is appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *argv],
                env={**environment, "HOME": str(self.home)},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.home,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, argv: Sequence[str], *, environment: Mapping[str, str], timeout_s: float = 60) -> str:
        """What a program prints on this machine. Raises: AssertionError, when it fails."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv],
            env={**environment, "HOME": str(self.home)},
            cwd=self.home,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{argv} on {self.name}: {done.stdout}{done.stderr}"
        return done.stdout

    def running(self) -> list[psutil.Process]:
        """Every process of this machine."""
        found = []
        for pid in _run("ip", "netns", "pids", self.namespace).split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def kill(self) -> None:
        """SIGKILL everything that runs here, as a crash of its kernel would end it; connections are reset."""
        deadline = time.monotonic() + _KILLED_WITHIN_S
        while victims := self.running():
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            psutil.wait_procs(victims, timeout=0.5)
            assert time.monotonic() < deadline, f"{self.name} still runs {victims}"
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def stop(self, *, timeout_s: float) -> None:
        """SIGTERM what was started here, newest first, then kill what is left."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        self.kill()

    def unplug(self) -> None:
        """Every packet from and to this machine is lost from now on, and nobody is told."""
        namespace, interface, _ = self.plug
        _run("ip", "-n", namespace, "link", "set", interface, "nomaster")

    def plug_in(self) -> None:
        """The cable is back."""
        namespace, interface, bridge = self.plug
        _run("ip", "-n", namespace, "link", "set", interface, "master", bridge)

    def firewall(self, *rule: str) -> None:
        """Add an iptables rule, such as `-A`, `INPUT`, ..."""
        _run("ip", "netns", "exec", self.namespace, "iptables", *rule)

    def open_ports(self) -> set[tuple[str, int]]:
        """Address and port of each TCP socket that listens here and not only on loopback."""
        found = set()
        for line in self.run(["ss", "-Hltn"], environment=os.environ).splitlines():
            host, _, port = line.split()[3].rpartition(":")
            host = host.strip("[]").partition("%")[0].removeprefix("::ffff:")
            if not host.startswith("127.") and host != "::1":
                found.add((host, int(port)))
        return found

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread connects to in the block, it connects to as this machine. Sockets stay where they began."""
        with Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as home:
            with Path(f"/run/netns/{self.namespace}").open() as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


class Network:
    """A public network 10.88.0.0/24, made of namespaces only: nothing of the host's own network changes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Machines do not share a disk: what one writes durably must not wait for the databases of all others.
        shared_memory = Path("/dev/shm")
        self._homes = Path(
            tempfile.mkdtemp(prefix="rmnet", dir=shared_memory if shared_memory.is_dir() else None)
        )
        self._prefix = f"rm{new_id().hex[-6:]}"
        self._switch = f"{self._prefix}-net"
        self._machines: list[Machine] = []
        self._namespaces: list[str] = []
        self._hosts: dict[str, str] = {}
        self._next = 1
        self._add_namespace(self._switch)
        self._add_bridge(self._switch)

    def machine(self, name: str) -> Machine:
        """A machine with a public address that everybody can reach."""
        address = self._public_address()
        machine = self._join(name, switch=self._switch, address=address)
        machine.public_address = address
        self.name_host(name, address)
        return machine

    def machine_behind_nat(self, name: str) -> Machine:
        """A machine with a private address behind a router of its own, which drops what comes from outside unasked."""
        number, router = self._next, f"{self._prefix}-nat{self._next}"
        public, lan = self._public_address(), f"192.168.{100 + number}"
        self._add_namespace(router)
        self._add_bridge(router)
        _run("ip", "-n", router, "addr", "add", f"{lan}.1/24", "dev", "br0")
        self._cable(router, "wan", self._switch)
        _run("ip", "-n", router, "addr", "add", f"{public}/24", "dev", "wan")
        _run("ip", "-n", router, "link", "set", "wan", "up")
        _exec(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        _exec(router, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
        known = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
        for chain in ("INPUT", "FORWARD"):
            _exec(router, "iptables", "-A", chain, "-i", "wan", *known)
            _exec(router, "iptables", "-A", chain, "-i", "wan", "-j", "DROP")
        machine = self._join(name, switch=router, address=f"{lan}.2")
        machine.public_address = public
        _run("ip", "-n", machine.namespace, "route", "add", "default", "via", f"{lan}.1")
        return machine

    def name_host(self, name: str, address: str) -> None:
        """Let every machine, also those made later, find `address` under `name`."""
        self._hosts[name] = address
        for machine in self._machines:
            self._write_hosts(machine.namespace)

    def destroy(self) -> None:
        """Kill everything that runs on the machines and take the network away."""
        for machine in self._machines:
            machine.kill()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True, timeout=20)
            shutil.rmtree(_ETC_NETNS / namespace, ignore_errors=True)
        shutil.rmtree(self._homes, ignore_errors=True)

    def _join(self, name: str, *, switch: str, address: str) -> Machine:
        namespace = f"{self._prefix}-{name}"
        self._add_namespace(namespace)
        plug = self._cable(namespace, "eth0", switch)
        _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        home = self._homes / name
        home.mkdir()
        machine = Machine(name=name, namespace=namespace, address=address, home=home, plug=plug)
        self._machines.append(machine)
        # `ip netns exec` lays these over /etc: a machine is not its neighbour.
        etc = _ETC_NETNS / namespace
        etc.mkdir(parents=True)
        (etc / "machine-id").write_text(f"{new_id().hex}\n")
        self._write_hosts(namespace)
        return machine

    def _write_hosts(self, namespace: str) -> None:
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self._hosts.items())]
        (_ETC_NETNS / namespace / "hosts").write_text("\n".join(lines) + "\n")

    def _cable(self, namespace: str, interface: str, switch: str) -> tuple[str, str, str]:
        """From `interface` of a namespace to a port of the bridge in `switch`."""
        self._next += 1
        port = f"p{self._next}"
        _run(
            "ip", "-n", switch, "link", "add", port, "type", "veth",
            "peer", "name", interface, "netns", namespace,
        )  # fmt: skip
        _run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        return switch, port, "br0"

    def _add_namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._namespaces.append(name)
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def _add_bridge(self, namespace: str) -> None:
        _run("ip", "-n", namespace, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", namespace, "link", "set", "br0", "up")

    def _public_address(self) -> str:
        self._next += 1
        return f"{_PUBLIC}.{self._next}"


@contextmanager
def network(directory: Path) -> Iterator[Network]:
    """A network that is gone afterwards, with all that ran on it."""
    made = Network(directory)
    try:
        yield made
    finally:
        made.destroy()


def _enter(namespace_fd: int) -> None:
    if _LIBC.setns(namespace_fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _exec(namespace: str, *argv: str) -> str:
    return _run("ip", "netns", "exec", namespace, *argv)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout
