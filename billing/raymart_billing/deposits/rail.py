"""The card rail as a process has it: the processor and the rules, from the settings."""

from dataclasses import dataclass

from raymart_billing.deposits.checkout import CardRules
from raymart_billing.deposits.stripe_client import StripeProcessor
from raymart_core.errors import Unavailable
from raymart_core.money import Money
from raymart_marketplace.settings import ControlSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRail:
    """What creating, refunding and checking deposits by card needs. Close the processor when the process ends."""

    processor: StripeProcessor
    rules: CardRules


def open_rail(settings: ControlSettings) -> CardRail | None:
    """The rail of `settings`; None without an API key. Connects when it is first used."""
    if settings.stripe_api_key is None:
        return None
    return CardRail(
        processor=StripeProcessor(
            settings.stripe_api_key.get_secret_value(), api_base=settings.stripe_api_base
        ),
        rules=CardRules(
            amount_min=Money.parse(str(settings.deposit_usd_min)),
            amount_max=Money.parse(str(settings.deposit_usd_max)),
            return_url=settings.deposit_return_url,
        ),
    )


def required(rail: CardRail | None) -> CardRail:
    """`rail`. Raises: Unavailable when card top-ups are not configured."""
    if rail is None:
        raise Unavailable(
            "card top-ups are not configured here; the operator sets RAYMART_STRIPE_API_KEY and "
            "RAYMART_STRIPE_WEBHOOK_SECRETS"
        )
    return rail
