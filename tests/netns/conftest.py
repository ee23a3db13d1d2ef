"""A network of machines, and the whole marketplace on it. Skipped, with the reason, where that cannot be had."""

from collections.abc import Iterator

import pytest

from support.net_market import NetMarket
from support.netns import Machine, Network, missing, network


@pytest.fixture(scope="session")
def _namespaces() -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def net(_namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network of this module's own."""
    with network(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture(scope="module")
def market_settings() -> dict[str, str]:
    """What a module wants of the marketplace, as environment variables."""
    return {}


@pytest.fixture(scope="module")
def market(net: Network, market_settings: dict[str, str]) -> Iterator[NetMarket]:
    """The marketplace at http://market:8000, without a machine that serves."""
    running = NetMarket(net.machine("market"), net.directory / "market", settings=market_settings)
    try:
        running.start()
        running.sell_only_chat()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def customer(net: Network) -> Machine:
    """The customers' machine: tests enter it."""
    return net.machine("customer")


@pytest.fixture(scope="module")
def stranger(net: Network) -> Machine:
    """A machine on the same network that belongs to nobody we know."""
    return net.machine("stranger")
