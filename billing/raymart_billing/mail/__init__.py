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

__all__ = ["Channel", "FolderChannel", "NoChannel", "Notice", "SmtpChannel", "open_channel", "send_later"]
