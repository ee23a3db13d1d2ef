"""Validation of documents: graphql-core's rules in graphql-core's walk, with nothing left to the garbage collector.

Source: graphql-core 3.3, `graphql.validation.validate` and Strawberry's `validate_document`, whose rules are the same.
There each visitor remembers methods of its own, a ring that only the collector frees: 1,300 objects for a document, so
that 5,000 different ones made it hold the event loop for 0.4 s at once.
"""

from functools import lru_cache

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    ParallelVisitor,
    TypeInfo,
    TypeInfoVisitor,
    ValidationContext,
    Visitor,
    visit,
)
from graphql.validation.validate import (
    FragmentNestingVisitor,
    ValidationAbortedError,
    query_document_keys_to_validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from raymart_graphql.documents import DOCUMENTS_MAX

ERRORS_MAX = 100
"""Errors of one document that are told, as in graphql-core."""
Rules = tuple[type[ASTValidationRule], ...]


@lru_cache(maxsize=DOCUMENTS_MAX)
def validated(schema: GraphQLSchema, document: DocumentNode, rules: Rules) -> list[GraphQLError]:
    """What is wrong with `document`, remembered. `schema` is valid."""
    errors: list[GraphQLError] = []

    def on_error(error: GraphQLError) -> None:
        if len(errors) >= ERRORS_MAX:
            raise ValidationAbortedError(
                "Too many validation errors, error limit reached. Validation aborted."
            )
        errors.append(error)

    type_info = TypeInfo(schema)
    context = ValidationContext(schema, document, type_info, on_error)
    visitors = _visitors(context, document, rules)
    together = ParallelVisitor(visitors)
    whole = TypeInfoVisitor(type_info, together)
    try:
        visit(document, whole, query_document_keys_to_validate)
    except ValidationAbortedError as error:
        # The errors are remembered, and the frames of this validation would be with them.
        error.__context__ = None
        errors.append(error.with_traceback(None))
    except RecursionError:
        errors.append(ValidationAbortedError("Validation aborted."))
    for visitor in (whole, together, *visitors):
        visitor.enter_leave_map.clear()
    return errors


def _visitors(context: ValidationContext, document: DocumentNode, rules: Rules) -> list[Visitor]:
    visitors: list[Visitor] = [
        rule(context) for rule in (*rules, MaybeNullValidationRule, OneOfInputValidationRule)
    ]
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    if fragments:
        visitors.insert(0, FragmentNestingVisitor(fragments))
    return visitors
