"""Enums of oversight as the schema shows them. Types import these from here: they must be exposed before they are used."""

from raymart_graphql.enums import expose
from raymart_marketplace.oversight.models import SubjectKind, SwitchState
from raymart_marketplace.oversight.switches import Feature

expose(
    SubjectKind,
    name="SuspensionKind",
    description="What is suspended.",
    values={
        "ORGANIZATION": "An organization: nothing is served to it.",
        "USER": "A person, who can no longer sign in.",
        "PROVIDER": "A provider, which gets no new requests and is not paid.",
        "API_KEY": "An API key.",
    },
)
expose(
    SwitchState,
    name="FeatureSwitchState",
    description="For whom a feature is on.",
    values={
        "OFF": "For nobody.",
        "ON": "For everybody.",
        "PERCENTAGE": "For a share of the organizations, always the same ones.",
        "ORGANIZATIONS": "For those that are named.",
    },
)
expose(
    Feature,
    name="Feature",
    description="What can be switched while the marketplace runs.",
    values={
        "INFERENCE": "New requests are served; without it they are refused, and running ones end as usual.",
        "SIGNUPS": "Strangers may make accounts of their own.",
        "INTROSPECTION": "This API describes itself.",
    },
)

__all__ = ["Feature", "SubjectKind", "SwitchState"]
