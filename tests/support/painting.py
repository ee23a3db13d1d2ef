"""The replica of a seller of pictures."""

from collections.abc import Awaitable, Callable

from support.api_server import Seller
from support.scripted_images import asked, finish, made, progress, steps_of
from support.scripted_replica import Exchange

Script = Callable[[Exchange], Awaitable[None]]


def painting(seller: Seller, *, then: Callable[[Exchange], None] | None = None) -> Script:
    """An honest engine, or one that does something else after its first step."""

    async def paint(exchange: Exchange) -> None:
        request = asked(exchange)
        exchange.head()
        total = steps_of(request) * request.count
        for step in range(1, total + 1):
            progress(exchange, step, total)
            if then is not None:
                return then(exchange)
            if step % steps_of(request) == 0:
                made(exchange, step // steps_of(request) - 1)
        return finish(exchange, revision=seller.digest)

    return paint
