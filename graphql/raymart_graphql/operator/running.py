"""What each command starts with: its settings, and sessions on the database."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from raymart_graphql.operator.settings import DatabaseSettings
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions
from raymart_marketplace.settings import ControlSettings

Result = TypeVar("Result")


def with_database(url: str, work: Callable[[Sessions], Coroutine[None, None, Result]]) -> Result:
    """Run `work` with sessions on the database of `url`."""

    async def run() -> Result:
        engine = make_engine(url, pool_size=2)
        try:
            return await work(make_sessions(engine))
        finally:
            await engine.dispose()

    return asyncio.run(run())


def database_settings() -> DatabaseSettings:
    """Settings of this command, from the environment."""
    return DatabaseSettings()  # type: ignore[call-arg]  # the values come from the environment


def control_settings() -> ControlSettings:
    """Settings of the control plane, from the environment."""
    return ControlSettings()  # type: ignore[call-arg]  # the values come from the environment
