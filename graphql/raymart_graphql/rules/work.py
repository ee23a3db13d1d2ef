"""Who may use: background work and its runs."""

from collections.abc import Mapping

from raymart_graphql.permissions import Admin, Rule

WORK_RULES: Mapping[str, Rule] = {
    "Query.outboxItems": Admin(),
    "Query.taskRuns": Admin(),
    "Query.periodicJobs": Admin(),
    "Mutation.retryWork": Admin(),
    "Mutation.cancelWork": Admin(),
}
