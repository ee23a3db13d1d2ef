"""Make embeddings on a running stack with the official `openai` client, and rerank as Cohere's and Jina's clients do.

Usage: embeddings.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import math

import openai
from demo import EMBED as MODEL
from demo import post, stack

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
    sent = client.embeddings.with_raw_response.create(model=MODEL, input="ping")
    assert isinstance(sent.http_response.json()["data"][0]["embedding"], str), "numbers that nobody asked for"
    decoded = sent.parse().data[0].embedding
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
        [best] = post(f"{base_url}/rerank", body, key)["results"]
        assert best["index"] == right, (question, best)


def main() -> None:
    known = stack()
    client = openai.OpenAI(base_url=known.base_url, api_key=known.api_key, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    check_search(client)
    check_forms(client)
    check_errors(client)
    check_rerank(known.base_url, known.api_key)
    print("search by vectors, base64 unless numbers are asked for, reranking")


if __name__ == "__main__":
    main()
