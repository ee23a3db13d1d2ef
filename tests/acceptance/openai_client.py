"""Drive a running stack with the official `openai` client: list, chat, stream with usage, errors.

Usage: openai_client.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import json
import sys
from pathlib import Path

import openai

MODEL = "raymart/demo-chat"
ANSWERS = {
    "What is the capital of Norway?": "The capital of Norway is Oslo.",
    "What is 7 + 5?": "7 + 5 = 12.",
    "Repeat after me: hello world": "hello world",
    "Return JSON with name and age for Ada, 36.": '{"name": "Ada", "age": 36}',
    "What is a payout?": "A payout is the money sent to a provider for the work its machines have done.",
    "ping": "pong",
}


def check_answers(client: openai.OpenAI) -> None:
    for question, answer in ANSWERS.items():
        messages = [{"role": "user", "content": question}]
        reply = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
        assert reply.choices[0].message.content == answer, (question, reply.choices[0].message.content)
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=messages,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == answer, (question, text)
        assert chunks[-1].choices == []
        assert chunks[-1].usage == reply.usage or (
            chunks[-1].usage.prompt_tokens,
            chunks[-1].usage.completion_tokens,
        ) == (reply.usage.prompt_tokens, reply.usage.completion_tokens)
        print(
            f"  {question} -> {answer}  [{reply.usage.prompt_tokens}+{reply.usage.completion_tokens} tokens]"
        )


def check_parameters(client: openai.OpenAI) -> None:
    story = [{"role": "user", "content": "Please tell a story with a cat named Nora."}]
    cut = client.chat.completions.create(model=MODEL, messages=story, temperature=0, max_tokens=5)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 5
    seeded = [
        client.chat.completions.create(model=MODEL, messages=story, temperature=1, seed=7, max_tokens=30)
        for _ in range(2)
    ]
    assert seeded[0].choices[0].message.content == seeded[1].choices[0].message.content
    stopped = client.chat.completions.create(model=MODEL, messages=story, temperature=0, stop=["named"])
    assert "named" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"
    probable = client.chat.completions.create(
        model=MODEL, messages=story, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    content = probable.choices[0].logprobs.content
    assert len(content) == 3
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in content)


def check_errors(client: openai.OpenAI, base_url: str) -> None:
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "ping"}]}
    try:
        openai.OpenAI(base_url=base_url, api_key="rm_live_wrong", max_retries=0).chat.completions.create(
            **ask
        )
        raise AssertionError("a wrong key was accepted")
    except openai.AuthenticationError as error:
        assert error.status_code == 401
    try:
        client.chat.completions.create(**{**ask, "model": "raymart/demo-chut"})
        raise AssertionError("an unknown model was accepted")
    except openai.NotFoundError as error:
        assert MODEL in error.message
    try:
        client.chat.completions.create(**ask, temperature=9)
        raise AssertionError("temperature 9 was accepted")
    except openai.BadRequestError as error:
        assert error.param == "temperature"
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 3_000}])
        raise AssertionError("a prompt over the context was accepted")
    except openai.BadRequestError as error:
        assert error.param == "messages", error.body


def main() -> None:
    credentials = json.loads(Path(sys.argv[1]).read_text())
    base_url = credentials["base_url"].rstrip("/") + "/v1"
    client = openai.OpenAI(base_url=base_url, api_key=credentials["customer"]["api_key"], max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    check_answers(client)
    check_parameters(client)
    check_errors(client, base_url)
    print("openai client: all claims hold")


if __name__ == "__main__":
    main()
