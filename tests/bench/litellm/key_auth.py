"""LiteLLM's custom authentication: one key by its hash, with limits that LiteLLM keeps in Redis. Runs in LiteLLM's environment."""

import hashlib

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

_HASH = hashlib.sha256(b"sk-bench").hexdigest()


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The caller. Raises: PermissionError for another key."""
    hashed = hashlib.sha256(api_key.encode()).hexdigest()
    if hashed != _HASH:
        raise PermissionError("another key")
    return UserAPIKeyAuth(
        api_key=hashed,
        user_id="bench",
        tpm_limit=10**9,
        rpm_limit=10**8,
        max_parallel_requests=10_000,
        max_budget=1e6,
    )
