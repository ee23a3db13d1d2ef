"""The way in, after whatever proof of who somebody is: a session, or the demand for a second factor first."""

from raymart_graphql.context import Operation
from raymart_graphql.schema.sessions.payloads import SessionPayload
from raymart_marketplace.accounts import sessions
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.second_factor import enrolled
from raymart_marketplace.accounts.session_models import LoginMethod


async def enter(operation: Operation, payload: SessionPayload, *, user: User, method: LoginMethod) -> None:
    """Fill `payload`: with the tokens of a new session, or with a challenge where a second factor is enrolled."""
    people = operation.services.people
    # Not by the operation's own reading, which sees what the caller may see: nobody is anybody yet.
    async with operation.reading.trusted_session() as session:
        has_second_factor = await enrolled(session, user.id) is not None
    if has_second_factor:
        challenge = people.challenges.make(user, method)
        payload.challenge, payload.challenge_expires_at = challenge.text, challenge.expires_at
        return
    await open_for(operation, payload, user=user, method=method, with_second_factor=False)


async def open_for(
    operation: Operation,
    payload: SessionPayload,
    *,
    user: User,
    method: LoginMethod,
    with_second_factor: bool,
) -> None:
    """Open a session and fill its tokens into `payload`."""
    async with operation.writing() as session:
        opened = await sessions.open_session(
            session,
            operation.services.people.session_policy,
            user=user,
            method=method,
            device=operation.client.device,
            with_second_factor=with_second_factor,
        )
    payload.show(operation, opened)
