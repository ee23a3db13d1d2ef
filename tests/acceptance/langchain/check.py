"""LangChain: invoke, stream, batch, tools, structured answers by each of its methods, vectors, token counts.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import asyncio

import openai
from demo import ANSWER, ANSWERS, CHAT, EMBED, PERSON, QUESTION, STORY, WEATHER, Stack, stack
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Person(BaseModel):
    """A person"""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city"""
    return f"sunny in {city}"


def check_answers(model: ChatOpenAI) -> None:
    reply = model.invoke([SystemMessage("Be short."), HumanMessage(QUESTION)])
    assert reply.content == ANSWER, reply
    assert reply.usage_metadata["total_tokens"] == sum(
        reply.usage_metadata[each] for each in ("input_tokens", "output_tokens")
    )
    assert reply.response_metadata["finish_reason"] == "stop"
    pieces = list(model.stream(QUESTION, stream_usage=True))
    assert len(list(model.stream(STORY, max_tokens=80))) > 4, "the story came in one piece"
    whole = sum(pieces[1:], pieces[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.content == ANSWER
    assert whole.usage_metadata["output_tokens"] == reply.usage_metadata["output_tokens"]
    questions = list(ANSWERS)
    assert [each.content for each in model.batch(questions)] == [ANSWERS[each] for each in questions]


async def check_async(model: ChatOpenAI) -> None:
    assert "".join([piece.content async for piece in model.astream(QUESTION)]) == ANSWER


def check_tools(model: ChatOpenAI) -> None:
    bound = model.bind_tools([get_weather])
    reply = bound.invoke(WEATHER)
    [call] = reply.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Oslo"})
    streamed = list(bound.stream(WEATHER))
    assert sum(streamed[1:], streamed[0]).tool_calls[0]["args"] == {"city": "Oslo"}
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    after = bound.invoke([HumanMessage(WEATHER), reply, result], max_tokens=20)
    assert after.usage_metadata["input_tokens"] > reply.usage_metadata["input_tokens"]
    forced = model.bind_tools([get_weather], tool_choice="get_weather").invoke("ping", max_tokens=100)
    assert forced.tool_calls[0]["name"] == "get_weather"


def check_structured(model: ChatOpenAI) -> None:
    for method in ("json_schema", "json_mode"):
        made = model.with_structured_output(Person, method=method).invoke(PERSON)
        assert made == Person(name="Ada", age=36), (method, made)


def check_embeddings(known: Stack) -> None:
    """Its own tokenizer is OpenAI's, whose ids mean nothing to another model: people switch that check off."""
    vectors = OpenAIEmbeddings(
        model=EMBED, base_url=known.base_url, api_key=known.api_key, check_embedding_ctx_length=False
    )
    one, other = vectors.embed_documents(["ping", "What is a payout?"])
    assert len(one) == len(other) == 128
    again = vectors.embed_query("ping")
    assert max(abs(a - b) for a, b in zip(one, again, strict=True)) < 1e-5


def check_errors(known: Stack) -> None:
    try:
        ChatOpenAI(model="raymart/nothing", base_url=known.base_url, api_key=known.api_key).invoke("ping")
        raise AssertionError("an unknown model was accepted")
    except openai.NotFoundError:
        pass


def main() -> None:
    known = stack()
    model = ChatOpenAI(
        model=CHAT, base_url=known.base_url, api_key=known.api_key, temperature=0, max_retries=0
    )
    check_answers(model)
    asyncio.run(check_async(model))
    check_tools(model)
    check_structured(model)
    check_embeddings(known)
    check_errors(known)
    print("invoke, stream, batch, tools, structured answers, vectors, typed errors")


if __name__ == "__main__":
    main()
