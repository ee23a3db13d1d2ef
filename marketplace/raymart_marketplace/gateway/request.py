"""What a customer asks for, whatever the surface: checked once, when it is built.

REST reads OpenAI's body with `parse_chat`; GraphQL builds a `ChatRequest` itself. Either way a value out of range
raises `InvalidRequest` with the field as `param`, so nothing behind this file checks again.
"""

from dataclasses import dataclass, field

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import NO_OPTIONS, ChatMessage, GenerationOptions
from raymart_marketplace.catalog.reference import ModelReference, read_reference
from raymart_marketplace.gateway.openai_body import ChatBody, MessageBody, decode_chat_body
from raymart_marketplace.gateway.openai_tools import (
    calls_bytes,
    check_call_id,
    generation_options,
    options_bytes,
    tool_calls,
)
from raymart_marketplace.gateway.provider_object import routing_preference
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference

TEMPERATURE_MAX = 2.0
TOP_LOGPROBS_MAX = 20
STOPS_MAX = 4
STOP_CHARACTERS_MAX = 1_000
MODEL_CHARACTERS_MAX = 256
MAX_TOKENS_MAX = 2**31 - 1
SEED_MIN, SEED_MAX = -(2**63), 2**63 - 1
"""OpenAI's seeds are signed 64-bit numbers; engines take the low 32 bits, see `Sampling.engine_seed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen. Raises InvalidRequest when a value is out of its range."""

    max_tokens: int | None = None
    """Most completion tokens, at least 1; None for what the context leaves."""
    temperature: float = 1.0
    """0 to 2; 0 is greedy."""
    top_p: float = 1.0
    """Above 0, at most 1."""
    seed: int | None = None
    """Signed 64 bits."""
    stop: tuple[str, ...] = ()
    """At most 4 strings, none empty."""
    top_logprobs: int | None = None
    """None for no logprobs, else how many alternatives a token carries (0 to 20)."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and not 1 <= self.max_tokens <= MAX_TOKENS_MAX:
            raise InvalidRequest(
                f"max_tokens={self.max_tokens} is not between 1 and {MAX_TOKENS_MAX}", param="max_tokens"
            )
        if not 0.0 <= self.temperature <= TEMPERATURE_MAX:
            raise InvalidRequest(
                f"temperature={self.temperature} is not between 0 and 2", param="temperature"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequest(f"top_p={self.top_p} is not above 0 and at most 1", param="top_p")
        if self.seed is not None and not SEED_MIN <= self.seed <= SEED_MAX:
            raise InvalidRequest("seed is no signed 64-bit number", param="seed")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= TOP_LOGPROBS_MAX:
            raise InvalidRequest(
                f"top_logprobs={self.top_logprobs} is not between 0 and {TOP_LOGPROBS_MAX}",
                param="top_logprobs",
            )
        if self.stop:
            _check_stops(self.stop)

    @property
    def engine_seed(self) -> int | None:
        """The seed as engines take it: its low 32 bits."""
        return None if self.seed is None else self.seed & 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One chat completion. Raises InvalidRequest when it cannot be served as it stands."""

    model: str
    """As the customer wrote it: a slug, or a slug, "@" and an alias or a revision's digest."""
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    routing: RoutingPreference = NO_PREFERENCE
    options: GenerationOptions = NO_OPTIONS
    """Format, tools and reasoning; the cache's salt is the gateway's to set."""
    reference: ModelReference = field(init=False)
    """What `model` names."""
    content_bytes: int = field(init=False)
    """UTF-8 bytes of every content and name, and the most that tools take: they bound the prompt's tokens before the
    engine counts those."""

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= MODEL_CHARACTERS_MAX:
            raise InvalidRequest(
                f"a model's name has 1 to {MODEL_CHARACTERS_MAX} characters, not {len(self.model)}",
                param="model",
            )
        _utf8_length(self.model, param="model")
        object.__setattr__(self, "reference", read_reference(self.model))
        if not self.messages:
            raise InvalidRequest("messages is empty; at least one message is needed", param="messages")
        total = 0
        for position, message in enumerate(self.messages):
            total += _utf8_length(message.content, param=f"messages[{position}].content")
            if message.name:
                total += _utf8_length(message.name, param=f"messages[{position}].name")
            if message.tool_calls:
                total += calls_bytes(message.tool_calls)
            if message.tool_call_id:
                total += len(message.tool_call_id)
        total += options_bytes(self.options)
        object.__setattr__(self, "content_bytes", total)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedChat:
    """A REST body: the request, and how its answer is to be written."""

    request: ChatRequest
    stream: bool
    include_usage: bool
    """Whether a stream ends with a chunk that carries the usage."""


def parse_chat(body: bytes) -> ParsedChat:
    """Read an OpenAI chat-completions body.

    Documented fields that change nothing here are ignored. Raises: InvalidRequest naming the field as `param`,
    whatever the bytes are.
    """
    decoded = decode_chat_body(body)
    request = ChatRequest(
        model=decoded.model,
        messages=tuple(
            _message(message, param=f"messages[{position}]")
            for position, message in enumerate(decoded.messages)
        ),
        sampling=_sampling(decoded),
        options=generation_options(decoded),
        routing=NO_PREFERENCE if decoded.provider is None else routing_preference(decoded.provider),
    )
    options = decoded.stream_options
    return ParsedChat(
        request=request,
        stream=bool(decoded.stream),
        include_usage=bool(options is not None and options.include_usage),
    )


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > STOPS_MAX:
        raise InvalidRequest(f"{len(stops)} stop strings; the limit is {STOPS_MAX}", param="stop")
    for stop in stops:
        if not 0 < len(stop) <= STOP_CHARACTERS_MAX:
            raise InvalidRequest(
                f"a stop string has 1 to {STOP_CHARACTERS_MAX} characters, not {len(stop)}", param="stop"
            )
        _utf8_length(stop, param="stop")


def _utf8_length(text: str, *, param: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param} has a lone surrogate at character {error.start}; send whole characters", param=param
        ) from None


def _message(body: MessageBody, *, param: str) -> ChatMessage:
    if body.role not in {"system", "developer", "user", "assistant", "tool"}:
        raise InvalidRequest(
            f"role {body.role[:40]!r} is none of system, developer, user, assistant, tool",
            param=f"{param}.role",
        )
    # OpenAI renamed the system role; templates of open models know the old name only.
    role = "system" if body.role == "developer" else body.role
    if body.tool_call_id is not None:
        check_call_id(body.tool_call_id, param=f"{param}.tool_call_id")
    return ChatMessage(
        role=role,  # type: ignore[arg-type]  # checked above
        content=_content(body, param=param),
        name=body.name,
        tool_calls=tool_calls(body, param=param),
        tool_call_id=body.tool_call_id,
    )


def _content(body: MessageBody, *, param: str) -> str:
    content = body.content
    if isinstance(content, str):
        return content
    if content is None:
        if body.role == "assistant":  # An assistant that only called tools said nothing.
            return ""
        raise InvalidRequest(f"a {body.role} message needs content", param=f"{param}.content")
    for position, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise InvalidRequest(
                f"content of type {part.type[:40]!r} is not served; send parts of type 'text' with their text",
                param=f"{param}.content[{position}]",
            )
    return "\n".join(part.text or "" for part in content)


def _sampling(body: ChatBody) -> Sampling:
    asked = [limit for limit in (body.max_completion_tokens, body.max_tokens) if limit is not None]
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    stop = body.stop
    return Sampling(
        max_tokens=min(asked) if asked else None,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
