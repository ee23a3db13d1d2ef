"""`raymart usdc`: top-ups in USDC, what arrived at the treasury, and what is decided about it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.solana.chain import Chain, open_chain
from raymart_billing.solana.chain import required as required_chain
from raymart_billing.solana.devchain.wallet import DevWallet
from raymart_billing.usdc_deposits import qr
from raymart_billing.usdc_deposits.arrivals import wallets_of
from raymart_billing.usdc_deposits.decisions import assign_deposit, deposit_of, fund_treasury
from raymart_billing.usdc_deposits.models import SenderMark, UsdcDeposit, UsdcDepositState, UsdcSender
from raymart_billing.usdc_deposits.rail import open_usdc_rail, required
from raymart_billing.usdc_deposits.refunds import RefundOrder, cancel_refund, request_refund
from raymart_billing.usdc_deposits.requests import create_top_up
from raymart_billing.usdc_deposits.scanning import last_scan, read_again, scan, undecided
from raymart_billing.usdc_deposits.senders import mark_sender, unmark_sender
from raymart_billing.usdc_deposits.sighting import look
from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_graphql.operator.arguments import actor_id, organization_id
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope

Result = TypeVar("Result")
LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
CustomerOption = Annotated[str, typer.Option(help="Slug or id of the customer.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept for good.")]
ActorOption = Annotated[str, typer.Option(help="E-mail of the person who decides this.")]
SignatureArgument = Annotated[str, typer.Argument(help="The transaction that paid, base58.")]
AccountOption = Annotated[
    str | None, typer.Option(help="Which of our accounts, for a transaction that paid two of them.")
]

usdc = typer.Typer(no_args_is_help=True)


@usdc.command("request")
def usdc_request(
    customer: CustomerOption,
    actor: ActorOption,
    amount: Annotated[str | None, typer.Option(help="USDC such as 25.5; any amount unless given.")] = None,
    key: Annotated[str | None, typer.Option(help="The same key gives the same request.")] = None,
) -> None:
    """Ask for a top-up: prints the Solana Pay URL, and its QR code to hold a phone to."""
    settings = control_settings()
    rail = required(open_usdc_rail(settings))

    async def run(session: AsyncSession) -> str:
        row = await create_top_up(
            session,
            rail,
            organization_id=await organization_id(session, customer),
            amount=_usdc(amount),
            key=key or new_id().hex,
            actor_id=await actor_id(session, actor),
        )
        return row.url

    url = _in_session(run, settings.database_url)
    typer.echo(qr.as_text(url))
    typer.echo(url)


@usdc.command("deposits")
def usdc_deposits(
    customer: Annotated[str | None, typer.Option(help="Only of this customer: slug or id.")] = None,
    state: Annotated[
        UsdcDepositState | None, typer.Option(help="Only in this state; `final` waits for a person.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List payments to the treasury, newest first."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        query = select(UsdcDeposit, Organization.slug).outerjoin(
            Organization, Organization.id == UsdcDeposit.organization_id
        )
        if customer is not None:
            query = query.where(UsdcDeposit.organization_id == await organization_id(session, customer))
        if state is not None:
            query = query.where(UsdcDeposit.state == state)
        rows = await session.execute(query.order_by(UsdcDeposit.id.desc()).limit(LISTING_MAX))
        return [_row(found, slug) for found, slug in rows]

    columns = ("signature", "customer", "state", "amount", "paid_by", "held", "memo", "created_at")
    print_rows(_in_session(read), columns=columns, output=output)


@usdc.command("assign")
def usdc_assign(
    signature: SignatureArgument,
    customer: CustomerOption,
    reason: ReasonOption,
    actor: ActorOption,
    account: AccountOption = None,
) -> None:
    """Credit a payment that nobody could tell, or that is held, to a customer."""

    async def run(session: AsyncSession) -> Money:
        found = await deposit_of(session, signature, account=account)
        owner, person = await organization_id(session, customer), await actor_id(session, actor)
        await assign_deposit(session, found.id, organization_id=owner, reason=reason, actor_id=person)
        return Money(found.amount_micro_usdc, Asset.USDC)

    typer.echo(f"{_in_session(run)} credited to {customer}")


@usdc.command("fund")
def usdc_fund(
    signature: SignatureArgument, reason: ReasonOption, actor: ActorOption, account: AccountOption = None
) -> None:
    """Book a payment as the platform's own, which fills up its treasury."""

    async def run(session: AsyncSession) -> Money:
        found = await deposit_of(session, signature, account=account)
        await fund_treasury(session, found.id, reason=reason, actor_id=await actor_id(session, actor))
        return Money(found.amount_micro_usdc, Asset.USDC)

    typer.echo(f"{_in_session(run)} are the platform's own")


