"""The QR code of a top-up in USDC as a file: `GET /billing/usdc-top-ups/{reference}.svg`.

For those who may read the customer's billing, with an access token in the `Authorization` header. What is another
customer's is answered as what does not exist.
"""

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raymart_billing.usdc_deposits import qr
from raymart_billing.usdc_deposits.models import UsdcTopUp
from raymart_core.errors import DomainError, Forbidden, NotAuthenticated, NotFound
from raymart_graphql.principal import identify
from raymart_graphql.reading import Reading
from raymart_graphql.rest.failures import failure
from raymart_graphql.services import Services
from raymart_marketplace.accounts.permissions import Permission


def top_up_code_routes(services: Services) -> list[Route]:
    """The route; a request never changes, but who may see it does, so no shared cache may keep it."""
    codes = TopUpCodes(services)
    return [Route("/billing/usdc-top-ups/{reference}.svg", codes.svg, methods=["GET"])]


class TopUpCodes:
    """Answers for codes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def svg(self, request: Request) -> Response:
        """The code of one request to pay."""
        try:
            response = Response(qr.as_svg(await self._url(request)), media_type="image/svg+xml")
            response.headers["cache-control"] = "private, max-age=3600"
        except DomainError as error:
            response = failure(error)
            response.headers["cache-control"] = "private, no-store"
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["content-security-policy"] = "default-src 'none'"
        return response

    async def _url(self, request: Request) -> str:
        """The Solana Pay URL of the request that the path names. Raises: NotAuthenticated, Forbidden, NotFound."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise NotAuthenticated(
                "send `Authorization: Bearer <access token>`; the `login` mutation gives one"
            )
        reading = Reading(self._services.sessions)
        try:
            principal = await identify(authorization.encode("latin-1"), self._services.authenticator, reading)
            if principal.user_id is None:
                raise Forbidden("an API key is for inference only; log in and send an access token")
            reference = str(request.path_params["reference"])
            found = None
            if reference.isascii() and reference.isalnum():  # The database takes no text with a zero byte.
                async with reading.session() as session:
                    found = await session.scalar(select(UsdcTopUp).where(UsdcTopUp.reference == reference))
        finally:
            await reading.aclose()
        if found is None or not principal.may(Permission.BILLING_READ, found.organization_id):
            raise NotFound(f"there is no such request to pay for you: {reference[:60]!r}")
        return found.url
