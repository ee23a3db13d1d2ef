"""Second factors: enrolling an authenticator app, proving a code, recovery codes, switching it off.

A code is good once: the newest step that was used is kept, and moves forward by one statement, so that of two at once with
one code one is let in. How often a code may be guessed, the caller's throttle says (`code_limit`).
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.clock import Clock
from raymart_core.errors import Conflict, InvalidRequest, NotAuthenticated
from raymart_marketplace.accounts import totp
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.names import clean_name
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.accounts.second_factor_models import RecoveryCode, TotpCredential
from raymart_marketplace.accounts.session_models import UserSession
from raymart_marketplace.accounts.sessions import is_open
from raymart_marketplace.accounts.throttle import Limit

log = structlog.get_logger(__name__)

RECOVERY_CODES = 10
WRONG = "the code is wrong, expired or was used before; wait for the next one, or use a recovery code"
_DIGITS = re.compile(rf"[0-9]{{{totp.DIGITS}}}", re.ASCII)
_RECOVERY = re.compile(r"[A-Z2-7]{16}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an authenticator app needs; shown once."""

    secret: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactors:
    """How codes are made and kept."""

    box: SecretBox
    issuer: str
    clock: Clock

    async def begin(self, session: AsyncSession, *, user: User, label: str | None = None) -> Enrolment:
        """A fresh secret, in the place of one that was never confirmed. `label` names the account in the app.

        Raises: Conflict when an app is enrolled, InvalidRequest for a label that cannot be shown.
        """
        account = user.email if label is None else clean_name(label, param="label")
        secret = totp.new_secret()
        sealed = self.box.seal(secret, purpose=_purpose(user.id))
        made = insert(TotpCredential).values(user_id=user.id, secret_sealed=sealed)
        kept = await session.scalar(
            made.on_conflict_do_update(
                index_elements=[TotpCredential.user_id],
                set_={"secret_sealed": made.excluded.secret_sealed, "created_at": func.clock_timestamp()},
                where=TotpCredential.confirmed_at.is_(None),
            ).returning(TotpCredential.user_id)
        )
        if kept is None:
            raise Conflict("an authenticator app is enrolled already; `disableTotp` takes it away")
        uri = totp.otpauth_uri(secret, issuer=self.issuer, account=account)
        return Enrolment(secret=totp.spelt(secret), uri=uri)

    async def confirm(self, session: AsyncSession, *, user_id: UUID, code: str) -> Sequence[str]:
        """Let the app count, now that it has shown a right code; returns recovery codes, shown once.

        Raises: Conflict when none waits for it, NotAuthenticated for a wrong code.
        """
        waiting = await session.scalar(
            select(TotpCredential)
            .where(TotpCredential.user_id == user_id, TotpCredential.confirmed_at.is_(None))
            .with_for_update()
        )
        if waiting is None:
            raise Conflict("no authenticator app waits to be confirmed; `beginTotpEnrolment` comes first")
        step = self._step_of(waiting, code)
        if step is None:
            raise NotAuthenticated(WRONG, param="code")
        waiting.confirmed_at, waiting.last_step = self.clock.now(), step
        await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        session.add_all(RecoveryCode(user_id=user_id, code_hash=_hash(each)) for each in codes)
        await session.flush()
        log.info("second_factor.enrolled", user_id=str(user_id))
        return ["-".join(re.findall(".{4}", each)) for each in codes]

    async def prove(self, session: AsyncSession, *, user_id: UUID, code: str) -> None:
        """Use a code of the app, or a recovery code, up. Raises: NotAuthenticated, and then nothing is used."""
        credential = await enrolled(session, user_id)
        if credential is None:
            raise NotAuthenticated(WRONG, param="code")
        # People type blanks and hyphens, as the app and the list show them.
        bare = re.sub(r"[\s-]", "", code[:100]).upper()
        if _DIGITS.fullmatch(bare):
            is_right = await self._use_step(session, credential, bare)
        else:
            is_right = await _use_recovery_code(session, user_id, bare)
        if not is_right:
            raise NotAuthenticated(WRONG, param="code")

    async def _use_step(self, session: AsyncSession, credential: TotpCredential, code: str) -> bool:
        step = self._step_of(credential, code)
        if step is None:
            return False
        values: dict[str, object] = {"last_step": step}
        purpose = _purpose(credential.user_id)
        if self.box.is_outdated(credential.secret_sealed):
            secret = self.box.open(credential.secret_sealed, purpose=purpose)
            values["secret_sealed"] = self.box.seal(secret, purpose=purpose)
        moved = await session.scalar(
            update(TotpCredential)
            .where(TotpCredential.user_id == credential.user_id, TotpCredential.last_step < step)
            .values(values)
            .returning(TotpCredential.user_id)
            .execution_options(synchronize_session=False)
        )
        return moved is not None

    def _step_of(self, credential: TotpCredential, code: str) -> int | None:
        secret = self.box.open(credential.secret_sealed, purpose=_purpose(credential.user_id))
        return totp.matching_step(secret, code, now=self.clock.now())


