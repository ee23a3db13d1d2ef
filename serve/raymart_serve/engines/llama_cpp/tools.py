"""Tool calls in the form of Hermes and Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

llama.cpp parses calls itself only where it makes the prompt too, and then streams no token ids. So the model's own
template writes the tools into the prompt, and the calls are found in the text here, as it comes. Templates with another
form of calls are shown no tools.

Source: github.com/NousResearch/Hermes-Function-Calling (the form).
"""

import re
import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec

from raymart_core.wire.replica import ChatMessage, GenerationOptions, Tool, ToolDelta
from raymart_serve.engines.llama_cpp.formats import compiled_grammar, decoded_schema, format_rule, json_rule
from raymart_serve.engines.protocol import RequestRefused

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)+)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_HEAD_LENGTH_MAX = 4096
"""Characters after the opening tag within which name and arguments must begin; beyond, it is text after all."""


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, object]]:
    """The conversation as chat templates take it: OpenAI's shape, with nothing that is empty."""
    turns: list[dict[str, object]] = []
    for message in messages:
        turn: dict[str, object] = {"role": message.role, "content": message.content}
        if message.name is not None:
            turn["name"] = message.name
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        turns.append(turn)
    return turns


def template_tools(tools: Sequence[Tool]) -> list[dict[str, object]]:
    """The tools as chat templates take them; one without parameters has an empty object of them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": _parameters(tool)},
        }
        for tool in tools
    ]


def grammar(options: GenerationOptions, *, calls: bool) -> str | None:
    """What the text must be, if it must be anything: of the format, or a call. Blocking. Raises: RequestRefused.

    `calls` is whether the model can call tools. With "auto" and a format, a call may take the format's place.
    """
    must_call = calls and (options.tool_choice == "required" or options.tool_name is not None)
    if must_call:
        return compiled_grammar(f"start: call\n{_call_rules(options)}", param="tools")
    if options.response_format is None:
        return None
    rule = format_rule(options.response_format)
    # Seen to compile alone first, so that a refusal names what is wrong.
    alone = compiled_grammar(f"start: {rule}", param="response_format")
    if not calls:
        return alone
    return compiled_grammar(f"start: call | answer\nanswer: {rule}\n{_call_rules(options)}", param="tools")


def _call_rules(options: GenerationOptions) -> str:
    # One call: where a grammar lets a call or the end follow, llama.cpp offers an end that models were not trained to
    # choose, and they go on calling.
    asked = [tool for tool in options.tools if options.tool_name in {None, tool.name}]
    if not asked:
        raise RequestRefused(f"there is no tool {options.tool_name!r} to call", param="tool_choice")
    rules = [f"call_{at}: {json_rule(_call_schema(tool))}" for at, tool in enumerate(asked)]
    one = " | ".join(f"call_{at}" for at in range(len(asked)))
    return "\n".join([f'call: "{OPEN}\\n" ({one}) "\\n{CLOSE}"', *rules])


class ToolReader:
    """Splits the text of one generation into text and pieces of tool calls. Used by its thread alone."""

    def __init__(self) -> None:
        self._state: Literal["text", "head", "arguments", "tail"] = "text"
        self._held = ""
        self._calls = 0
        self._after_call = False
        self._text: list[str] = []
        self._deltas: list[ToolDelta] = []
        self._arguments = _ObjectScanner()

    @property
    def undecided(self) -> bool:
        """Whether text is held of which it is not known yet what it is; its tokens must wait too."""
        return self._state in {"text", "head"} and bool(self._held)

    def read(self, text: str, *, last: bool = False) -> tuple[str, tuple[ToolDelta, ...]]:
        """The next text: what it makes certain of text and calls; nothing while anything is `undecided`.

        With `last` the generation has ended, and what was undecided is text.
        """
        self._held += text
        while self._held and self._step():
            pass
        if last and self.undecided:
            self._text.append((OPEN if self._state == "head" else "") + self._held)
            self._held = ""
        if self.undecided:
            return "", ()
        found, deltas = "".join(self._text), tuple(self._deltas)
        self._text, self._deltas = [], []
        return found, deltas

    def _step(self) -> bool:
        """Decide what can be decided; whether it may go on with what is left."""
        return {
            "text": self._in_text, "head": self._in_head, "arguments": self._in_arguments, "tail": self._in_tail,
        }[self._state]()  # fmt: skip

    def _in_text(self) -> bool:
        if self._after_call:
            # Between and after calls models write line breaks that are no answer.
            self._held = self._held.lstrip()
            self._after_call = not self._held
        before, tag, after = self._held.partition(OPEN)
        if tag:
            self._text.append(before)
            self._held, self._state = after, "head"
            return True
        kept = next((n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n])), 0)
        self._text.append(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _in_head(self) -> bool:
        if found := _HEAD.match(self._held):
            self._begin(_unescaped(found[1]))
            self._held, self._state = self._held[found.end() :], "arguments"
            self._arguments = _ObjectScanner()
            return True
        whole, tag, after = self._held.partition(CLOSE)
        if not tag:
            if len(self._held) > _HEAD_LENGTH_MAX:
                self._text.append(OPEN + self._held)
                self._held, self._state = "", "text"
            return False
        self._held, self._state = after, "text"
        if call := _whole_call(whole):
            self._begin(call[0], call[1])
            self._after_call = True
        else:
            self._text.append(OPEN + whole + CLOSE)
        return True

    def _in_arguments(self) -> bool:
        length = self._arguments.read(self._held)
        self._deltas.append(ToolDelta(index=self._calls - 1, arguments=self._held[:length]))
        self._held = self._held[length:]
        if self._arguments.done:
            self._state = "tail"
        return self._arguments.done

    def _in_tail(self) -> bool:
        _, tag, after = self._held.partition(CLOSE)
        if tag:
            self._held, self._state, self._after_call = after, "text", True
            return True
        self._held = self._held[-len(CLOSE) + 1 :]
        return False

    def _begin(self, name: str, arguments: str = "") -> None:
        call_id = f"call_{secrets.token_hex(12)}"
        self._deltas.append(ToolDelta(index=self._calls, id=call_id, name=name, arguments=arguments))
        self._calls += 1


class _ObjectScanner:
    """Finds the end of a JSON object in text that comes in pieces."""

    def __init__(self) -> None:
        self.done = False
        self._depth = 0
        self._in_string = self._escaped = False

    def read(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for at, letter in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.done = True
                    return at + 1
        return len(text)


class _Call(msgspec.Struct):
    name: str
    arguments: dict[str, object] | str = msgspec.field(default_factory=dict)


def _whole_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of a call that was written in another order or form; None when it is none."""
    try:
        call = msgspec.json.decode(text, type=_Call)
    except (msgspec.DecodeError, RecursionError):
        return None
    arguments = call.arguments
    return call.name, arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _unescaped(name: str) -> str:
    try:
        return msgspec.json.decode(f'"{name}"', type=str)
    except msgspec.DecodeError:
        return name


def _call_schema(tool: Tool) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": {"type": "object", **_parameters(tool)}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parameters(tool: Tool) -> dict[str, object]:
    parameters = decoded_schema(bytes(tool.parameters), param="tools")
    return parameters or {"type": "object", "properties": {}}
