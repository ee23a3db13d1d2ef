"""Background work of credits."""

from collections.abc import Sequence

from raymart_billing.credits.grants import expire_due
from raymart_billing.work import Context, Periodic


async def _expire(context: Context) -> None:
    await expire_due(context.sessions)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="credits.expire", handle=_expire, every_s=60.0, timeout_s=120.0),
)
