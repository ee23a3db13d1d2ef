"""Whose turn a message is; apart from other types, for whatever shows messages."""

from enum import StrEnum

from raymart_graphql.enums import expose


class ChatRole(StrEnum):
    """Whose turn a message is."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


expose(
    ChatRole,
    name="ChatRole",
    description="Whose turn a message is.",
    values={
        "SYSTEM": "Instructions for the model.",
        "USER": "The person.",
        "ASSISTANT": "The model.",
        "TOOL": "A tool's answer.",
    },
)
