"""Documents as files: `GET /billing/invoices/{id}.pdf`, `.csv`, `/billing/credit-notes/{id}.pdf`, and for providers
`/billing/self-billing/{number}.pdf`, `.csv`.

For those who may read the organization's billing (`accounts/permissions.py`), with an access token in the `Authorization` header. What
is another organization's is answered as what does not exist.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raymart_billing import invoices
from raymart_billing.invoices import Readable
from raymart_billing.self_billing import readable_self_billing
from raymart_core.errors import DomainError, Forbidden, NotAuthenticated, NotFound, Overloaded
from raymart_core.ids import Prefix, parse
from raymart_graphql.principal import Principal, identify
from raymart_graphql.reading import Reading
from raymart_graphql.rest.failures import failure
from raymart_graphql.services import Services
from raymart_marketplace.accounts.permissions import Permission

log = structlog.get_logger()

RENDERED_AT_ONCE_MAX = 2
"""PDFs set at one time: each takes a core for about 0.1 s, a long one for seconds."""
RENDER_WAIT_S = 10.0
RENDER_TIMEOUT_S = 60.0

Reader = Callable[[AsyncSession, str], Awaitable[Readable | None]]
"""Finds a document by what the path calls it; ValueError for what is no name of one."""


def document_routes(services: Services) -> list[Route]:
    """The routes; each file is made anew, and no cache may keep it."""
    documents = Documents(services)
    return [
        Route("/billing/invoices/{document}.pdf", documents.invoice_pdf, methods=["GET"]),
        Route("/billing/invoices/{document}.csv", documents.invoice_csv, methods=["GET"]),
        Route("/billing/credit-notes/{document}.pdf", documents.credit_note_pdf, methods=["GET"]),
        Route("/billing/self-billing/{document}.pdf", documents.self_billing_pdf, methods=["GET"]),
        Route("/billing/self-billing/{document}.csv", documents.self_billing_csv, methods=["GET"]),
    ]


class Documents:
    """Answers for documents."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._turns = asyncio.Semaphore(RENDERED_AT_ONCE_MAX)

    async def invoice_pdf(self, request: Request) -> Response:
        """An invoice as PDF."""
        return await self._answer(request, self._invoice, self._pdf)

    async def invoice_csv(self, request: Request) -> Response:
        """The lines of an invoice as CSV."""
        return await self._answer(request, self._invoice, _csv)

    async def credit_note_pdf(self, request: Request) -> Response:
        """A credit note as PDF."""
        return await self._answer(request, _credit_note, self._pdf)

    async def self_billing_pdf(self, request: Request) -> Response:
        """A self-billing invoice as PDF."""
        return await self._answer(request, readable_self_billing, self._pdf)

    async def self_billing_csv(self, request: Request) -> Response:
        """The lines of a self-billing invoice as CSV."""
        return await self._answer(request, readable_self_billing, _csv)

    async def _answer(
        self,
        request: Request,
        reader: Reader,
        show: Callable[[Readable], Awaitable[Response]],
    ) -> Response:
        try:
            response = await show(await self._read(request, reader))
        except DomainError as error:
            response = failure(error)
        response.headers["cache-control"] = "private, no-store"
        response.headers["x-content-type-options"] = "nosniff"
        return response

    async def _read(self, request: Request, reader: Reader) -> Readable:
        """The document that the path names. Raises: NotAuthenticated, Forbidden, NotFound."""
        reading = Reading(self._services.sessions)
        try:
            principal = await self._person(request, reading)
            missing = NotFound(f"there is no such document for you: {request.path_params['document'][:60]!r}")
            try:
                async with reading.session() as session:
                    readable = await reader(session, request.path_params["document"])
            except ValueError:
                raise missing from None
            if readable is None or not _may_see(principal, readable):
                raise missing
            return readable
        finally:
            await reading.aclose()

    async def _person(self, request: Request, reading: Reading) -> Principal:
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise NotAuthenticated(
                "send `Authorization: Bearer <access token>`; the `login` mutation gives one"
            )
        principal = await identify(authorization.encode("latin-1"), self._services.authenticator, reading)
        if principal.user_id is None:
            raise Forbidden("an API key is for inference only; log in and send an access token")
        return principal

    async def _invoice(self, session: AsyncSession, name: str) -> Readable | None:
        seller = invoices.seller_of(self._services.settings)
        return await invoices.readable_invoice(session, parse(Prefix.INVOICE, name), seller=seller)

    async def _pdf(self, readable: Readable) -> Response:
        """Set the PDF in a thread, a few at a time. Raises: Overloaded."""
        try:
            async with asyncio.timeout(RENDER_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded("many documents are being made; try again", retry_after_s=5) from None
        try:
            fonts_dir = self._services.settings.invoice_fonts_dir
            async with asyncio.timeout(RENDER_TIMEOUT_S):
                pdf = await asyncio.to_thread(invoices.render_pdf, readable.sheet, fonts_dir=fonts_dir)
        finally:
            self._turns.release()
        return _file(pdf, f"{readable.name}.pdf", "application/pdf")


async def _credit_note(session: AsyncSession, name: str) -> Readable | None:
    return await invoices.readable_credit_note(session, parse(Prefix.CREDIT_NOTE, name))


async def _csv(readable: Readable) -> Response:
    assert readable.csv is not None, "credit notes have no such route"
    return _file(readable.csv, f"{readable.name}.csv", "text/csv; charset=utf-8")


def _may_see(principal: Principal, readable: Readable) -> bool:
    return principal.may(Permission.BILLING_READ, readable.organization_id)


def _file(content: bytes, name: str, media_type: str) -> Response:
    return Response(
        content, media_type=media_type, headers={"content-disposition": f'inline; filename="{name}"'}
    )
