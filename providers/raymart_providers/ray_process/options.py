"""What the person who runs `raymart-provider join` chooses of the machine's Ray."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from raymart_providers.errors import ProviderError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Defaults fit a single machine of a provider."""

    host: str = LOOPBACK
    """Address that Ray listens on: loopback, or the machine's address in a private network that its pool shares."""
    head: str | None = None
    """host:port of another machine's head, which this one joins; None: a provider's machine runs its own."""
    token_path: Path | None = None
    """Token of that head's cluster; by default one of this machine's own."""
    cpus: int | None = None
    """CPUs that Ray may give to replicas; None for all."""
    direct: bool = False
    """Whether the gateway reaches replicas itself, over the private network of a house pool."""


def ray_options(
    *, host: str, head: str | None, token_path: Path | None, cpus: int | None, direct: bool = False
) -> RayOptions:
    """The options as they were given. Raises: ProviderError for what cannot work or would be open to everybody."""
    try:
        address = ip_address(host)
    except ValueError:
        raise ProviderError(f"--ray-host {host!r} is no IP address; give one of this machine's") from None
    if address.is_unspecified or not address.is_private:
        raise ProviderError(
            f"--ray-host {host} would offer this machine to everybody; give loopback or a private address"
        )
    if (head is None) != (token_path is None):
        raise ProviderError("--ray-address and --ray-token-file belong together: whose head, and its token")
    if head is not None and not head.rpartition(":")[2].isdecimal():
        raise ProviderError(f"--ray-address {head!r} is not host:port")
    if head is not None and address.is_loopback and not head.startswith(f"{LOOPBACK}:"):
        raise ProviderError(
            f"the head at {head} cannot reach this machine on {host}; give --ray-host with its private address"
        )
    if token_path is not None and not token_path.is_file():
        raise ProviderError(
            f"--ray-token-file {token_path} is no file; copy the head's `ray/token` there, mode 0600"
        )
    return RayOptions(
        host=host,
        head=head,
        token_path=token_path.resolve() if token_path is not None else None,
        cpus=cpus,
        direct=direct,
    )
