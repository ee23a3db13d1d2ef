"""LlamaIndex's OpenAI-like model: complete, chat, both streamed, tools.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

from demo import ANSWER, CHAT, QUESTION, STORY, WEATHER, stack
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def get_weather(city: str) -> str:
    """Weather of a city"""
    return f"sunny in {city}"


def check_answers(model: OpenAILike) -> None:
    asked = [ChatMessage(role="user", content=QUESTION)]
    assert model.chat(asked).message.content == ANSWER
    pieces = list(model.stream_chat(asked))
    assert len(list(model.stream_complete(STORY, max_tokens=80))) > 4, "the story came in one piece"
    assert "".join(piece.delta or "" for piece in pieces) == ANSWER
    assert model.complete(QUESTION).text == ANSWER, "`complete` is a chat of one turn for a chat model"
    assert "".join(piece.delta or "" for piece in model.stream_complete(QUESTION)) == ANSWER


def check_tools(model: OpenAILike) -> None:
    tool = FunctionTool.from_defaults(get_weather, name="get_weather", description="Weather of a city")
    reply = model.chat_with_tools([tool], user_msg=WEATHER)
    [call] = model.get_tool_calls_from_response(reply)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Oslo"})


def main() -> None:
    known = stack()
    model = OpenAILike(
        model=CHAT, api_base=known.base_url, api_key=known.api_key, temperature=0, max_retries=0,
        context_window=1_024, is_chat_model=True, is_function_calling_model=True,
    )  # fmt: skip
    check_answers(model)
    check_tools(model)
    print("complete, chat, streams, tools")


if __name__ == "__main__":
    main()
