"""The base of every process's settings: read once in main, frozen, passed down.

Names in the environment are `RAYMART_<FIELD>` unless a field names its own (`DATABASE_URL`, `REDIS_URL`, ...).
"""

from pydantic_settings import BaseSettings, SettingsConfigDict


class ProcessSettings(BaseSettings):
    """Frozen settings from the environment; an unknown name is ignored, a wrong value stops the process."""

    model_config = SettingsConfigDict(
        env_prefix="RAYMART_", frozen=True, extra="ignore", populate_by_name=True
    )
