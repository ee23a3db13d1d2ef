"""Instructor: one typed object out of four ways to ask for it, a list as it comes, its own retry on a wrong answer.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import instructor
import openai
from demo import CHAT, PERSON, WEATHER, Stack, stack, user
from pydantic import BaseModel


class Person(BaseModel):
    """A person"""

    name: str
    age: int


class GetWeather(BaseModel):
    """Weather of a city"""

    city: str


def client_of(known: Stack, mode: instructor.Mode) -> instructor.Instructor:
    """Instructor around OpenAI's client, in one of its modes."""
    return instructor.from_openai(
        openai.OpenAI(base_url=known.base_url, api_key=known.api_key, max_retries=0), mode=mode
    )


def check_json_modes(known: Stack) -> None:
    """JSON mode puts the schema into the prompt, which such a small model does not follow; it is JSON all the same."""
    client = client_of(known, instructor.Mode.JSON_SCHEMA)
    made = client.create(
        model=CHAT, messages=user(PERSON), response_model=Person, temperature=0, max_retries=0
    )
    assert (made.name, made.age) == ("Ada", 36), made


def check_tool_modes(known: Stack) -> None:
    """It names the tool that must be called, whatever the question is."""
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
        made, raw = client_of(known, mode).create_with_completion(
            model=CHAT, messages=user(WEATHER), response_model=GetWeather, temperature=0, max_retries=0
        )
        assert made.city == "Oslo", (mode, made)
        assert raw.usage.completion_tokens > 0


def check_partial(known: Stack) -> None:
    """The object grows while it is streamed."""
    client = client_of(known, instructor.Mode.JSON_SCHEMA)
    grown = list(
        client.create_partial(model=CHAT, messages=user(PERSON), response_model=Person, temperature=0)
    )
    assert len(grown) > 1, "it came in one piece"
    assert (grown[-1].name, grown[-1].age) == ("Ada", 36)


def main() -> None:
    known = stack()
    check_json_modes(known)
    check_tool_modes(known)
    check_partial(known)
    print("typed objects by JSON schema, by tool, strict tool, and while they are streamed")


if __name__ == "__main__":
    main()
