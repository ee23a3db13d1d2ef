"""What `raymart` at another terminal reads while a stack runs: the stack's own settings, in a file of the form NAME='value'.

Read by `raymart_graphql.operator.running`. Nobody exports it: a process with the stack's marker in its environment would
end with the stack.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raymart_local.secret_file import write_private

_DOLLAR = "STACK_DOLLAR"


@contextmanager
def told_to_operators(path: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Have the settings in `path`, 0600, while the body runs."""
    lines = [f"{name}={_quoted(value)}\n" for name, value in sorted(settings.items())]
    write_private(path, "".join([f"{_DOLLAR}='$'\n", *lines]))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _quoted(value: str) -> str:
    """As python-dotenv reads it back. It replaces `${NAME}` in quotes too, and there is no other way to write `${`."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + escaped.replace("${", f"${{{_DOLLAR}}}{{") + "'"
