"""OpenAI's own client for Python: list, chat, stream, tools, structured answers, typed errors, retries.

Usage: chat.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import json
from typing import Any

import openai
from demo import ANSWERS, CHAT, PERSON, STORY, WEATHER, stack, user
from pydantic import BaseModel


class Person(BaseModel):
    """What a structured answer is read into."""

    name: str
    age: int


class GetWeather(BaseModel):
    """Weather of a city"""

    city: str


TOOL = openai.pydantic_function_tool(GetWeather, name="get_weather")


def check_answers(client: openai.OpenAI) -> None:
    """One piece and stream say the same, and count the same."""
    for question, answer in ANSWERS.items():
        asked = {"model": CHAT, "messages": user(question), "temperature": 0}
        reply = client.chat.completions.create(**asked)
        assert reply.choices[0].message.content == answer, (question, reply.choices[0].message.content)
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        chunks = list(
            client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == answer, (question, text)
        assert chunks[-1].choices == []
        streamed = chunks[-1].usage
        assert (streamed.prompt_tokens, streamed.completion_tokens) == (
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )
        unasked = list(client.chat.completions.create(**asked, stream=True))
        assert all(chunk.choices for chunk in unasked), "usage that nobody asked for"


def check_parameters(client: openai.OpenAI) -> None:
    story = user(STORY)
    streamed = list(client.chat.completions.create(model=CHAT, messages=story, max_tokens=80, stream=True))
    assert len(streamed) > 4, "the story came in one piece"
    cut = client.chat.completions.create(model=CHAT, messages=story, temperature=0, max_tokens=5)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 5
    seeded = [
        client.chat.completions.create(model=CHAT, messages=story, temperature=1, seed=7, max_tokens=30)
        for _ in range(2)
    ]
    assert seeded[0].choices[0].message.content == seeded[1].choices[0].message.content
    stopped = client.chat.completions.create(model=CHAT, messages=story, temperature=0, stop=["named"])
    assert "named" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"
    probable = client.chat.completions.create(
        model=CHAT, messages=story, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    content = probable.choices[0].logprobs.content
    assert len(content) == 3
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in content)


def check_structured(client: openai.OpenAI) -> None:
    """A strict JSON schema by `parse`, and JSON mode."""
    parsed = client.chat.completions.parse(
        model=CHAT, messages=user(PERSON), temperature=0, response_format=Person
    )
    assert parsed.choices[0].message.parsed == Person(name="Ada", age=36)
    free = client.chat.completions.create(
        model=CHAT,
        messages=user(STORY),
        temperature=0,
        max_tokens=200,
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(free.choices[0].message.content), dict), free
    with client.chat.completions.stream(
        model=CHAT, messages=user(PERSON), temperature=0, response_format=Person
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(pieces) == final.choices[0].message.content
    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


def check_tools(client: openai.OpenAI) -> None:
    """Called when it may, forced when it must, in pieces when streamed; its result is taken back."""
    asked = {"model": CHAT, "messages": user(WEATHER), "temperature": 0, "tools": [TOOL]}
    parsed = client.chat.completions.parse(**asked)
    assert parsed.choices[0].finish_reason == "tool_calls"
    [call] = parsed.choices[0].message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Oslo")
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Oslo")
    forced = client.chat.completions.create(
        **{**asked, "messages": user("ping")},
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=100,
    )
    assert forced.choices[0].message.tool_calls[0].function.name == "get_weather"
    silent = client.chat.completions.create(**{**asked, "messages": user("ping")}, tool_choice="none")
    assert silent.choices[0].message.content == "pong"
    turns = [
        *user(WEATHER),
        parsed.choices[0].message.model_dump(include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny, 20 degrees"},
    ]
    after = client.chat.completions.create(model=CHAT, messages=turns, tools=[TOOL], max_tokens=20)
    assert after.usage.prompt_tokens > parsed.usage.prompt_tokens


def check_completions(client: openai.OpenAI) -> None:
    """The older API: several prompts, several answers, token ids, streams."""
    made = client.completions.create(model=CHAT, prompt=["ping", "pong"], max_tokens=6, n=2, echo=True)
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert made.choices[0].text.startswith("ping")
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    ids = client.completions.create(model=CHAT, prompt=[[5, 6, 7], [8]], max_tokens=2)
    assert (len(ids.choices), ids.usage.prompt_tokens) == (2, 4)
    one = client.completions.create(model=CHAT, prompt=STORY, max_tokens=20, temperature=0)
    pieces = list(
        client.completions.create(model=CHAT, prompt=STORY, max_tokens=20, temperature=0, stream=True)
    )
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == one.choices[0].text


def check_several(client: openai.OpenAI) -> None:
    """`n` answers, each counted; who served is said, and the generation can be asked for afterwards."""
    made = client.chat.completions.create(model=CHAT, messages=user("ping"), n=3, temperature=0)
    assert [choice.message.content for choice in made.choices] == ["pong"] * 3
    one = client.chat.completions.with_raw_response.create(model=CHAT, messages=user("ping"), temperature=0)
    reply = one.parse()
    assert made.usage.completion_tokens == 3 * reply.usage.completion_tokens
    assert reply.provider in {"alpha", "beta"}
    found = client.get(f"/generation?id={reply.id}", cast_to=dict[str, Any])["data"]
    assert found["tokens_completion"] == reply.usage.completion_tokens
    assert found["provider_name"] == reply.provider


def check_errors(client: openai.OpenAI) -> None:
    ask = {"model": CHAT, "messages": user("ping")}
    try:
        client.with_options(api_key="rm_live_wrong").chat.completions.create(**ask)
        raise AssertionError("a wrong key was accepted")
    except openai.AuthenticationError as error:
        assert error.status_code == 401
    try:
        client.chat.completions.create(**{**ask, "model": "raymart/demo-chut"})
        raise AssertionError("an unknown model was accepted")
    except openai.NotFoundError as error:
        assert CHAT in error.message
        assert error.request_id.startswith("req_")
    for wrong, param in (
        ({"temperature": 9}, "temperature"),
        ({"messages": user("word " * 3_000)}, "messages"),
        ({"extra_body": {"chat_template": "{{ messages }}"}}, "chat_template"),
    ):
        try:
            client.chat.completions.create(**{**ask, **wrong})
            raise AssertionError(f"{param} was accepted")
        except openai.BadRequestError as error:
            assert error.param == param, error.body
            assert error.type == "invalid_request_error"


def main() -> None:
    known = stack()
    client = openai.OpenAI(base_url=known.base_url, api_key=known.api_key, max_retries=0)
    assert CHAT in [model.id for model in client.models.list()]
    check_answers(client)
    check_parameters(client)
    check_structured(client)
    check_tools(client)
    check_completions(client)
    check_several(client)
    check_errors(client)
    print("answers, streams, usage, tools, JSON schema, completions, typed errors")


if __name__ == "__main__":
    main()
