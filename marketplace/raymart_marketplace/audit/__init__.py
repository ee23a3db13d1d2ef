"""The audit log: who changed what. `act.py` says who acts, `recording.py` writes, `raymart_billing.audit` seals and checks."""

from raymart_marketplace.audit.act import (
    ANONYMOUS,
    MENTIONS_MAX,
    Act,
    Actor,
    Origin,
    Subject,
    acting,
    current_act,
    signed_in,
)
from raymart_marketplace.audit.models import ActorKind, AuditEntry, AuditOrigin, AuditOutcome, AuditSeal
from raymart_marketplace.audit.recording import append
from raymart_marketplace.audit.redaction import ids_in, shown

__all__ = [
    "ANONYMOUS",
    "MENTIONS_MAX",
    "Act",
    "Actor",
    "ActorKind",
    "AuditEntry",
    "AuditOrigin",
    "AuditOutcome",
    "AuditSeal",
    "Origin",
    "Subject",
    "acting",
    "append",
    "current_act",
    "ids_in",
    "shown",
    "signed_in",
]
