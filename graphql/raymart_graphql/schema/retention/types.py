"""What was kept of a request's words."""

from datetime import datetime

import strawberry

from raymart_graphql.schema.inference.roles import ChatRole
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.retention.service import Retained


@strawberry.type(description="A message of a prompt that was kept.")
class RetainedMessage:
    """As the customer sent it."""

    role: ChatRole = strawberry.field(description="Whose words they are.")
    content: str = strawberry.field(description="The words.")
    name: str | None = strawberry.field(description="The participant's name; null without one.")


@strawberry.type(description="Prompt and completion of a request, kept because its key asks for that.")
class RetainedExchange:
    """Encrypted in the database."""

    messages: list[RetainedMessage] = strawberry.field(description="The prompt.")
    completion: str = strawberry.field(description="The answer, as far as it was delivered.")
    created_at: datetime = strawberry.field(description="When it was stored.")
    expires_at: datetime = strawberry.field(description="When it is deleted.")

    @classmethod
    def of(cls, retained: Retained, box: SecretBox) -> "RetainedExchange":
        """`retained` in the clear. Raises: ValueError when its key is gone."""
        exchange = retained.opened(box)
        return cls(
            messages=[
                RetainedMessage(role=ChatRole(message.role), content=message.content, name=message.name)
                for message in exchange.messages
            ],
            completion=exchange.completion,
            created_at=retained.created_at,
            expires_at=retained.expires_at,
        )
