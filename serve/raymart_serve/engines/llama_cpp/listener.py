"""Client of llama.cpp's own HTTP listener: the chat template and the tokenizer are to be had nowhere else.

The listener cannot be switched off. It is bound to loopback and wants a random key that never leaves the process.
"""

from collections import deque
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from raymart_core.wire.replica import ChatMessage, Tool
from raymart_serve.engines.llama_cpp.tools import OPEN, template_messages, template_tools
from raymart_serve.engines.protocol import EngineFailed, RequestRefused

_TIMEOUT_S = 10.0

Answer = TypeVar("Answer", bound=msgspec.Struct)


class _Prompt(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: tuple[int, ...]


class _TemplateCaps(msgspec.Struct):
    supports_tools: bool = False


class _Properties(msgspec.Struct):
    chat_template: str = ""
    chat_template_caps: _TemplateCaps = msgspec.field(default_factory=_TemplateCaps)


class _Refusal(msgspec.Struct):
    message: str


class _RefusalBody(msgspec.Struct):
    error: _Refusal


class Listener:
    """Blocking calls on kept-alive connections; any number of threads may use it at once."""

    def __init__(self, address: str, *, key: str) -> None:
        self._netloc = urlsplit(address).netloc
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._idle: deque[HTTPConnection] = deque(maxlen=8)

    def encode_chat(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> tuple[int, ...]:
        """Token ids after the chat template. Raises: RequestRefused when the template does not take them, EngineFailed."""
        request: dict[str, object] = {"messages": template_messages(messages)}
        if tools:
            request["tools"] = template_tools(tools)
        status, body = self._call("POST", "/apply-template", msgspec.json.encode(request))
        if status == 200:
            return self.encode(_decoded(body, _Prompt).prompt)
        raise RequestRefused(
            f"the model's chat template refused the messages: {_reason(body)[:300]}",
            param="tools" if tools else "messages",
        )

    def calls_tools(self) -> bool:
        """Whether the model's template shows it tools and has their calls in the form that `tools` reads."""
        status, body = self._call("GET", "/props", b"")
        if status != 200:
            raise EngineFailed(f"llama.cpp's properties answered {status}: {_reason(body)}")
        properties = _decoded(body, _Properties)
        return properties.chat_template_caps.supports_tools and OPEN in properties.chat_template

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as llama.cpp itself would make them of a prompt. Raises: EngineFailed."""
        request = {"content": text, "add_special": True, "parse_special": True}
        status, body = self._call("POST", "/tokenize", msgspec.json.encode(request))
        if status != 200:
            raise EngineFailed(f"the tokenizer answered {status}: {_reason(body)}")
        return _decoded(body, _Tokens).tokens

    def healthy(self) -> bool:
        """Whether the listener answers that the model is loaded."""
        try:
            return self._call("GET", "/health", b"")[0] == 200
        except EngineFailed:
            return False

    def _call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        # llama.cpp closes a connection after five idle seconds or a hundred requests, perhaps just now: a kept one
        # may fail, a fresh one may not. Every call here can be repeated without harm.
        try:
            kept = self._idle.pop()
        except IndexError:
            kept = None
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body)
            except (OSError, HTTPException):
                kept.close()
        fresh = HTTPConnection(self._netloc, timeout=_TIMEOUT_S)
        try:
            return self._exchange(fresh, method, path, body)
        except (OSError, HTTPException) as error:
            fresh.close()
            raise EngineFailed(f"llama.cpp's listener did not answer {path}: {error}") from error

    def _exchange(self, connection: HTTPConnection, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection.request(method, path, body, self._headers)
        response = connection.getresponse()
        data = response.read()
        if len(self._idle) == self._idle.maxlen:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, data

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()


def _decoded(body: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise EngineFailed(f"llama.cpp's listener answered something else than expected: {error}") from error


def _reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_RefusalBody).error.message
    except msgspec.DecodeError:
        return "no reason given"
