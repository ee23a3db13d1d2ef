"""Make embeddings on a running stack with the official `openai` client, and rerank as Cohere's and Jina's clients do.

Usage: openai_embeddings.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import json
import math
import sys
from pathlib import Path

import httpx
import openai

MODEL = "raymart/demo-embed"
ANSWERS = [
    "The capital of Norway is Oslo.",
    "The capital of Sweden is Stockholm.",
    "A payout is the money sent to a provider for the work its machines have done.",
    "The opposite of hot is cold.",
]
QUESTIONS = {
    "Do you know the capital of Norway?": 0,
    "Please name the capital city of Sweden.": 1,
    "Could you explain what a payout is?": 2,
    "Name the antonym of hot.": 3,
}


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def check_search(client: openai.OpenAI) -> None:
    """Each question's vector is nearest to its answer's, whole or cut to 32 numbers."""
    for dimensions in (openai.NOT_GIVEN, 32):
        made = client.embeddings.create(model=MODEL, input=[*ANSWERS, *QUESTIONS], dimensions=dimensions)
        vectors = [one.embedding for one in made.data]
        assert [one.index for one in made.data] == list(range(len(vectors)))
        assert {len(vector) for vector in vectors} == {dimensions or 128}
        assert all(abs(math.hypot(*vector) - 1) < 1e-3 for vector in vectors)
        for vector, (question, right) in zip(vectors[len(ANSWERS) :], QUESTIONS.items(), strict=True):
            scores = [cosine(vector, answer) for answer in vectors[: len(ANSWERS)]]
            assert scores.index(max(scores)) == right, (question, scores)
        print(f"  {len(vectors)} vectors of {len(vectors[0])} numbers, {made.usage.total_tokens} tokens")


def check_forms(client: openai.OpenAI) -> None:
    """Numbers and base64 are the same vector; token ids are taken and counted one by one."""
    numbers = client.embeddings.create(model=MODEL, input="ping", encoding_format="float").data[0].embedding
    decoded = client.embeddings.create(model=MODEL, input="ping").data[0].embedding
    assert all(abs(a - b) < 1e-6 for a, b in zip(numbers, decoded, strict=True))
    ids = client.embeddings.create(model=MODEL, input=[[5, 6, 7], [8]])
    assert ids.usage.prompt_tokens == 4


def check_errors(client: openai.OpenAI) -> None:
    for wrong, param in (
        ({"input": []}, "input"),
        ({"input": "ping", "dimensions": 129}, "dimensions"),
        ({"input": "word " * 3_000}, "input"),
        ({"input": [[2_000_000]]}, "input"),
    ):
        try:
            client.embeddings.create(model=MODEL, **wrong)
            raise AssertionError(f"{param} was accepted")
        except openai.BadRequestError as error:
            assert error.param == param, error.body


def check_rerank(base_url: str, key: str) -> None:
    for question, right in QUESTIONS.items():
        body = {"model": MODEL, "query": question, "documents": ANSWERS, "top_n": 1}
        answer = httpx.post(f"{base_url}/rerank", json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        [best] = answer.json()["results"]
        assert best["index"] == right, (question, best)


def main() -> None:
    credentials = json.loads(Path(sys.argv[1]).read_text())
    base_url, key = credentials["base_url"].rstrip("/") + "/v1", credentials["customer"]["api_key"]
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    check_search(client)
    check_forms(client)
    check_errors(client)
    check_rerank(base_url, key)
    print("openai embeddings: all claims hold")


if __name__ == "__main__":
    main()
