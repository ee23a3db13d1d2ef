"""Who may use: background work and its runs."""

from collections.abc import Mapping

from raymart_graphql.permissions import Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

WORK_RULES: Mapping[str, Rule] = {
    "Query.outboxItems": Platform(Permission.PLATFORM_WORK_READ),
    "Query.taskRuns": Platform(Permission.PLATFORM_WORK_READ),
    "Query.periodicJobs": Platform(Permission.PLATFORM_WORK_READ),
    "Mutation.retryWork": Platform(Permission.PLATFORM_WORK_MANAGE),
    "Mutation.cancelWork": Platform(Permission.PLATFORM_WORK_MANAGE),
}
