"""Which clients there are. Each has a folder with its pins; its checks are scripts there that exit non-zero."""

from dataclasses import dataclass
from enum import StrEnum


class Suite(StrEnum):
    """What `make` runs together."""

    BASIC = "basic"
    """`make acceptance`: Python clients of every surface, a minute."""
    CLIENTS = "clients"
    """`make acceptance-clients`: everybody's libraries for inference, and the tools that measure it."""
    GRAPHQL = "graphql"
    """`make acceptance-graphql`."""
    HEAVY = "heavy"
    """`make acceptance-heavy`: gigabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Somebody else's program, and what we check with it."""

    name: str
    """Also its folder's."""
    checks: tuple[str, ...]
    """Scripts in its folder, by their ending: Python, Node or shell."""
    suites: frozenset[Suite]
    limit_s: float = 240.0
    """A check that takes longer has failed."""


BASIC = frozenset({Suite.BASIC, Suite.CLIENTS})
CLIENTS = frozenset({Suite.CLIENTS})

ALL = (
    Client(name="openai_python", checks=("chat.py", "embeddings.py", "images.py", "limits.py"), suites=BASIC),
    Client(name="openai_node", checks=("check.mjs",), suites=CLIENTS),
    Client(name="litellm", checks=("check.py",), suites=CLIENTS),
    Client(name="langchain", checks=("check.py",), suites=CLIENTS),
    Client(name="llama_index", checks=("check.py",), suites=CLIENTS),
    Client(name="instructor", checks=("check.py",), suites=CLIENTS),
    Client(name="ai_sdk", checks=("check.mjs",), suites=CLIENTS),
    Client(name="guidellm", checks=("check.py",), suites=CLIENTS),
    Client(name="aiperf", checks=("check.py",), suites=CLIENTS),
    Client(name="webuiapi", checks=("a1111.py",), suites=BASIC),
    Client(name="gql", checks=("chat.py",), suites=BASIC | {Suite.GRAPHQL}),
    Client(name="openapi_client", checks=("generated.py",), suites=frozenset({Suite.BASIC})),
    Client(
        name="graphql",
        checks=("tools.sh", "audit.mjs", "graphql_ws.mjs", "graphql_sse.mjs", "apollo.mjs", "urql.mjs"),
        suites=frozenset({Suite.GRAPHQL}),
    ),
    Client(name="open_webui", checks=("check.py",), suites=frozenset({Suite.HEAVY}), limit_s=420.0),
)
