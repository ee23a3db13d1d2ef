"""Refusals of people who are known, and have yet to show something."""

from raymart_core.errors import Forbidden


class EmailNotVerified(Forbidden):
    """The person has not shown yet that they read mail at their address."""

    code = "email_not_verified"

    def __init__(self) -> None:
        super().__init__(
            "verify your e-mail address first: follow the link in the mail that we sent; `resendVerification` sends another"
        )


class SecondFactorRequired(Forbidden):
    """The session has no second factor, or none that is fresh."""

    code = "second_factor_required"

    def __init__(self, *, fresh_s: float) -> None:
        super().__init__(
            f"this needs a second factor that was proven in this session within {fresh_s / 60:.0f} minutes: send a code to"
            " `confirmSecondFactor`; who has none enrols with `beginTotpEnrolment`"
        )
