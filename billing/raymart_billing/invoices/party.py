"""Who sells and who buys, as it is frozen into a document; and the customer's own record of it."""

import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.models import BillingProfile
from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.addresses import normal_email
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.settings import ControlSettings

NAME_CHARACTERS_MAX = 200
ADDRESS_CHARACTERS_MAX = 500
ADDRESS_LINES_MAX = 6
TAX_ID_CHARACTERS_MAX = 50
_COUNTRY = re.compile(r"[A-Z]{2}")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of what is not shown: controls, marks that turn the direction of text, private use."""
_JOINERS = frozenset("\u200c\u200d")
"""Persian and Indic names are spelled with these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A side of a document."""

    legal_name: str
    address: str
    """Lines, one below the other; may be empty."""
    country: str
    """ISO 3166, two letters; may be empty."""
    tax_id: str | None
    email: str

    def frozen(self) -> dict[str, Any]:
        """As a document keeps it."""
        return asdict(self)


def seller_of(settings: ControlSettings) -> Party:
    """The marketplace itself."""
    return Party(
        legal_name=settings.seller_legal_name,
        address=settings.seller_address,
        country=settings.seller_country,
        tax_id=settings.seller_tax_id,
        email=settings.seller_email,
    )


async def buyer_of(session: AsyncSession, organization_id: UUID) -> Party:
    """The customer by its billing profile; by its name alone when it has none."""
    profile = await session.get(BillingProfile, organization_id)
    if profile is None:
        organization = await session.get_one(Organization, organization_id)
        return Party(legal_name=organization.name, address="", country="", tax_id=None, email="")
    return Party(
        legal_name=profile.legal_name,
        address=profile.address,
        country=profile.country,
        tax_id=profile.tax_id,
        email=profile.email,
    )


async def set_billing_profile(
    session: AsyncSession, *, organization_id: UUID, party: Party, actor_id: UUID | None
) -> BillingProfile:
    """Keep `party` as the one to whom later invoices are made out; those that are final stay as they are.

    Raises: InvalidRequest naming the field.
    """
    values = _checked(party).frozen() | {"updated_by": actor_id}
    await session.execute(
        insert(BillingProfile)
        .values(organization_id=organization_id, **values)
        .on_conflict_do_update(
            index_elements=[BillingProfile.organization_id],
            set_=values | {"updated_at": func.clock_timestamp()},
        )
    )
    return await session.get_one(BillingProfile, organization_id, populate_existing=True)


def _checked(party: Party) -> Party:
    """`party` without surplus blanks. Raises: InvalidRequest."""
    lines = [_plain(line, "address") for line in party.address.strip().splitlines()]
    if len(lines) > ADDRESS_LINES_MAX:
        raise InvalidRequest(f"an address of {len(lines)} lines; {ADDRESS_LINES_MAX} fit", param="address")
    country = party.country.strip().upper()
    if not _COUNTRY.fullmatch(country):
        raise InvalidRequest(
            f"{party.country[:20]!r} is no country; give the two letters of ISO 3166, such as 'DE'",
            param="country",
        )
    tax_id = _plain(party.tax_id or "", "tax_id")
    return Party(
        legal_name=_sized(_plain(party.legal_name, "legal_name"), NAME_CHARACTERS_MAX, "legal_name"),
        address=_sized("\n".join(line for line in lines if line), ADDRESS_CHARACTERS_MAX, "address"),
        country=country,
        tax_id=_sized(tax_id, TAX_ID_CHARACTERS_MAX, "tax_id") if tax_id else None,
        email=normal_email(party.email),
    )


def _sized(text: str, characters_max: int, field: str) -> str:
    if not 1 <= len(text) <= characters_max:
        raise InvalidRequest(f"{field} of {len(text)} characters; give 1 to {characters_max}", param=field)
    return text


def _plain(text: str, field: str) -> str:
    """`text` with single blanks and nothing that is not shown. Raises: InvalidRequest."""
    unseen = next(
        (char for char in text if unicodedata.category(char) in _UNSEEN and char not in _JOINERS), None
    )
    if unseen is not None:
        raise InvalidRequest(
            f"{field} holds U+{ord(unseen):04X}, which cannot be printed; remove it", param=field
        )
    return " ".join(text.split())
