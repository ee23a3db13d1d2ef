"""What `join` and `controller` have in common: who dials, and running until a signal."""

import asyncio
import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvloop

from raymart_core.logs import configure_logs
from raymart_providers.errors import NotEnrolled, ProviderError
from raymart_providers.identity import NodeKey, Role, load_enrolment
from raymart_providers.inventory import hardware
from raymart_providers.link.handshake import Credentials
from raymart_providers.link.server_address import link_url
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir


class Runnable(Protocol):
    """An agent or a controller."""

    def stop(self) -> None:
        """Drain and end."""

    async def run(self) -> None:
        """Until `stop`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Joining:
    """What `join` and `controller` have in common."""

    state_dir: Path
    server: str | None
    name: str | None
    token: str | None
    token_file: Path | None
    role: Role
    allow_plaintext: bool

    def credentials(self, settings: AgentSettings) -> tuple[Credentials, str]:
        """Who dials, and the URL to dial. Raises: ProviderError."""
        state = StateDir(self.state_dir)
        enrolment = load_enrolment(state.enrolment)
        if enrolment is not None and (enrolment.role, self.name or enrolment.name) != (
            self.role,
            enrolment.name,
        ):
            raise ProviderError(
                f"{self.state_dir} belongs to the {enrolment.role} {enrolment.name!r}; "
                "use another --state-dir for another node"
            )
        server = self.server or (enrolment.server if enrolment else None)
        name = self.name or (enrolment.name if enrolment else None)
        if server is None or name is None:
            raise ProviderError("the first join needs --server, --name and --token-file")
        url = link_url(server, allow_plaintext=self.allow_plaintext)
        join_token = None if enrolment is not None else self._join_token()
        credentials = Credentials(
            state=state,
            key=NodeKey.load_or_create(state.key),
            role=self.role,
            name=name,
            server=server,
            hardware=hardware(
                machine_id=settings.machine_id,
                folder=settings.model_cache or state.models,
                offered=settings.gpus,
            ),
            join_token=join_token,
        )
        return credentials, url

    def _join_token(self) -> str:
        """The token that the first join spends. Raises: ProviderError when there is none."""
        token = self.token
        if token is None and self.token_file is not None:
            try:
                token = self.token_file.read_text().strip()
            except OSError as error:
                raise ProviderError(
                    f"--token-file {self.token_file} cannot be read: {error.strerror}"
                ) from None
        if not token:
            raise NotEnrolled(
                f"{self.state_dir} holds no node identity; "
                "create a join token in the marketplace and pass it by --token-file"
            )
        return token


def serve(
    make: Callable[[Credentials, str], Runnable],
    settings: AgentSettings,
    joining: Joining,
    *,
    check: Callable[[Credentials], None] | None = None,
) -> None:
    """Run what `make` makes until SIGTERM or Ctrl-C; `check` may refuse before anything is begun.

    Raises: ProviderError, WeightsUnavailable.
    """
    configure_logs(process=f"raymart-{joining.role}", level=settings.log_level)
    with StateDir(joining.state_dir).hold():
        credentials, url = joining.credentials(settings)
        if check is not None:
            check(credentials)
        uvloop.run(_until_signalled(lambda: make(credentials, url)))


async def _until_signalled(make: Callable[[], Runnable]) -> None:
    runnable = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runnable.stop)
    await runnable.run()
