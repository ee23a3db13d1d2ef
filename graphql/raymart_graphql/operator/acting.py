"""Commands as acts of an operator, for the audit log: whatever a command commits is its act."""

import functools
import inspect
import os
import pwd
from collections.abc import Callable

import typer

from raymart_marketplace import audit
from raymart_marketplace.audit import Act, Actor, ActorKind

Command = Callable[..., None]


def recorded(command: Command, path: str) -> Command:
    """`command` as an act under the name `path`, such as "raymart budget set"."""

    @functools.wraps(command)
    def run(**options: object) -> None:
        with audit.acting(_act(path, options)):
            command(**options)

    return run


def record_group(group: typer.Typer, path: str) -> None:
    """Make acts of all commands of `group`; safe to repeat."""
    for info in group.registered_commands:
        assert info.name is not None, f"a command of {path!r} has no name"
        if info.callback is not None and inspect.unwrap(info.callback) is info.callback:
            info.callback = recorded(info.callback, f"{path} {info.name}")


def operator_name() -> str:
    """The user that this process runs as, and who logged in at the terminal where that is somebody else (sudo).

    By the kernel's word, not the environment's, which the operator sets.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    try:
        login = os.getlogin()
    except OSError:  # No terminal: cron, a container, a service.
        return name
    return name if login == name else f"{login} as {name}"


def _act(path: str, options: dict[str, object]) -> Act:
    arguments = audit.shown(options)
    assert isinstance(arguments, dict), "options are a mapping"
    mentioned = list(dict.fromkeys(audit.ids_in(options)))
    return Act(
        action=path,
        actor=Actor(kind=ActorKind.OPERATOR, name=operator_name()),
        subject=audit.Subject(*mentioned[0]) if mentioned else None,
        mentions=[item_id for _, item_id in mentioned],
        input=arguments,
    )
