"""One whole stack for all tests of a file."""

import socket
from collections.abc import Iterator

import pytest

from raymart_local.ports import LOOPBACK
from support.running_stack import RunningStack


@pytest.fixture(scope="module")
def stack_settings() -> dict[str, str]:
    """What a file wants of its stack, as environment variables."""
    return {}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, stack_settings: dict[str, str]) -> Iterator[RunningStack]:
    """A ready stack with slow replicas and a hold TTL of 20 s. It ends with its file: idle, it costs a tenth of a core."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    running = RunningStack(tmp_path_factory.mktemp("stack") / "var", port=port, settings=stack_settings)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        running.postgres.destroy()


@pytest.fixture
def ready(stack: RunningStack) -> RunningStack:
    """The stack with both providers in routing again, whatever the test before did to it."""
    stack.wait_until(
        lambda: stack.live_providers() == {"alpha", "beta"}, timeout_s=60, what="both providers are live"
    )
    return stack
