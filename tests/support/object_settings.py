"""Settings of a control plane that keeps files."""

from raymart_marketplace.settings import ControlSettings


def object_settings(**values: object) -> ControlSettings:
    """Settings that name no database and no store but those of `values`."""
    return ControlSettings(database_url="postgresql://-", token_secret="t" * 32, **values)
