"""Mail: one sender for all parts, and the mails about people's accounts."""

from raymart_billing.mail.account_mail import send_later
from raymart_billing.mail.channel import (
    Channel,
    FolderChannel,
    NoChannel,
    Notice,
    SmtpChannel,
    open_channel,
)
from raymart_billing.mail.contact_mail import confirm_later
from raymart_billing.mail.invitation_mail import invite_later

__all__ = [
    "Channel",
    "FolderChannel",
    "NoChannel",
    "Notice",
    "SmtpChannel",
    "confirm_later",
    "invite_later",
    "open_channel",
    "send_later",
]
