"""The running stack and what its demo models answer. Standard library only: each client has an environment of its own."""

import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CHAT = "raymart/demo-chat"
EMBED = "raymart/demo-embed"
STORY = "Please tell a story with a cat named Nora."
WEATHER = "What is the weather in Oslo?"
"""The demo model calls `get_weather` with the city, when it may."""
PERSON = "Return JSON with name and age for Ada, 36."
ANSWERS = {
    "What is the capital of Norway?": "The capital of Norway is Oslo.",
    "What is 7 + 5?": "7 + 5 = 12.",
    "Repeat after me: hello world": "hello world",
    PERSON: '{"name": "Ada", "age": 36}',
    "What is a payout?": "A payout is the money sent to a provider for the work its machines have done.",
    "ping": "pong",
}
"""With temperature 0."""
QUESTION = "What is the capital of Norway?"
ANSWER = ANSWERS[QUESTION]
TOKENIZER = Path(__file__).parents[3] / "serve" / "raymart_serve" / "models" / "bundled" / "demo-llm"
"""The folder with the demo model's own tokenizer and chat template, the same as in its GGUF."""
_BILLED_S = 20.0
"""How long the rollups may take."""


@dataclass(frozen=True, slots=True)
class Used:
    """What the platform recorded and billed for one key."""

    requests: int
    tokens_prompt: int
    tokens_completion: int
    amount: str
    """US dollars."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack, and its customer."""

    origin: str
    """Scheme, host and port."""
    api_key: str
    token: str
    """The customer's access token, for GraphQL."""
    organization_id: str

    @property
    def base_url(self) -> str:
        """What clients of OpenAI's API are given."""
        return f"{self.origin}/v1"

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Run an operation as the customer."""
        return post(f"{self.origin}/graphql", {"query": query, "variables": variables}, self.token)["data"]

    def new_key(self, name: str) -> tuple[str, str]:
        """A key of the customer's first project: its id and its secret."""
        found = self.graphql(
            "query($id: ID!) { organization(id: $id) { projects { nodes { id } } } }",
            id=self.organization_id,
        )
        made = self.graphql(
            "mutation($project: ID!, $name: String!) { createApiKey(input: {projectId: $project, name: $name}) "
            "{ apiKey { id } secret userErrors { message } } }",
            project=found["organization"]["projects"]["nodes"][0]["id"],
            name=name,
        )["createApiKey"]
        assert not made["userErrors"], made
        return made["apiKey"]["id"], made["secret"]

    def billed(self, key_id: str, *, requests: int) -> Used:
        """What was billed to one key, as soon as it is `requests` or more; at last whatever it is then."""
        until = time.monotonic() + _BILLED_S
        while (used := self._used_by(key_id)).requests < requests and time.monotonic() < until:
            time.sleep(0.5)
        return used

    def _used_by(self, key_id: str) -> Used:
        today = datetime.now(UTC).date()
        buckets = self.graphql(
            "query($id: ID!, $since: Date!, $until: Date!) { organization(id: $id) { usageByDay(since: $since,"
            " until: $until, by: API_KEY) { apiKey { id } totals { requests tokensPrompt tokensCompletion"
            " amount { amount } } } } }",
            id=self.organization_id,
            since=str(today - timedelta(days=1)),
            until=str(today + timedelta(days=1)),
        )["organization"]["usageByDay"]
        sums = [bucket["totals"] for bucket in buckets if (bucket["apiKey"] or {}).get("id") == key_id]
        return Used(
            requests=sum(int(each["requests"]) for each in sums),
            tokens_prompt=sum(int(each["tokensPrompt"]) for each in sums),
            tokens_completion=sum(int(each["tokensCompletion"]) for each in sums),
            amount=" + ".join(each["amount"]["amount"] for each in sums),
        )


def stack() -> Stack:
    """The one whose credentials file is this script's argument."""
    known = json.loads(Path(sys.argv[1]).read_text())
    customer = known["customer"]
    return Stack(
        origin=known["base_url"].rstrip("/"),
        api_key=customer["api_key"],
        token=customer["token"],
        organization_id=customer["organization_id"],
    )


def post(url: str, body: object, credential: str) -> Any:
    """Send JSON, get JSON."""
    headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]
