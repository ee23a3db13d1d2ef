"""Whose money pays for a request, whatever it asks for."""

import strawberry

from raymart_core.ids import Prefix
from raymart_graphql.context import Operation
from raymart_graphql.relay import parse_global_id
from raymart_marketplace.accounts.caller import Caller


async def caller_of(operation: Operation, project_id: strawberry.ID | None) -> Caller:
    """Whose money pays. The operation's rule has checked the viewer's role in a named project."""
    principal = await operation.principal()
    if principal.caller is not None:
        return principal.caller
    if project_id is None:
        assert operation.client.authorization is not None, "the rule lets only the authenticated in"
        return await operation.services.authenticator.caller(operation.client.authorization)
    parsed = parse_global_id(Prefix.PROJECT, project_id, field="project_id")
    project = await operation.loaders.identity.project.load_known(parsed)
    return Caller(
        organization_id=project.organization_uuid,
        project_id=project.uuid,
        api_key_id=None,
        user_id=principal.user_id,
        answer_cache_s=project.answer_cache_seconds,
    )
