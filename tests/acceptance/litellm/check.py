"""LiteLLM's client: answers, streams (async too), tools, both JSON forms, embeddings, its own typed errors.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import asyncio
import json
import os

from demo import ANSWER, CHAT, EMBED, PERSON, QUESTION, STORY, WEATHER, Stack, stack, user

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # Else it asks GitHub for prices when it is imported.

import litellm
from pydantic import BaseModel

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    """What a structured answer is read into."""

    name: str
    age: int


def asked(known: Stack, text: str, **more: object) -> dict:
    """A request as people write it."""
    return {
        "model": f"openai/{CHAT}", "messages": user(text), "temperature": 0,
        "api_base": known.base_url, "api_key": known.api_key, **more,
    }  # fmt: skip


def check_answers(known: Stack) -> None:
    reply = litellm.completion(**asked(known, QUESTION))
    assert reply.choices[0].message.content == ANSWER
    chunks = list(litellm.completion(**asked(known, QUESTION, stream=True)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    story = list(litellm.completion(**asked(known, STORY, stream=True, max_tokens=80)))
    assert len(story) > 4, "the story came in one piece"
    counted = list(
        litellm.completion(**asked(known, QUESTION, stream=True, stream_options={"include_usage": True}))
    )
    assert counted[-1].usage.total_tokens == reply.usage.total_tokens


async def check_async(known: Stack) -> None:
    stream = await litellm.acompletion(**asked(known, QUESTION, stream=True))
    text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == ANSWER
    replies = await asyncio.gather(*(litellm.acompletion(**asked(known, QUESTION)) for _ in range(4)))
    assert {reply.choices[0].message.content for reply in replies} == {ANSWER}


def check_structured(known: Stack) -> None:
    reply = litellm.completion(**asked(known, PERSON, response_format=Person))
    assert Person.model_validate_json(reply.choices[0].message.content) == Person(name="Ada", age=36)
    reply = litellm.completion(**asked(known, PERSON, response_format={"type": "json_object"}))
    assert json.loads(reply.choices[0].message.content) == {"name": "Ada", "age": 36}


def check_tools(known: Stack) -> None:
    reply = litellm.completion(**asked(known, WEATHER, tools=[TOOL], tool_choice="auto"))
    [call] = reply.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo"})
    assert reply.choices[0].finish_reason == "tool_calls"
    chunks = list(litellm.completion(**asked(known, WEATHER, tools=[TOOL], stream=True)))
    whole = litellm.stream_chunk_builder(chunks)
    assert json.loads(whole.choices[0].message.tool_calls[0].function.arguments) == {"city": "Oslo"}


def check_embeddings(known: Stack) -> None:
    made = litellm.embedding(
        model=f"openai/{EMBED}", input=["ping", "pong"], api_base=known.base_url, api_key=known.api_key
    )
    assert [len(one["embedding"]) for one in made.data] == [128, 128]
    assert made.usage.prompt_tokens > 0


def check_errors(known: Stack) -> None:
    for wrong, expected in (
        ({"api_key": "rm_live_wrong"}, litellm.AuthenticationError),
        ({"model": "openai/raymart/nothing"}, litellm.NotFoundError),
        ({"messages": user("word " * 3_000)}, litellm.BadRequestError),
        ({"temperature": 9}, litellm.BadRequestError),
    ):
        try:
            litellm.completion(**(asked(known, "ping", num_retries=0, max_retries=0) | wrong))
            raise AssertionError(f"{list(wrong)} was accepted")
        except expected:
            pass


def main() -> None:
    known = stack()
    check_answers(known)
    asyncio.run(check_async(known))
    check_structured(known)
    check_tools(known)
    check_embeddings(known)
    check_errors(known)
    print("answers, streams, async, tools, JSON, vectors, typed errors")


if __name__ == "__main__":
    main()
