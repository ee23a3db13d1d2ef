"""Where an agent keeps itself: one directory per node, used by one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raymart_providers.errors import AgentRunning


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths of one node's state."""

    root: Path

    @property
    def key(self) -> Path:
        """The node key, PEM, 0600."""
        return self.root / "node.key"

    @property
    def next_key(self) -> Path:
        """While the key is replaced: the one that is not yet, or no longer, the node's."""
        return self.root / "node.key.next"

    @property
    def enrolment(self) -> Path:
        """The identity, JSON, 0600."""
        return self.root / "node.json"

    @property
    def agent_file(self) -> Path:
        """Where replicas and `status` find the running agent: JSON url and token, 0600. `RAYMART_AGENT_FILE`."""
        return self.root / "agent.json"

    @property
    def models(self) -> Path:
        """The model cache, unless RAYMART_MODEL_CACHE names another place."""
        return self.root / "models"

    @property
    def ray(self) -> Path:
        """The files of the machine's own Ray."""
        return self.root / "ray"

    @property
    def membership(self) -> Path:
        """What a house pool's Ray cluster is joined with."""
        return self.root / "membership"

    @property
    def lock(self) -> Path:
        """Held while an agent runs."""
        return self.root / "agent.lock"

    def create(self) -> None:
        """Make the directory, closed to others."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def forget(self) -> None:
        """Delete key and identity; the next join starts anew."""
        for path in (self.enrolment, self.key, self.next_key, self.agent_file):
            path.unlink(missing_ok=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every other agent out of this directory. Raises: AgentRunning.

        The kernel drops the lock with the process, so that a SIGKILL leaves no stale one.
        """
        self.create()
        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AgentRunning(
                    f"another agent runs with {self.root}; stop it, or give this one its own --state-dir"
                ) from None
            yield