@usdc.command("refund")
def usdc_refund(  # noqa: PLR0917 - options of the command line
    signature: SignatureArgument,
    reason: ReasonOption,
    actor: ActorOption,
    amount: Annotated[str | None, typer.Option(help="USDC; all of it unless given.")] = None,
    wallet: Annotated[str | None, typer.Option(help="One that paid; needed when several did.")] = None,
    acknowledge_exchange: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--acknowledge-exchange", help="The wallet is an exchange's; it was made sure to arrive."
        ),
    ] = False,
    account: AccountOption = None,
) -> None:
    """Plan a payout that sends a payment back to a wallet that paid it; somebody else approves it."""

    async def run(session: AsyncSession) -> int:
        found = await deposit_of(session, signature, account=account)
        order = RefundOrder(
            deposit_id=found.id,
            reason=reason,
            amount=_usdc(amount),
            wallet=wallet,
            acknowledges_exchange=acknowledge_exchange,
        )
        return (await request_refund(session, order, actor_id=await actor_id(session, actor))).number

    typer.echo(f"batch {_in_session(run)} waits for approval")


@usdc.command("cancel-refund")
def usdc_cancel_refund(
    signature: SignatureArgument, reason: ReasonOption, actor: ActorOption, account: AccountOption = None
) -> None:
    """Take back a refund of which nothing was signed yet."""

    async def run(session: AsyncSession) -> str:
        found = await deposit_of(session, signature, account=account)
        person = await actor_id(session, actor)
        return (await cancel_refund(session, found.id, reason=reason, actor_id=person)).state.value

    typer.echo(f"the deposit is {_in_session(run)} again")


@usdc.command("mark")
def usdc_mark(
    wallet: Annotated[str, typer.Argument(help="Address of a wallet that pays.")],
    mark: Annotated[SenderMark, typer.Option("--as", help="What it is.")],
    reason: ReasonOption,
    actor: ActorOption,
) -> None:
    """Say that a wallet is blocked, or an exchange's."""

    async def run(session: AsyncSession) -> None:
        person = await actor_id(session, actor)
        await mark_sender(session, wallet, mark=mark, reason=reason, actor_id=person)

    _in_session(run)
    typer.echo(f"{wallet} is marked {mark.value}")


@usdc.command("unmark")
def usdc_unmark(wallet: Annotated[str, typer.Argument(help="Address of a marked wallet.")]) -> None:
    """Forget what was said of a wallet; what is held stays held."""

    async def run(session: AsyncSession) -> None:
        await unmark_sender(session, wallet)

    _in_session(run)
    typer.echo(f"nothing is said of {wallet} any more")


