"""`raymart payouts wallet|earnings|history|documents|document`: what one provider sees of its payouts."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices import Readable, render_pdf
from raymart_billing.payout_wallets import NotPayable, PayoutWallet, payable_wallet
from raymart_billing.payouts.models import Earning, Epoch, ItemState, PayoutBatch, PayoutItem, PayoutPart
from raymart_billing.payouts.provider_view import (
    UNPAID_IN_WORDS,
    epoch_sums,
    next_payout,
    payment_state,
)
from raymart_billing.self_billing import SelfBillingInvoice, readable_self_billing
from raymart_billing.solana.addresses import explorer_url
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, parse
from raymart_core.money import Asset, Money
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.service import provider_by_slug

Result = TypeVar("Result")
LISTING_MAX = 1_000
ProviderOption = Annotated[str, typer.Option("--provider", help="Slug, or id such as prov_0199...")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]


def payouts_wallet(provider: ProviderOption, output: OutputOption = Output.TABLE) -> None:
    """List the payout wallets that a provider has chosen, newest first, and say whether it can be paid now."""

    async def read(
        session: AsyncSession, provider_id: UUID
    ) -> tuple[NotPayable | None, list[dict[str, object]]]:
        standing = await payable_wallet(session, provider_id)
        chosen = await session.scalars(
            select(PayoutWallet)
            .where(PayoutWallet.provider_id == provider_id)
            .order_by(PayoutWallet.id.desc())
            .limit(LISTING_MAX)
        )
        rows: list[dict[str, object]] = [
            {
                "address": wallet.address,
                "chosen_at": wallet.created_at,
                "payable_from": wallet.payable_from,
                "check": wallet.check_state.value,
                "finding": wallet.check_finding,
                "warnings": ", ".join(wallet.warnings) or None,
                "ended": None if wallet.end_reason is None else wallet.end_reason.value,
                "ended_at": wallet.ended_at,
            }
            for wallet in chosen
        ]
        return (standing if isinstance(standing, NotPayable) else None), rows

    blocked, rows = _of_provider(provider, read)
    columns = ("address", "chosen_at", "payable_from", "check", "finding", "warnings", "ended", "ended_at")
    print_rows(rows, columns=columns, output=output)
    typer.echo(
        "can be paid now" if blocked is None else f"cannot be paid now: {blocked.in_words()}", err=True
    )


def payouts_earnings(provider: ProviderOption, output: OutputOption = Output.TABLE) -> None:
    """List what a provider earned by epoch, what was paid of it and why not, newest first; then the next payout."""

    async def read(session: AsyncSession, provider_id: UUID) -> tuple[str, list[dict[str, object]]]:
        coming = await next_payout(session, provider_id)
        rows = await session.execute(
            select(Earning, Epoch, PayoutItem)
            .join(Epoch, Epoch.id == Earning.epoch_id)
            .outerjoin(
                PayoutItem,
                (PayoutItem.provider_id == Earning.provider_id)
                & (PayoutItem.epoch_id == Earning.epoch_id)
                & (PayoutItem.state != ItemState.RETURNED),
            )
            .where(Earning.provider_id == provider_id)
            .order_by(Epoch.number.desc())
            .limit(LISTING_MAX)
        )
        shown = f"next payout: at most {_usdc(coming.at_most)} USDC"
        return (
            shown if coming.blocked is None else f"{shown}, but {coming.blocked}",
            [_earning_row(earning, epoch, item) for earning, epoch, item in rows],
        )

    coming, rows = _of_provider(provider, read)
    columns = (
        "epoch", "ends_at", "gross_usd", "clawback_usd", "holdback_usd", "matures_at", "payable_usd", "paid_usdc",
        "carried_over_usd", "unpaid_because",
    )  # fmt: skip
    print_rows(rows, columns=columns, output=output)
    typer.echo(coming, err=True)


def payouts_history(provider: ProviderOption, output: OutputOption = Output.TABLE) -> None:
    """List a provider's payments with their transactions, newest first."""
    chain_id = control_settings().solana_chain_id

    async def read(session: AsyncSession, provider_id: UUID) -> list[dict[str, object]]:
        rows = await session.execute(
            select(PayoutItem, PayoutBatch, PayoutPart, Epoch.number)
            .join(PayoutBatch, PayoutBatch.id == PayoutItem.batch_id)
            .outerjoin(PayoutPart, PayoutPart.id == PayoutItem.part_id)
            .join(Epoch, Epoch.id == PayoutItem.epoch_id)
            .where(PayoutItem.provider_id == provider_id)
            .order_by(PayoutItem.id.desc())
            .limit(LISTING_MAX)
        )
        return [_payment_row(item, batch, part, number, chain_id) for item, batch, part, number in rows]

    columns = (
        "epoch", "batch", "amount_usdc", "state", "wallet", "reason", "signature", "finalized_at", "explorer_url",
    )  # fmt: skip
    print_rows(_of_provider(provider, read), columns=columns, output=output)


