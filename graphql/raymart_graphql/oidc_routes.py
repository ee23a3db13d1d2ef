"""`/auth/oidc/{provider}/start` and `/callback`: a browser on its way to an OpenID provider and back.

No token is ever in an address: the browser comes back with a one-time code, which only the page that began can trade for
a session, by GraphQL's `exchangeLoginCode`. Whatever fails brings it back too, with a code for the reason.
"""

from urllib.parse import urlencode

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from raymart_core.errors import DomainError, InvalidRequest, NotFound
from raymart_graphql.rest.failures import failure
from raymart_graphql.services import Services
from raymart_marketplace.accounts.oidc_logins import OIDC_PREFIX, STATE_TTL_S

log = structlog.get_logger(__name__)

COOKIE = "raymart_login"
QUERY_CHARACTERS_MAX = 8_192


def oidc_routes(services: Services) -> list[Route]:
    """Both routes; without providers each answers 404."""
    endpoint = OidcRoutes(services)
    return [
        Route(OIDC_PREFIX + "/{provider}/start", endpoint.start, methods=["GET"], name="oidc_start"),
        Route(OIDC_PREFIX + "/{provider}/callback", endpoint.callback, methods=["GET"], name="oidc_callback"),
    ]


class OidcRoutes:
    """The browser's side of a login."""

    def __init__(self, services: Services) -> None:
        self._logins = services.oidc_logins
        self._return_url = services.settings.login_return_url or f"{services.settings.public_url}/console/"
        self._is_secure = services.settings.public_url.startswith("https://")

    async def start(self, request: Request) -> Response:
        """Off to the provider, with a cookie that knows this browser again."""
        provider = request.path_params["provider"]
        try:
            beginning = await self._logins.begin(
                provider, challenge=request.query_params.get("challenge", "")
            )
        except (NotFound, InvalidRequest) as error:
            return failure(error)
        except DomainError as error:
            return self._back(login_error=error.code)
        response = RedirectResponse(beginning.url, status_code=303, headers=_HEADERS)
        response.set_cookie(
            COOKIE,
            beginning.cookie,
            max_age=STATE_TTL_S,
            path=OIDC_PREFIX,
            secure=self._is_secure,
            httponly=True,
            samesite="lax",  # The way back is a navigation from the provider's site.
        )
        return response

    async def callback(self, request: Request) -> Response:
        """Back from the provider: on to the page that began, with a one-time code."""
        provider = request.path_params["provider"]
        if len(request.url.query) > QUERY_CHARACTERS_MAX:
            return failure(InvalidRequest(f"a query of more than {QUERY_CHARACTERS_MAX} characters"))
        # A parameter twice means that somebody adds to the provider's answer; which one counts is nobody's guess.
        pairs = request.query_params.multi_items()
        answer = dict(pairs)
        try:
            if len(answer) < len(pairs):
                raise InvalidRequest("a parameter is there twice")
            code = await self._logins.finish(provider, answer=answer, cookie=request.cookies.get(COOKIE))
        except NotFound as error:
            return failure(error)
        except DomainError as error:
            log.info("oidc.login_failed", provider=provider[:60], code=error.code)
            return self._back(login_error=error.code)
        return self._back(login_code=code)

    def _back(self, **said: str) -> Response:
        response = RedirectResponse(
            f"{self._return_url}?{urlencode(said)}", status_code=303, headers=_HEADERS
        )
        response.delete_cookie(
            COOKIE, path=OIDC_PREFIX, secure=self._is_secure, httponly=True, samesite="lax"
        )
        return response


# The address has a secret in it: nothing may keep it, or tell it to the next page.
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
