"""Enums of exports as the schema shows them. Types import these from here: they must be exposed before they are used."""

from raymart_billing.privacy.models import ExportState
from raymart_graphql.enums import expose

expose(
    ExportState,
    name="PrivacyExportState",
    description="How far an export has come.",
    values={
        "REQUESTED": "It is being written, or will be.",
        "READY": "It can be downloaded.",
        "FAILED": "It could not be written; ask for another.",
        "EXPIRED": "Its file is deleted: a week is over, or a newer export took its place.",
    },
)

__all__ = ["ExportState"]