async def enrolled(session: AsyncSession, user_id: UUID) -> TotpCredential | None:
    """The person's confirmed app."""
    return await session.scalar(
        select(TotpCredential).where(
            TotpCredential.user_id == user_id, TotpCredential.confirmed_at.is_not(None)
        )
    )


async def remove(session: AsyncSession, *, user_id: UUID) -> bool:
    """Take the app and its recovery codes away; returns whether there was one."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    removed = await session.scalar(
        delete(TotpCredential).where(TotpCredential.user_id == user_id).returning(TotpCredential.user_id)
    )
    return removed is not None


async def mark_proven(session: AsyncSession, *, user_id: UUID, session_id: UUID) -> UserSession:
    """Note in the session that a second factor was proven now. After the commit, call `Forgetting.session`.

    Raises: NotAuthenticated when the session has ended.
    """
    marked = await session.scalar(
        update(UserSession)
        .where(UserSession.id == session_id, UserSession.user_id == user_id, *is_open())
        .values(second_factor_at=func.clock_timestamp())
        .returning(UserSession)
        .execution_options(populate_existing=True)
    )
    if marked is None:
        raise NotAuthenticated("this session has ended; log in again")
    return marked


async def require_fresh_login(session: AsyncSession, *, session_id: UUID | None, fresh_s: float) -> None:
    """Refuse to change second factors in a session that was opened, or had one proven, longer ago. Raises: InvalidRequest.

    Who finds an open browser must not lock its owner out.
    """
    found = await session.get(UserSession, session_id) if session_id is not None else None
    if found is None:
        raise InvalidRequest(
            "this access token belongs to no session, it was issued by an operator; log in for one"
        )
    proven_at = max(found.created_at, found.second_factor_at or found.created_at)
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    if now - proven_at > timedelta(seconds=fresh_s):
        raise InvalidRequest(
            f"you logged in more than {fresh_s / 60:.0f} minutes ago; log in again, then go on"
        )


def code_limit(user_id: UUID) -> Limit:
    """5 wrong codes free, then pauses up to an hour: six digits withstand no more. Only who has the password gets here."""
    return Limit(
        name=f"code:{user_id.hex}",
        free=5,
        pause_s_min=30,
        pause_s_max=3_600,
        forget_s=86_400,
        is_cleared=True,
    )


async def _use_recovery_code(session: AsyncSession, user_id: UUID, code: str) -> bool:
    if _RECOVERY.fullmatch(code) is None:
        return False
    used = await session.scalar(
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.code_hash == _hash(code),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=func.clock_timestamp())
        .returning(RecoveryCode.id)
    )
    return used is not None


def _new_recovery_code() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode()


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _purpose(user_id: UUID) -> str:
    return f"totp {user_id.hex}"
