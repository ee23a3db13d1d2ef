"""What concerns people's accounts, built once per process."""

from dataclasses import dataclass

from raymart_billing.mail import send_later
from raymart_core.clock import SystemClock
from raymart_marketplace.accounts.account_mail import Mailing, MailTokens
from raymart_marketplace.accounts.login import PasswordLogin
from raymart_marketplace.accounts.login_challenges import LoginChallenges
from raymart_marketplace.accounts.login_limits import LoginLimits
from raymart_marketplace.accounts.password_work import PasswordWork
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.accounts.second_factor import SecondFactors
from raymart_marketplace.accounts.sessions import SessionPolicy
from raymart_marketplace.accounts.throttle import Throttle
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.shared_state import Redis

ISSUER = "Raymart"
"""How authenticator apps name the marketplace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Signing up, logging in, staying in."""

    session_policy: SessionPolicy
    throttle: Throttle
    password_work: PasswordWork
    password_login: PasswordLogin
    mailing: Mailing
    second_factors: SecondFactors
    challenges: LoginChallenges
    box: SecretBox
    """Seals what must not be read in the database."""

    def close(self) -> None:
        """End the threads."""
        self.password_work.close()


def make_people(settings: ControlSettings, sessions: Sessions, redis: Redis) -> People:
    """Wire the services. Opens nothing."""
    secret = settings.token_secret.get_secret_value().encode()
    throttle, work = Throttle(redis), PasswordWork()
    # What was sealed before there were keys of their own stays readable: the token secret opens last.
    box, clock = (
        SecretBox([*(key.get_secret_value().encode() for key in settings.encryption_keys), secret]),
        SystemClock(),
    )
    return People(
        session_policy=SessionPolicy(
            tokens=RefreshTokens(secret), idle_ttl_s=settings.session_idle_ttl_s, ttl_s=settings.session_ttl_s
        ),
        throttle=throttle,
        password_work=work,
        password_login=PasswordLogin(sessions, LoginLimits(throttle, redis), work),
        mailing=Mailing(tokens=MailTokens(secret), send_later=send_later),
        second_factors=SecondFactors(box=box, issuer=ISSUER, clock=clock),
        challenges=LoginChallenges(box=box, clock=clock),
        box=box,
    )
