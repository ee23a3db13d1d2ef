"""Response formats: JSON schemas become a grammar that llama.cpp samples by, and what comes out is checked against it.

llama.cpp (built with llguidance) does not tell when it cannot compile a grammar, nor when it gives one up on the way:
it goes on without. So the grammar is compiled here first, by the same library, and every generation is followed by a
matcher of its own.

Source: github.com/guidance-ai/llguidance, docs/syntax.md and docs/json_schema.md ("x-guidance").
"""

import msgspec

from raymart_core.wire.replica import ResponseFormat
from raymart_serve.engines.protocol import EngineFailed, RequestRefused

_SCHEMA_BYTES_MAX = 64 * 1024
_SCHEMA_DEPTH_MAX = 48
"""The compiler recurses on the schema."""
# White space between tokens as models write it, and no more: a weak model that may write any never stops.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def format_rule(asked: ResponseFormat) -> str:
    """The right side of a grammar rule for a format. Raises: RequestRefused."""
    if asked.type == "json_object":
        return json_rule({"type": "object"})
    return json_rule(decoded_schema(bytes(asked.schema), param="response_format"))


def json_rule(schema: dict[str, object]) -> str:
    """The right side of a grammar rule for JSON of `schema`."""
    return "%json " + msgspec.json.encode({**schema, "x-guidance": _COMPACT}).decode()


def compiled_grammar(rules: str, *, param: str) -> str:
    """The grammar of `rules`, compiled once to see that it is one. Blocking, milliseconds. Raises: RequestRefused naming `param`."""
    # Only a format needs the library.
    from llguidance import LLMatcher  # noqa: PLC0415

    grammar = f"%llguidance {{}}\n{rules}"
    if problem := LLMatcher.validate_grammar(grammar):
        # The first line says what is wrong; the others repeat the grammar.
        reason = problem.partition("\n")[0].rpartition("failed to compile JSON schema: ")[2]
        raise RequestRefused(f"{param} cannot be held to: {reason[:200]}", param=param)
    return grammar


class FormatWatch:
    """Follows the text of one generation. Used by its thread alone."""

    def __init__(self, grammar: str) -> None:
        from llguidance import LLMatcher, LLTokenizer  # noqa: PLC0415

        # Its first 256 tokens are the bytes.
        self._matcher: LLMatcher = LLMatcher(LLTokenizer("byte"), grammar)

    def read(self, text: str) -> None:
        """The next text. Raises: EngineFailed when it is outside the format."""
        data = text.encode()
        if self._matcher.try_consume_tokens(list(data)) != len(data):
            raise EngineFailed("llama.cpp left the response format that it was given")

    def end(self) -> None:
        """The model ended by itself. Raises: EngineFailed when the format is not complete."""
        if not self._matcher.is_accepting():
            raise EngineFailed("llama.cpp ended before the response format was complete")


def decoded_schema(schema: bytes, *, param: str) -> dict[str, object]:
    """A schema that came from a customer, of bounded size and depth. Raises: RequestRefused naming `param`."""
    if len(schema) > _SCHEMA_BYTES_MAX:
        raise RequestRefused(
            f"{param}: the schema has {len(schema)} bytes, at most {_SCHEMA_BYTES_MAX} are taken", param=param
        )
    try:
        decoded: object = msgspec.json.decode(schema)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestRefused(f"{param}: the schema is not JSON: {error}", param=param) from error
    if _depth(decoded) > _SCHEMA_DEPTH_MAX:
        raise RequestRefused(
            f"{param}: the schema is nested deeper than {_SCHEMA_DEPTH_MAX} levels", param=param
        )
    if not isinstance(decoded, dict):
        raise RequestRefused(f"{param}: a JSON schema must be an object", param=param)
    return decoded


def _depth(value: object) -> int:
    """How many levels of objects and arrays there are, counted no further than the limit needs."""
    levels, level = 0, [value]
    while level and levels <= _SCHEMA_DEPTH_MAX:
        inner = [
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        ]
        level = [item for items in inner for item in items]
        levels += 1
    return levels
