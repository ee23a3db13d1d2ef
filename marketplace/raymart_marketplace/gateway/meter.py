"""The meter: what a replica says it generated, believed only as far as it adds up.

The replica runs on a machine that is not ours and is paid by these counts. Every event is checked before its text is
forwarded; one that breaks a rule ends the attempt as the provider's fault, and what it claims is not billed.
"""

from array import array
from typing import Final, NamedTuple

import msgspec

from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import FinishEvent, PromptEvent, ReplicaEvent, StepEvent, ToolDelta
from raymart_marketplace.gateway.event_lines import EventLines
from raymart_marketplace.supply.upstream import UpstreamBroken

LINE_BYTES_MAX = 1 << 20
"""Longest NDJSON line. The longest honest one is the prompt's ids: about 8 bytes a token, so 128 k tokens fit."""
TOKEN_ID_MAX: Final = 2**31 - 1
TOKEN_CHARACTERS_MAX = 512
"""Longest text one token may bring, averaged; more would be text that nobody counts."""
INEXACT_SLACK_TOKENS = 64
"""Tokens an engine may be ahead of its text when it does not know the ids (incomplete characters, held-back stops)."""
ID_CHARACTERS_MAX = 256
TOOL_CALLS_MAX = 128
"""Calls one answer may make."""

_decode_lines = msgspec.json.Decoder(ReplicaEvent).decode_lines


def replica_lines() -> EventLines[ReplicaEvent]:
    """The lines of one generation."""
    return EventLines(_decode_lines, line_bytes_max=LINE_BYTES_MAX)


class PromptMark(NamedTuple):
    """What tells one prompt's ids from another's, kept for as long as a stream lasts."""

    tokens: int
    digest: int

    @classmethod
    def of(cls, ids: tuple[int, ...]) -> "PromptMark":
        """The mark of `ids`."""
        # Python's own hash: what an endpoint could win by a collision is to be believed in another prompt of as many
        # tokens, for which it is paid the same.
        return cls(len(ids), hash(ids))


class Begun(NamedTuple):
    """What was delivered of an answer that another endpoint goes on with."""

    prompt: PromptMark
    tokens: int
    tool_calls: int


class Meter:
    """Counts one attempt's tokens.

    A step with exact ids must raise the running count by exactly its ids. A step without them may raise it by what its
    text can hold. Nothing may exceed what was asked for.
    """

    __slots__ = (
        "_characters",
        "_index",
        "_prompt_max",
        "_tokens_max",
        "_tools",
        "begun",
        "ends",
        "exact",
        "ids",
        "mark",
        "tokens_cached",
        "tokens_completion",
        "tokens_prompt",
        "tool_calls",
    )

    def __init__(
        self,
        *,
        tokens_prompt_max: int,
        tokens_completion_max: int,
        tools: bool = False,
        begun: Begun | None = None,
    ) -> None:
        """`tools` tells whether the answer may call any; `begun` is what others delivered before."""
        self.tokens_prompt = 0
        self.tokens_completion = 0
        """Tokens of every step accepted so far."""
        self.tokens_cached = 0
        """Those of the prompt that the engine had in its cache; it says so at its end, and never more than were counted."""
        self.exact = True
        """Whether every step so far named its ids."""
        self.ids = array("i")
        """Those of every step accepted so far, as far as they are known; 4 bytes each."""
        self.mark: PromptMark | None = None
        """Of the prompt."""
        self.tool_calls = 0 if begun is None else begun.tool_calls
        """Calls that the answer has begun."""
        self.begun = begun
        self.ends: FinishReason | None = None
        """Why the answer is whole with the last step, if that step said so."""
        self._prompt_max = tokens_prompt_max
        self._tokens_max = tokens_completion_max
        self._index = -1
        self._characters = 0
        self._tools = tools

    def prompt(self, event: ReplicaEvent) -> None:
        """Take the first event. Raises: UpstreamBroken."""
        if not isinstance(event, PromptEvent):
            raise _broken(f"the first event is a {type(event).__name__}, not the prompt")
        if len(event.ids) > self._prompt_max:
            raise _broken(f"{len(event.ids)} prompt tokens; the request can have {self._prompt_max} at most")
        _check_ids(event.ids)
        self.mark = PromptMark.of(event.ids)
        if self.begun is not None and self.mark != self.begun.prompt:
            tokens = self.begun.prompt.tokens
            raise _broken(
                f"a prompt of {len(event.ids)} tokens that is not the one of {tokens} which the answer began with"
            )
        self.tokens_prompt = len(event.ids)

    def step(self, event: StepEvent) -> None:
        """Take a step. Raises: UpstreamBroken, and then nothing of the step counts."""
        ids = event.t
        if event.i <= self._index:
            raise _broken(f"step {event.i} after step {self._index}")
        if ids:
            _check_ids(ids)
        if event.exact:
            if event.n != self.tokens_completion + len(ids):
                raise _broken(
                    f"a count of {event.n} after {self.tokens_completion} tokens and {len(ids)} more"
                )
        elif event.n < self.tokens_completion:
            raise _broken(f"a count of {event.n} after {self.tokens_completion} tokens")
        if event.n > self._tokens_max:
            raise _broken(f"{event.n} tokens; {self._tokens_max} were asked for")
        characters = self._characters + len(event.d) + len(event.r) + self._called(event.tool)
        if characters > TOKEN_CHARACTERS_MAX * (event.n + 1):
            raise _broken(f"{characters} characters for {event.n} tokens")
        # A character has at most 4 bytes, and no vocabulary has a token of less than one.
        if not event.exact and event.n > 4 * characters + INEXACT_SLACK_TOKENS:
            raise _broken(f"{event.n} tokens without ids for {characters} characters")
        self._index = event.i
        self._characters = characters
        self.tokens_completion = event.n
        self.ids.extend(ids)
        if not event.exact:
            self.exact = False
        self.ends = event.f

    def _called(self, deltas: tuple[ToolDelta, ...]) -> int:
        """Take pieces of tool calls; returns their characters. Raises: UpstreamBroken."""
        if deltas and not self._tools:
            raise _broken("a tool call where no tools were offered")
        characters = 0
        for delta in deltas:
            if not 0 <= delta.index <= min(self.tool_calls, TOOL_CALLS_MAX - 1):
                raise _broken(f"tool call {delta.index} after {self.tool_calls} calls")
            if delta.index == self.tool_calls:
                if not (delta.id and delta.name):
                    raise _broken("a tool call without an id or a name")
                self.tool_calls += 1
            # Ids are made up by the engine, not generated.
            characters += len(delta.name) + len(delta.arguments)
            if len(delta.id) > ID_CHARACTERS_MAX:
                raise _broken(f"a tool call's id of {len(delta.id)} characters")
        return characters

    def finish(self, event: FinishEvent, *, revision: str) -> None:
        """Take the last event. Of the engine's own counts only the cached tokens are used. Raises: UpstreamBroken."""
        if event.revision != revision:
            raise _broken(f"another revision than {revision}")
        self.tokens_cached = min(max(event.usage.cached, 0), self.tokens_prompt)


def _check_ids(ids: tuple[int, ...]) -> None:
    if min(ids, default=0) < 0 or max(ids, default=0) > TOKEN_ID_MAX:
        raise _broken("a token id outside 0 to 2**31 - 1")


def _broken(reason: str) -> UpstreamBroken:
    return UpstreamBroken(f"the replica sent {reason}", fault=Fault.PROVIDER)
