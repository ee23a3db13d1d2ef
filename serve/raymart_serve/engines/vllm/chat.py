"""Conversations by vLLM's own serving layer: the chat template, its parsers of tool calls and reasoning, constraints.

vLLM renders and parses through the classes of its OpenAI server, which work without that server. They move between
releases; this module is where they are touched.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymart_core.wire.replica import ChatMessage, GenerationOptions, ToolDelta
from raymart_serve.engines.protocol import EngineFailed, RequestRefused
from raymart_serve.engines.vllm.constraints import bounded, format_tag, tool_document
from raymart_serve.engines.vllm.parameters import VllmParameters
from raymart_serve.engines.vllm.steps import Delta, DeltaParser, PlainText

if TYPE_CHECKING:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser.abstract_parser import Parser
    from vllm.sampling_params import StructuredOutputsParams
    from vllm.v1.engine.async_llm import AsyncLLM

_CONTEXT_IDS = 8
"""Tokens before a text that decide how it is spelled: whether it begins with a blank, or completes a character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one generation is constrained and read."""

    constraint: "StructuredOutputsParams | None"
    parser: DeltaParser
    skip_special_tokens: bool = True
    """False where the parser finds its marks among the special tokens."""
    reasoning_ended: bool | None = None
    """Whether the constraint holds from the first token on; None: vLLM looks at the prompt."""


class Chat:
    """The serving layer of one loaded model. All methods belong to the engine's event loop."""

    def __init__(self, llm: "AsyncLLM", parameters: VllmParameters) -> None:
        """Raises: EngineFailed when vLLM knows no such parser or it does not fit the tokenizer."""
        # Imported where vLLM is installed, when an engine loads (all of this module's imports of it).
        from vllm.parser import ParserManager  # noqa: PLC0415
        from vllm.renderers.online_renderer import OnlineRenderer  # noqa: PLC0415

        self._model_config = llm.model_config
        self._tokenizer = llm.get_tokenizer()
        self._calls_tools = bool(parameters.tool_parser)
        try:
            self._without_reasoning = ParserManager.get_parser(
                tool_parser_name=parameters.tool_parser or None,
                enable_auto_tools=self._calls_tools,
                tool_strict_level="parameter",
            )
            self._renderer = OnlineRenderer(
                model_config=llm.model_config,
                renderer=llm.renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
                enable_auto_tools=self._calls_tools,
                exclude_tools_when_tool_choice_none=True,
                tool_parser=parameters.tool_parser or None,
                reasoning_parser=parameters.reasoning_parser or None,
                # A call's arguments are held to its schema whether or not the tool asks for it.
                tool_strict_level="parameter",
            )
        except (TypeError, ValueError, KeyError) as error:
            raise EngineFailed(f"vLLM cannot parse this model's answers: {error}") from error

    async def encode_chat(
        self, messages: Sequence[ChatMessage], options: GenerationOptions
    ) -> tuple[int, ...]:
        """Token ids after the chat template. Raises: RequestRefused naming messages or tools."""
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse  # noqa: PLC0415
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415

        request = self._request([_document(message) for message in messages], options)
        if messages[-1].role == "assistant" and not messages[-1].tool_calls:
            # The beginning of the answer is given: only its continuation is wanted.
            request.continue_final_message = True
            request.add_generation_prompt = False
        try:
            rendered = await self._renderer.render_chat(request)
        except (VLLMClientError, ValueError, TypeError) as error:
            # Templates raise what they like about conversations that they do not allow.
            raise RequestRefused(
                f"the chat template refuses the messages: {error}", param="messages"
            ) from error
        if isinstance(rendered, ErrorResponse):
            raise RequestRefused(rendered.error.message, param="messages")
        return tuple(rendered[1][0]["prompt_token_ids"])

    async def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Token ids of plain text, with what the tokenizer puts in front. Raises: RequestRefused naming prompt."""
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest  # noqa: PLC0415
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415

        try:
            rendered = await self._renderer.render_completion(CompletionRequest(prompt=prompt, max_tokens=1))
        except VLLMClientError as error:
            raise RequestRefused(f"the prompt cannot be read: {error}", param="prompt") from error
        assert isinstance(rendered, list)
        return tuple(rendered[0]["prompt_token_ids"])

    def plan(self, prompt_ids: Sequence[int], resume_ids: Sequence[int], options: GenerationOptions) -> Plan:
        """How to run and read a generation with these options; its parser has read `resume_ids` already.

        Raises: RequestRefused for a format, tools or a choice that cannot be held to.
        """
        request = self._request([{"role": "user", "content": ""}], options)
        parser = self._renderer.parser if options.reasoning else self._without_reasoning
        if parser is None or not (request.tools or options.reasoning):
            plan = Plan(constraint=_constraint(request), parser=PlainText(), reasoning_ended=True)
        else:
            plan = self._parsed(parser, request, prompt_ids)
        if resume_ids:
            if plan.constraint is not None and request.tool_choice != "auto":
                raise RequestRefused(
                    "an answer that is held to a format cannot be taken up in its middle; begin it again",
                    param="resume_ids",
                )
            text = self._text_of(prompt_ids, resume_ids, skip_special_tokens=plan.skip_special_tokens)
            plan.parser.parse(text, resume_ids, finished=False)
        return plan

    def _parsed(
        self, parser_class: "type[Parser]", request: "ChatCompletionRequest", prompt_ids: Sequence[int]
    ) -> Plan:
        parser = parser_class(
            self._tokenizer, request.tools, model_config=self._model_config, chat_template_kwargs={}
        )
        request = parser.adjust_request(request)
        return Plan(
            constraint=_constraint(request),
            parser=_ChatParser(parser, request, prompt_ids),
            skip_special_tokens=request.skip_special_tokens,
            reasoning_ended=(
                # A model that is not asked to think begins with what it is held to.
                True
                if parser.reasoning_parser is None
                else request.resolve_reasoning_ended(parser, list(prompt_ids))
            ),
        )

    def _request(
        self, messages: Sequence[Mapping[str, object]], options: GenerationOptions
    ) -> "ChatCompletionRequest":
        from pydantic import ValidationError  # noqa: PLC0415
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: PLC0415
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415
        from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415

        document: dict[str, object] = {"messages": messages, "model": "", "max_tokens": 1}
        choice = options.tool_name or options.tool_choice
        if options.tools and self._calls_tools:
            document["tools"] = [tool_document(tool) for tool in options.tools]
            document["tool_choice"] = choice
            if options.tool_name is not None:
                document["tool_choice"] = {"type": "function", "function": {"name": options.tool_name}}
        elif options.tools and choice not in ("auto", "none"):
            raise RequestRefused("this revision calls no tools, so none can be required", param="tool_choice")
        try:
            request = ChatCompletionRequest.model_validate(document)
        except (VLLMClientError, ValidationError) as error:
            raise RequestRefused(f"vLLM refuses the request: {error}", param="tools") from error
        if options.response_format is not None:
            request.structured_outputs = StructuredOutputsParams(
                structural_tag=format_tag(options.response_format)
            )
        return request

    def _text_of(self, before: Sequence[int], ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        context = list(before[-_CONTEXT_IDS:])
        spelled: str = self._tokenizer.decode(context, skip_special_tokens=skip_special_tokens)
        together: str = self._tokenizer.decode([*context, *ids], skip_special_tokens=skip_special_tokens)
        return together[len(spelled) :]


class _ChatParser:
    """One generation's parser of vLLM's."""

    def __init__(self, parser: "Parser", request: "ChatCompletionRequest", prompt_ids: Sequence[int]) -> None:
        self._parser = parser
        self._request = request
        self._prompt_ids = list(prompt_ids)

    def parse(self, text: str, ids: Sequence[int], *, finished: bool) -> Delta:
        """Raises: EngineFailed when the parser breaks."""
        try:
            message = self._parser.parse_delta(
                text, list(ids), self._request, prompt_token_ids=self._prompt_ids, finished=finished
            )
        except Exception as error:
            # Fifty parsers by as many authors raise as many exceptions.
            raise EngineFailed(
                f"vLLM's parser broke on the model's answer: {type(error).__name__}"
            ) from error
        if message is None:
            return Delta()
        tools = tuple(
            ToolDelta(
                index=call.index,
                id=call.id or "",
                name=(call.function.name or "") if call.function else "",
                arguments=(call.function.arguments or "") if call.function else "",
            )
            for call in message.tool_calls or ()
        )
        return Delta(text=message.content or "", reasoning=message.reasoning or "", tools=tools)


def _constraint(request: "ChatCompletionRequest") -> "StructuredOutputsParams | None":
    """What the request is held to, white space bounded wherever the form allows it."""
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415
    from vllm.v1.structured_output.backend_xgrammar import (  # noqa: PLC0415
        has_xgrammar_unsupported_json_features,
    )

    asked = request.structured_outputs
    if asked is None or (asked.structural_tag is None and asked.json is None):
        return asked
    if asked.structural_tag is not None:
        tag = json.loads(asked.structural_tag)
    else:
        schema = json.loads(asked.json) if isinstance(asked.json, str) else asked.json
        tag = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": schema}}
    schema = tag.get("format", {}).get("json_schema")
    if isinstance(schema, dict) and has_xgrammar_unsupported_json_features(schema):
        raise RequestRefused(
            "the schema uses what cannot be held to: multipleOf, uniqueItems, contains, unknown string formats, "
            "or pattern with a length; leave it out",
            param="response_format",
        )
    return StructuredOutputsParams(structural_tag=bounded(tag))


def _document(message: ChatMessage) -> dict[str, object]:
    document: dict[str, object] = {"role": message.role, "content": message.content}
    if message.name is not None:
        document["name"] = message.name
    if message.tool_call_id is not None:
        document["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        document["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return document
