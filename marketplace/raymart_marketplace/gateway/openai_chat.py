"""OpenAI's chat-completions body in our terms: one request for each choice, and how the answer is to be written."""

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import ChatMessage
from raymart_marketplace.gateway.choices import Asked, asked_of, first_model
from raymart_marketplace.gateway.openai_body import ChatBody, MessageBody, decode_chat_body
from raymart_marketplace.gateway.openai_tools import check_call_id, generation_options, tool_calls
from raymart_marketplace.gateway.provider_object import ProviderObject, routing_preference
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.gateway.required_parameters import needed_capabilities
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference


def parse_chat(body: bytes) -> Asked:
    """Read an OpenAI chat-completions body.

    Documented fields that change nothing here are ignored. Raises: InvalidRequest naming the field as `param`,
    whatever the bytes are.
    """
    decoded = decode_chat_body(body)
    sampling = _sampling(decoded)
    request = ChatRequest(
        model=first_model(decoded.model, decoded.models),
        # A list, which is built without a generator's frame for each message.
        messages=tuple(
            [
                _message(message, param=f"messages[{position}]")
                for position, message in enumerate(decoded.messages)
            ]
        ),
        sampling=sampling,
        options=generation_options(decoded),
        routing=NO_PREFERENCE if decoded.provider is None else _routing(decoded.provider, decoded, sampling),
    )
    return asked_of(
        [request],
        n=decoded.n,
        models=decoded.models,
        stream=decoded.stream,
        stream_options=decoded.stream_options,
        provider=decoded.provider,
        timeout=decoded.timeout,
    )


def _routing(wish: ProviderObject, body: ChatBody, sampling: Sampling) -> RoutingPreference:
    needed = needed_capabilities(body, sampling, tools=bool(body.tools)) if wish.require_parameters else ()
    return routing_preference(wish, needed=needed)


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
        tool_calls=tool_calls(body, param=param) if body.tool_calls else (),
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
        ignore_eos=bool(body.ignore_eos),
    )
