"""`raymart payouts`: what goes to providers, and whether the chain and the ledger agree about it."""

import typer

from raymart_graphql.operator.batch_commands import add_batches
from raymart_graphql.operator.payout_rule_commands import add_rules
from raymart_graphql.operator.provider_payout_commands import add_provider_view
from raymart_graphql.operator.reconcile_commands import add_reconciliation

payouts = typer.Typer(no_args_is_help=True)

add_batches(payouts)
add_rules(payouts)
add_reconciliation(payouts)
add_provider_view(payouts)