def payouts_documents(provider: ProviderOption, output: OutputOption = Output.TABLE) -> None:
    """List a provider's self-billing invoices, newest first."""

    async def read(session: AsyncSession, provider_id: UUID) -> list[dict[str, object]]:
        found = await session.scalars(
            select(SelfBillingInvoice)
            .where(SelfBillingInvoice.provider_id == provider_id)
            .order_by(SelfBillingInvoice.id.desc())
            .limit(LISTING_MAX)
        )
        return [
            {
                "number": each.number,
                "issued_at": each.created_at,
                "supplied_usd": _usd(each.earned_nano_usd),
                "paid_usdc": _usdc(each.paid_micro_usdc),
                "closing_usd": _usd(each.closing_nano_usd),
            }
            for each in found
        ]

    columns = ("number", "issued_at", "supplied_usd", "paid_usdc", "closing_usd")
    print_rows(_of_provider(provider, read), columns=columns, output=output)


def payouts_document(
    number: Annotated[str, typer.Argument(help="Such as RMS-2026-000001.")],
    file: Annotated[Path, typer.Option("--file", help="Where to write it; .csv for its lines, else PDF.")],
) -> None:
    """Write a self-billing invoice as PDF or CSV."""
    settings = control_settings()

    async def run(sessions: Sessions) -> Readable | None:
        async with session_scope(sessions) as session:
            return await readable_self_billing(session, number)

    try:
        readable = with_database(settings.database_url, run)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if readable is None:
        raise NotFound(f"there is no self-billing invoice {number!r}; `raymart payouts documents` lists them")
    if file.suffix == ".csv":
        assert readable.csv is not None, "self-billing invoices have lines"
        file.write_bytes(readable.csv)
    else:
        file.write_bytes(render_pdf(readable.sheet, fonts_dir=settings.invoice_fonts_dir))
    typer.echo(f"{readable.name} is in {file}")


COMMANDS: Sequence[tuple[str, Callable[..., None]]] = (
    ("wallet", payouts_wallet),
    ("earnings", payouts_earnings),
    ("history", payouts_history),
    ("documents", payouts_documents),
    ("document", payouts_document),
)


def add_provider_view(group: typer.Typer) -> None:
    """Make the commands part of `group`."""
    for name, command in COMMANDS:
        group.command(name)(command)


def _of_provider(which: str, read: Callable[[AsyncSession, UUID], Awaitable[Result]]) -> Result:
    """What `read` finds of the provider with this slug or id. Raises: NotFound."""

    async def run(sessions: Sessions) -> Result:
        async with session_scope(sessions) as session:
            try:
                provider_id: UUID | None = parse(Prefix.PROVIDER, which)
            except ValueError:
                provider = await provider_by_slug(session, which)
                provider_id = None if provider is None else provider.id
            if provider_id is None:
                raise NotFound(f"there is no provider {which!r}; `raymart provider list` shows them")
            return await read(session, provider_id)

    return with_database(database_settings().database_url, run)


def _earning_row(earning: Earning, epoch: Epoch, item: PayoutItem | None) -> dict[str, object]:
    sums = epoch_sums(earning, item)
    reason = earning.unpaid_reason
    return {
        "epoch": epoch.number,
        "ends_at": epoch.ends_at,
        "gross_usd": _usd(earning.gross_nano_usd),
        "clawback_usd": _usd(earning.clawback_nano_usd),
        "holdback_usd": _usd(earning.holdback_nano_usd),
        "matures_at": earning.matures_at,
        "payable_usd": _usd(sums.payable),
        "paid_usdc": None if item is None else _usdc(item.amount_micro_usdc),
        "carried_over_usd": _usd(sums.carried_over),
        "unpaid_because": None if reason is None or item is not None else UNPAID_IN_WORDS[reason],
    }


def _payment_row(
    item: PayoutItem, batch: PayoutBatch, part: PayoutPart | None, number: int, chain_id: str
) -> dict[str, object]:
    # That a part is final says nothing of an item that was taken out of it.
    paying = part if item.state is ItemState.PAID else None
    signature = None if paying is None else paying.signature
    return {
        "epoch": number,
        "batch": batch.number,
        "amount_usdc": _usdc(item.amount_micro_usdc),
        "state": payment_state(item, batch, part).value,
        "wallet": item.wallet,
        "reason": item.reason,
        "signature": signature,
        "finalized_at": None if paying is None else paying.finalized_at,
        "explorer_url": None if signature is None else explorer_url(signature, chain_id),
    }


def _usd(nano_usd: int) -> str:
    return f"{Money(nano_usd).decimal():f}"


def _usdc(micro_usdc: int) -> str:
    return f"{Money(micro_usdc, Asset.USDC).decimal():f}"
