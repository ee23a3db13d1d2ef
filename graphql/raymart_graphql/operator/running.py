"""What each command starts with: its settings, and sessions on the database."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from raymart_core.settings import ProcessSettings
from raymart_graphql.operator.settings import DatabaseSettings, StackSettings
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions
from raymart_marketplace.settings import ControlSettings

Result = TypeVar("Result")
Settings = TypeVar("Settings", bound=ProcessSettings)


def with_database(url: str, work: Callable[[Sessions], Coroutine[None, None, Result]]) -> Result:
    """Run `work` with sessions on the database of `url`."""

    async def run() -> Result:
        engine = make_engine(url, pool_size=2)
        try:
            return await work(make_sessions(engine))
        finally:
            await engine.dispose()

    return asyncio.run(run())


def settings_of(kind: type[Settings]) -> Settings:
    """Settings of this command: from the environment, and from the stack that runs here when that names no database."""
    return kind(_env_file=StackSettings().file)  # type: ignore[call-arg]  # the mypy plugin leaves it out


def database_settings() -> DatabaseSettings:
    """Settings of this command."""
    return settings_of(DatabaseSettings)


def control_settings() -> ControlSettings:
    """Settings of the control plane."""
    return settings_of(ControlSettings)
