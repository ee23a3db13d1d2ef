"""The house pool's part of the embedded stack: its Ray cluster, its providers' node agents and its controller."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raymart_local.control_plane import API
from raymart_local.layout import Layout
from raymart_local.part import Part
from raymart_local.ports import LOOPBACK
from raymart_local.program import Program
from raymart_local.ray_nodes import HEAD, RayCluster

CPUS_PER_NODE = 4
"""What each node offers to Ray's scheduler: room for eight replicas, the demo's and those of models that people import
and roll out. Both share the machine's cores."""

_AGENT_GRACE_S = 25.0
"""An agent lets running requests end for 20 s."""
_PROVIDER_COMMAND = str(Path(sys.executable).parent / "raymart-provider")


@dataclass(frozen=True, slots=True)
class DemoNode:
    """A machine of a demo provider; the seed makes both, and a join token in a file of the node's name."""

    name: str
    provider: str
    """Slug."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that run on this machine."""
        return (f"agent-{self.name}", f"ray-{self.name}")


DEMO_NODES = (DemoNode("demo-a", "alpha"), DemoNode("demo-b", "beta"))
MODELS_PER_NODE = 3
"""Models that the seed has each provider offer."""
CONTROLLER = "controller"


class HousePool:
    """Two providers' machines and the controller, on this one machine."""

    def __init__(self, *, layout: Layout, environment: Mapping[str, str], server_url: str) -> None:
        self._layout = layout
        self._server_url = server_url
        self._cluster = RayCluster.at(layout.ray, token_path=layout.ray_token, environment=environment)
        self._environment = environment

    def parts(self) -> Sequence[Part]:
        """The Ray head and nodes, the agents and the controller."""
        nodes = [
            self._cluster.node(
                node.name,
                provider=node.provider,
                cpus=CPUS_PER_NODE,
                agent_file=self._layout.node(node.name) / "agent.json",
            )
            for node in DEMO_NODES
        ]
        return [
            self._cluster.head_store(),
            self._cluster.head(),
            *nodes,
            *(self._agent(node.name) for node in DEMO_NODES),
            self._controller(),
        ]

    def _agent(self, name: str) -> Part:
        def program() -> Program:
            arguments = self._link_arguments(name, state_dir=self._layout.node(name))
            # Both machines are this one: here they fetch models from each other, as machines of a pool do.
            # Of its GPUs, if it has any, the stack sells nothing: its Ray nodes have none.
            env = {"RAYMART_ARTIFACT_HOST": LOOPBACK, "RAYMART_GPUS": "none", **self._environment}
            return Program(argv=(_PROVIDER_COMMAND, "join", "--ray=none", *arguments), env=env)

        return Part(name=f"agent-{name}", program=program, needs=(API,), stop_grace_s=_AGENT_GRACE_S)

    def _controller(self) -> Part:
        def program() -> Program:
            arguments = self._link_arguments(CONTROLLER, state_dir=self._layout.controller)
            argv = (_PROVIDER_COMMAND, "controller", *arguments, f"--ray-address={self._cluster.address}")
            return Program(argv=argv, env=self._cluster.environment)

        return Part(name=CONTROLLER, program=program, needs=(API, HEAD))

    def _link_arguments(self, name: str, *, state_dir: Path) -> tuple[str, ...]:
        token = self._layout.join_tokens / name
        # The seed takes the token of a node away that has enrolled; its state directory is its identity then.
        joining = (f"--token-file={token}",) if token.exists() else ()
        return (*joining, f"--server={self._server_url}", f"--name={name}", f"--state-dir={state_dir}")
