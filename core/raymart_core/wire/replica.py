"""Replica HTTP: what gateway (or agent) and engine replica say to each other.

HTTP/1.1 on the replica's own port with `Authorization: Bearer <per-replica secret>`, `X-Request-Id` and
`X-Deadline-Ms`. `POST /v1/generate` takes a `GenerateRequest` as JSON and answers `application/x-ndjson`: one
event a line, `PromptEvent` first, then a `StepEvent` per engine step, then `FinishEvent` or `ErrorEvent`. An answer
asked for with `whole` has the steps of up to a second in one `StepEvent`.
Closing the connection aborts the work at the engine within one step. Before the first event a failure is an
HTTP status with an `ErrorBody`: 400 fault=customer, 503 draining or busy fault=provider, 500 fault=provider.
`GET /health` answers a `Health`, `GET /stats` a `Stats`, `POST /drain` 202.
"""

from typing import Literal

import msgspec

from raymart_core.units import Fault, FinishReason

GENERATE_PATH = "/v1/generate"
HEALTH_PATH = "/health"
STATS_PATH = "/stats"
NDJSON = "application/x-ndjson"


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the assistant made earlier in the conversation."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation; `content` is plain text."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    tool_call_id: str | None = None
    """Of a tool's turn: the call it answers."""


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    """JSON schema of its arguments."""


class ResponseFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the text must be: any JSON object, or one of the schema."""

    type: Literal["json_object", "json_schema"]
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    """With "json_schema" only."""


class GenerationOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an engine may support beyond sampling. `tools` are ignored by one that cannot; the format is refused."""

    response_format: ResponseFormat | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    tool_name: str | None = None
    """The one tool that must be called."""
    cache_salt: str = ""
    """Keeps prefix caches of different tenants apart; the same for one tenant at one endpoint. Without one, nothing is
    shared with any other request."""
    reasoning: bool = False
    """Whether what a reasoning model thinks before its answer is to come apart from it: a chat's, never a plain prompt's."""


NO_OPTIONS = GenerationOptions()


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. Ranges are checked by the gateway and again by the replica."""

    max_tokens: int
    """Upper bound of generated tokens, at least 1."""
    temperature: float = 1.0
    """0 to 2; 0 is greedy."""
    top_p: float = 1.0
    """Above 0, at most 1."""
    seed: int | None = None
    """0 to 2**32 - 1; the same seed, prompt and revision give the same tokens."""
    stop: tuple[str, ...] = ()
    """At most 4 strings; text up to the first match is delivered."""
    top_logprobs: int | None = None
    """None for no logprobs, else how many alternatives a token carries (0 to 20)."""
    ignore_eos: bool = False
    """Go on past the end-of-sequence token, to `max_tokens` or a stop string; for those who measure."""


class GenerateRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One generation. Exactly one of `messages`, `prompt` and `prompt_ids` is given."""

    sampling: Sampling
    messages: tuple[ChatMessage, ...] | None = None
    prompt: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    """The prompt after the chat template, as token ids of the revision's tokenizer."""
    resume_ids: tuple[int, ...] = ()
    """Tokens already delivered by another endpoint of the same revision; generation goes on after them."""
    options: GenerationOptions = NO_OPTIONS
    whole: bool = False
    """Whether nobody reads the answer before its end. The replica may then collect steps, for a second at most."""


class TokenLogprob(msgspec.Struct, frozen=True, omit_defaults=True):
    """The natural-log probability of one token, with its strongest alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top: tuple["TokenLogprob", ...] = ()


class PromptEvent(msgspec.Struct, frozen=True, tag_field="e", tag="p"):
    """First event: the prompt's token ids after the template, so that the gateway can count and later resume."""

    ids: tuple[int, ...]


class ToolDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a tool call: id and name come with its first, the arguments' JSON in pieces."""

    index: int
    """Which call of the answer, from 0."""
    id: str = ""
    name: str = ""
    arguments: str = ""


class StepEvent(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="e", tag="s"):
    """One engine step. `d` may be empty while a multi-byte character is incomplete."""

    i: int
    """Index of the step, from 0."""
    t: tuple[int, ...]
    """Ids of the tokens of this step, in order."""
    n: int
    """Tokens generated so far, these included; the end-of-sequence token is not counted."""
    d: str = ""
    """Text that these tokens complete."""
    exact: bool = True
    """Whether `t` is known to be exactly what the engine sampled; if not, `n` is the count to bill."""
    lp: tuple[TokenLogprob, ...] | None = None
    tool: tuple[ToolDelta, ...] = ()
    """What of the step's tokens belongs to tool calls; not in `d`."""
    r: str = ""
    """What of them is reasoning that precedes the answer; not in `d`."""
    f: FinishReason | None = None
    """Why the answer is whole with this step, of one at which the engine ended it. A stop string may have cut its text:
    without the finish, too, there is nothing to go on with."""


class Usage(msgspec.Struct, frozen=True):
    """What the engine counted; the gateway bills its own count and compares."""

    prompt: int
    completion: int
    cached: int = 0


class FinishEvent(msgspec.Struct, frozen=True, tag_field="e", tag="f"):
    """Last event of a good stream."""

    finish: FinishReason
    usage: Usage
    revision: str
    """Manifest digest of the served revision, "sha256:<hex>"."""
    engine: str
    """Engine name and version, such as "llama_cpp 2026.10.11549"."""


class ErrorEvent(msgspec.Struct, frozen=True, tag_field="e", tag="x"):
    """Last event of a stream that failed after it began."""

    message: str
    """Safe to show to a customer."""
    fault: Fault


ReplicaEvent = PromptEvent | StepEvent | FinishEvent | ErrorEvent
"""Any line of a generation's stream."""


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of a refusal before the first event."""

    message: str
    fault: Fault
    param: str | None = None
    """The customer's field that is wrong ("messages", "max_tokens", ...) when fault is customer."""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer of `GET /health`."""

    state: Literal["loading", "ready", "draining", "failing"]
    reason: str = ""
    percent: int = 100
    """How much of the model is loaded, 0 to 100."""


class Stats(msgspec.Struct, frozen=True):
    """Answer of `GET /stats`."""

    running: int
    waiting: int
    capacity: int
    """Generations that run at once without waiting."""
    tokens_generated_total: int
    requests_aborted_total: int


encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(ReplicaEvent).decode
decode_generate_request = msgspec.json.Decoder(GenerateRequest).decode
decode_error_body = msgspec.json.Decoder(ErrorBody).decode
