"""Access tokens that commands issue. Apart from `running`, so that other commands need no cryptography."""

from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.settings import ControlSettings


def access_tokens(settings: ControlSettings, *, ttl_s: int) -> AccessTokens:
    """Access tokens as the API issues them, but for their life."""
    return AccessTokens(
        settings.token_secret.get_secret_value().encode(),
        former_secrets=[each.get_secret_value().encode() for each in settings.former_token_secrets],
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        ttl_s=ttl_s,
    )
