"""What a customer asks for, whatever the surface: checked once, when it is built.

REST reads bodies (`openai_chat.py`, `completions/`); GraphQL builds a `ChatRequest` itself. Either way a value out of
range raises `InvalidRequest` with the field as `param`, so nothing behind this file checks again.
"""

from dataclasses import replace

import msgspec
from msgspec.structs import force_setattr

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import NO_OPTIONS, ChatMessage, GenerationOptions
from raymart_marketplace.catalog.reference import ModelReference, read_reference
from raymart_marketplace.gateway.openai_tools import calls_bytes, options_bytes
from raymart_marketplace.gateway.slug_suffix import without_suffix
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference

TEMPERATURE_MAX = 2.0
TOP_LOGPROBS_MAX = 20
STOPS_MAX = 4
STOP_CHARACTERS_MAX = 256
"""What replicas take."""
MODEL_CHARACTERS_MAX = 256
MAX_TOKENS_MAX = 2**31 - 1
TOKEN_ID_MAX = 2**31 - 1
SEED_MIN, SEED_MAX = -(2**63), 2**63 - 1
"""OpenAI's seeds are signed 64-bit numbers; engines take the low 32 bits, see `Sampling.engine_seed`."""

CACHE_TTL_S_MAX = 24 * 3600
"""Longest time that an answer is kept for being given again."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
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
    ignore_eos: bool = False
    """Go on to `max_tokens`, whatever the model says."""

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


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation: of a conversation, or of a prompt that is continued as it stands.

    Exactly one of `messages`, `prompt` and `prompt_ids` is given. Raises InvalidRequest when it cannot be served so.
    """

    model: str
    """As the customer wrote it: a slug, perhaps with ":floor" or ":nitro", perhaps with "@" and an alias or a digest."""
    messages: tuple[ChatMessage, ...] = ()
    prompt: str | None = None
    """Text that no chat template is put around."""
    prompt_ids: tuple[int, ...] | None = None
    """The same as token ids of the model's tokenizer."""
    sampling: Sampling = Sampling()
    routing: RoutingPreference = NO_PREFERENCE
    options: GenerationOptions = NO_OPTIONS
    """Format, tools and reasoning; the cache's salt is the gateway's to set."""
    cache_ttl_s: int | None = None
    """Seconds that this answer is kept for being given again, at most a day; 0 for neither giving nor keeping, None for
    what the caller's key or project says (`response_cache/`)."""
    reference: ModelReference = ModelReference("")
    """What `model` names; set here, whatever is given."""
    content_bytes: int = 0
    """Set here too: UTF-8 bytes of every content and name, and the most that tools take: they bound the prompt's tokens before the
    engine counts those. Of token ids their number."""

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= MODEL_CHARACTERS_MAX:
            raise InvalidRequest(
                f"a model's name has 1 to {MODEL_CHARACTERS_MAX} characters, not {len(self.model)}",
                param="model",
            )
        _utf8_length(self.model, param="model")
        if self.cache_ttl_s is not None and not 0 <= self.cache_ttl_s <= CACHE_TTL_S_MAX:
            raise InvalidRequest(
                f"an answer is cached for 0 to {CACHE_TTL_S_MAX} s, not {self.cache_ttl_s}",
                param="answer_cache_seconds",
            )
        name, sort = without_suffix(self.model)
        force_setattr(self, "reference", read_reference(name))
        if sort is not None and self.routing.sort is None:
            force_setattr(self, "routing", replace(self.routing, sort=sort))
        if self.prompt_ids is not None:
            size = _checked_ids(self.prompt_ids)
        elif self.prompt is not None:
            size = _checked_prompt(self.prompt)
        else:
            size = _checked_messages(self.messages) + options_bytes(self.options)
        force_setattr(self, "content_bytes", size)

    @property
    def turns(self) -> tuple[ChatMessage, ...]:
        """What was asked as a conversation: a prompt is its one turn."""
        if self.messages:
            return self.messages
        text = self.prompt if self.prompt_ids is None else " ".join(map(str, self.prompt_ids))
        return (ChatMessage(role="user", content=text or ""),)


def _checked_messages(messages: tuple[ChatMessage, ...]) -> int:
    """The bytes that a conversation takes at most. Raises: InvalidRequest."""
    if not messages:
        raise InvalidRequest("messages is empty; at least one message is needed", param="messages")
    total = 0
    for position, message in enumerate(messages):
        total += _utf8_length(message.content, param=f"messages[{position}].content")
        if message.name:
            total += _utf8_length(message.name, param=f"messages[{position}].name")
        if message.tool_calls:
            total += calls_bytes(message.tool_calls)
        if message.tool_call_id:
            total += len(message.tool_call_id)
    return total


def _checked_prompt(prompt: str) -> int:
    if not prompt:
        raise InvalidRequest("the prompt is empty; at least one character is needed", param="prompt")
    return _utf8_length(prompt, param="prompt")


def _checked_ids(ids: tuple[int, ...]) -> int:
    if not ids:
        raise InvalidRequest("the prompt is empty; at least one token is needed", param="prompt")
    if min(ids) < 0 or max(ids) > TOKEN_ID_MAX:
        raise InvalidRequest(f"a token id is between 0 and {TOKEN_ID_MAX}", param="prompt")
    return len(ids)


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
