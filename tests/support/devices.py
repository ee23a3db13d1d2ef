"""A browser and an authenticator app of one person, for what asks for a second factor."""

import base64
from typing import Any

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.sql.expression import cast, literal

from raymart_core.clock import now
from raymart_core.ids import Prefix, new_id, parse
from raymart_marketplace.accounts import totp
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Answer, Api, Person

LOGIN = "mutation ($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token challenge session { id } userErrors { code } } }"
COMPLETE = "mutation ($challenge: String!, $code: String!) { completeLogin(input: {challenge: $challenge, code: $code}) { token session { id secondFactorAt } userErrors { code field } } }"
BEGIN = "mutation { beginTotpEnrolment(input: {}) { secret uri userErrors { code message } } }"
CONFIRM = "mutation ($code: String!) { confirmTotpEnrolment(input: {code: $code}) { recoveryCodes userErrors { code } } }"
GRANT = """mutation ($organization: ID!, $key: String!) {
  grantCredit(input: {organizationId: $organization, amount: "1", idempotencyKey: $key}) { transfer { id } userErrors { code } }
}"""


class Device:
    """A browser and an authenticator app of one person; each code is of a later step than the one before."""

    def __init__(self, api: Api, person: Person) -> None:
        self.api = api
        self.person = person
        self.token = ""
        self.session_id = ""
        self.secret = b""
        self.off = -1
        self.recovery_codes: list[str] = []

    def code(self) -> str:
        """The next that was not used. The window holds three; more would need time to pass."""
        code = totp.code_of(self.secret, totp.step_at(now()) + self.off)
        self.off += 1
        return code

    async def ask(self, query: str, **variables: Any) -> Answer:
        return await self.api(query, self.token, **variables)

    async def log_in(self) -> dict[str, Any]:
        answer = await self.api(LOGIN, e=self.person.email, p=PASSWORD)
        login: dict[str, Any] = answer.data["login"]
        if login["token"]:
            self.keep(login)
        return login

    def keep(self, payload: dict[str, Any]) -> None:
        self.token, self.session_id = payload["token"], payload["session"]["id"]

    async def complete(self, challenge: str, code: str) -> dict[str, Any]:
        answer = await self.api(COMPLETE, challenge=challenge, code=code)
        completed: dict[str, Any] = answer.data["completeLogin"]
        if completed["token"]:
            self.keep(completed)
        return completed

    async def enrol(self) -> "Device":
        await self.log_in()
        begun = (await self.ask(BEGIN)).data["beginTotpEnrolment"]
        assert begun["userErrors"] == []
        self.secret = base64.b32decode(begun["secret"])
        confirmed = (await self.ask(CONFIRM, code=self.code())).data["confirmTotpEnrolment"]
        assert confirmed["userErrors"] == []
        self.recovery_codes = confirmed["recoveryCodes"]
        return self

    async def age(self, *, minutes: int) -> None:
        """Let the session's log-in and proof have been so much earlier."""
        earlier = cast(literal(f"{minutes} minutes"), INTERVAL)
        async with session_scope(self.api.services.sessions) as session:
            await session.execute(
                update(UserSession)
                .where(UserSession.id == parse(Prefix.SESSION, self.session_id))
                .values(
                    created_at=UserSession.created_at - earlier,
                    second_factor_at=UserSession.second_factor_at - earlier,
                )
            )
        self.api.services.authenticator.forget_session(parse(Prefix.SESSION, self.session_id))

    async def grant(self) -> Answer:
        tenant = await self.api.tenant()
        return await self.ask(GRANT, organization=tenant.id, key=new_id().hex)
