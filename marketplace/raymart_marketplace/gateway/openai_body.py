"""OpenAI's chat-completions body as it arrives: shape and types, by an allow-list of fields.

Every field that OpenAI or OpenRouter documents is named here, so that a client's habit is no error; those that change
nothing yet are `Ignored`. A field that would reach into an engine is refused by name, and so is a field nobody
documents, because a typo in `max_tokens` must not cost money.
Source: https://platform.openai.com/docs/api-reference/chat/create, https://openrouter.ai/docs/api-reference.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.provider_object import ProviderObject

Ignored = msgspec.Raw | msgspec.UnsetType
"""Any JSON value, not looked at."""
UNSET = msgspec.UNSET
Body = TypeVar("Body")

ENGINE_FIELDS = frozenset({
    "chat_template", "chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs", "add_generation_prompt",
    "continue_final_message", "add_special_tokens", "documents", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar", "guided_decoding_backend", "guided_whitespace_pattern", "structural_tag", "priority",
    "request_id", "return_tokens_as_token_ids", "return_token_ids", "cache_salt", "kv_transfer_params", "vllm_xargs",
    "min_tokens", "skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens",
    "prompt_logprobs", "allowed_token_ids", "bad_words", "logits_processors", "echo", "stop_token_ids",
    "include_stop_str_in_output", "use_beam_search", "best_of", "length_penalty", "code_revision", "lora_path",
    "custom_logit_processor", "structured_outputs", "request_template", "prompt_embeds", "grammar", "json_schema", "n_probs", "samplers", "cache_prompt", "id_slot", "extra_body",
})  # fmt: skip
"""Fields of engines' own servers that change templates, memory use or scheduling."""


class ContentPart(msgspec.Struct):
    """One part of a message's content; only text is served."""

    type: str
    text: str | None = None


class CalledFunction(msgspec.Struct):
    """Which function the model calls, and with what."""

    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ToolCallObject(msgspec.Struct):
    """A call that the model made."""

    id: str
    function: CalledFunction
    type: str = "function"


class MessageBody(msgspec.Struct):
    """One turn; fields beside these (refusals, audio) are ignored."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct):
    """How a stream is to end."""

    include_usage: bool | None = None


class JsonSchemaBody(msgspec.Struct):
    """A schema with a name; what else OpenAI puts beside it changes nothing."""

    name: str
    schema: msgspec.Raw | msgspec.UnsetType = UNSET


class ResponseFormatBody(msgspec.Struct):
    """What shape the answer must have."""

    type: str
    json_schema: JsonSchemaBody | None = None


class FunctionBody(msgspec.Struct):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | msgspec.UnsetType = UNSET


class ToolBody(msgspec.Struct):
    """A tool; only functions are served."""

    type: str
    function: FunctionBody | None = None


class NamedFunction(msgspec.Struct):
    """The name of a function."""

    name: str


class NamedTool(msgspec.Struct):
    """The one tool that must be called."""

    type: str
    function: NamedFunction


class ChatBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body; `None` is what a client sends for "not set"."""

    messages: list[MessageBody]
    model: str | None = None
    models: list[str] | None = None
    """Tried in this order, after `model`, when nobody serves the one before."""
    timeout: float | None = None
    """Seconds that the client waits, as LiteLLM sends it; `x-raymart-deadline-ms` says the same."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormatBody | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | NamedTool | None = None
    provider: ProviderObject | None = None
    ignore_eos: bool | None = None
    """vLLM's: go on to `max_tokens` whatever the model says. Benchmarks (guidellm) send it with every request."""

    # OpenAI's, without effect here.
    audio: Ignored = UNSET
    frequency_penalty: Ignored = UNSET
    function_call: Ignored = UNSET
    functions: Ignored = UNSET
    logit_bias: Ignored = UNSET
    metadata: Ignored = UNSET
    modalities: Ignored = UNSET
    moderation: Ignored = UNSET
    parallel_tool_calls: Ignored = UNSET
    prediction: Ignored = UNSET
    presence_penalty: Ignored = UNSET
    prompt_cache_key: Ignored = UNSET
    prompt_cache_options: Ignored = UNSET
    prompt_cache_retention: Ignored = UNSET
    reasoning_effort: Ignored = UNSET
    safety_identifier: Ignored = UNSET
    service_tier: Ignored = UNSET
    store: Ignored = UNSET
    user: Ignored = UNSET
    verbosity: Ignored = UNSET
    web_search_options: Ignored = UNSET

    # OpenRouter's and other hosts', without effect here.
    include_reasoning: Ignored = UNSET
    min_p: Ignored = UNSET
    plugins: Ignored = UNSET
    reasoning: Ignored = UNSET
    repetition_penalty: Ignored = UNSET
    route: Ignored = UNSET
    session_id: Ignored = UNSET
    top_a: Ignored = UNSET
    top_k: Ignored = UNSET
    trace: Ignored = UNSET
    transforms: Ignored = UNSET
    usage: Ignored = UNSET


_decode = msgspec.json.Decoder(ChatBody).decode
_PLACE = re.compile(r" - at `\$\.?(?P<param>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def decode_chat_body(body: bytes) -> ChatBody:
    """Read `body`; whatever it holds, the only error is InvalidRequest, with the field as `param`."""
    return decode_body(body, _decode, fields=ChatBody.__struct_fields__)


def decode_body(body: bytes, decode: Callable[[bytes], Body], *, fields: Sequence[str]) -> Body:
    """`body` as `decode` reads it; `fields` are those it knows. Raises: InvalidRequest with the field as `param`."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        _refuse(str(error), fields)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON in UTF-8: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body's JSON is nested too deeply") from None


def _refuse(said: str, fields: Sequence[str]) -> NoReturn:
    place = _PLACE.search(said)
    param = place["param"] if place else ""
    problem = _PLACE.sub("", said)
    if missing := _MISSING.match(problem):
        param = f"{param}.{missing['name']}" if param else missing["name"]
        raise InvalidRequest(f"{param} is missing", param=param)
    if unknown := _UNKNOWN.match(problem):
        name = unknown["name"][:80]
        raise InvalidRequest(_unknown(name, fields, inside=param), param=f"{param}.{name}" if param else name)
    problem = problem.replace("`", "'")
    raise InvalidRequest(f"{param or 'the body'}: {problem}"[:400], param=param or None)


def _unknown(name: str, fields: Sequence[str], *, inside: str) -> str:
    if name in ENGINE_FIELDS:
        return f"{name} is an engine's own field and is not accepted here; leave it out"
    known = ProviderObject.__struct_fields__ if inside else fields
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "leave it out"
    return f"unknown field {name!r}; {hint}"