@usdc.command("senders")
def usdc_senders(output: OutputOption = Output.TABLE) -> None:
    """List marked wallets."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        rows = await session.scalars(select(UsdcSender).order_by(UsdcSender.wallet).limit(LISTING_MAX))
        return [
            {"wallet": row.wallet, "mark": row.mark.value, "reason": row.reason, "created_at": row.created_at}
            for row in rows
        ]

    print_rows(_in_session(read), columns=("wallet", "mark", "reason", "created_at"), output=output)


@usdc.command("scan")
def usdc_scan(
    from_beginning: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--from-beginning", help="Read all of the account's history again.")
    ] = False,
) -> None:
    """Read the treasury's account now, as workers do every few seconds. What is stored is not booked twice."""

    async def run(sessions: Sessions, chain: Chain) -> str:
        if from_beginning:
            async with session_scope(sessions) as session:
                await read_again(session, str(chain.treasury_token_account))
        await look(sessions, chain)
        done = await scan(sessions, chain)
        gap = "" if done.gap_micro_usdc is None else f"; a gap of {Money(done.gap_micro_usdc, Asset.USDC)}"
        return f"{done.stored} new transactions, {done.credited} credited, {done.undecided} wait for a person{gap}"

    typer.echo(_with_chain(run))


@usdc.command("treasury")
def usdc_treasury(output: OutputOption = Output.TABLE) -> None:
    """Show whom customers pay and how far the treasury was read."""
    settings = control_settings()
    rail = required(open_usdc_rail(settings))

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        found = await last_scan(session, rail.account)
        facts: list[tuple[str, object]] = [
            ("wallet", rail.treasury),
            ("account", rail.account),
            ("mint", rail.mint),
            ("scanned_at", found and found.scanned_at),
            ("problem", found and found.problem),
            ("problem_since", found and found.problem_since),
            ("gap_micro_usdc", found and found.gap_micro_usdc),
            ("undecided", await undecided(session)),
        ]
        return [{"what": what, "value": value and str(value)} for what, value in facts]

    print_rows(_in_session(read, settings.database_url), columns=("what", "value"), output=output)


@usdc.command("pay")
def usdc_pay(
    url: Annotated[str, typer.Argument(help="A Solana Pay URL, as `raymart usdc request` prints it.")],
    keypair: Annotated[Path, typer.Option(help="File of the paying wallet, as solana-keygen writes it.")],
    amount: Annotated[str | None, typer.Option(help="USDC, for a request of any amount.")] = None,
) -> None:
    """Pay a request from a key in a file, on a development chain; it refuses mainnet. Prints the signature."""

    async def run(_sessions: Sessions, chain: Chain) -> str:
        wallet = DevWallet.open(chain.rpc, keypair)
        signature = await wallet.pay(url, amount=_usdc(amount))
        status = await wallet.confirmed(signature)
        if status.error is not None:
            raise InvalidRequest(f"payment {signature} failed: {status.error}")
        return signature

    typer.echo(_with_chain(run))


def _in_session(work: Callable[[AsyncSession], Awaitable[Result]], url: str | None = None) -> Result:
    """Run `work` in one transaction."""

    async def run(sessions: Sessions) -> Result:
        async with session_scope(sessions) as session:
            return await work(session)

    return with_database(url or database_settings().database_url, run)


def _with_chain(work: Callable[[Sessions, Chain], Awaitable[Result]]) -> Result:
    """Run `work` with the chain of the settings. Raises: Unavailable when there is none."""
    settings = control_settings()

    async def run(sessions: Sessions) -> Result:
        chain = required_chain(open_chain(settings))
        try:
            return await work(sessions, chain)
        finally:
            await chain.aclose()

    return with_database(settings.database_url, run)


def _row(found: UsdcDeposit, slug: str | None) -> dict[str, object]:
    return {
        "signature": found.signature,
        "customer": slug,
        "state": found.state.value,
        "amount": Money(found.amount_micro_usdc, Asset.USDC),
        "paid_by": ", ".join(wallets_of(found.sources)),
        "held": found.held_reason,
        "memo": found.memo,
        "created_at": found.created_at,
    }


def _usdc(text: str | None) -> Money | None:
    try:
        return None if text is None else Money.parse(text, Asset.USDC)
    except ValueError as error:
        raise InvalidRequest(str(error), param="amount") from None
