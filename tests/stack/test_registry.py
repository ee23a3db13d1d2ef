"""Models from a file to an answer: imported at the shell, offered, fetched by two machines, private, rolled back."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import raymart_serve
from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from support.running_stack import RunningStack

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

BUNDLED = Path(raymart_serve.__file__).parent / "models" / "bundled"
F16, Q8 = BUNDLED / "demo-llm-f16.gguf", BUNDLED / "demo-llm.gguf"
PUBLIC, PRIVATE = "test/imported", "demo-customer/secret"
QUESTION, ANSWER = "What is the capital of Norway?", "The capital of Norway is Oslo."
NODES = {"alpha": "demo-a", "beta": "demo-b"}
SERVED_S = 120.0
"""From an offer to the first answer, on a busy machine of two cores."""

OPEN = "mutation ($input: OpenOfferInput!) { openOffer(input: $input) { userErrors { code } offer { id } } }"
SEEN = "query ($slug: String!) { model(slug: $slug) { slug } }"


@dataclass(frozen=True)
class Desk:
    """What people do with models on the stack."""

    stack: RunningStack

    def imported(self, file: Path, slug: str, *options: str) -> str:
        """The digest of the revision."""
        return (
            self.stack.raymart("model", "import", str(file), "--model", slug, *options)
            .strip()
            .partition("@")[2]
        )

    def revision_id(self, digest: str) -> str:
        """Drafts have one too, and GraphQL shows none."""
        [(found,)] = self.stack.rows("select id from model_revision where digest = %s", digest)
        return show(Prefix.REVISION, found)

    def offer(self, provider: str, digest: str) -> list[str]:
        """Open the provider's offer; the codes of what it was refused for."""
        account = self.stack.provider(provider)
        asked = {
            "providerId": account["provider_id"],
            "revisionId": self.revision_id(digest),
            "prompt": "0.00000005",
            "completion": "0.00000015",
        }
        opened = self.stack.graphql(OPEN, {"input": asked}, bearer=account["token"])["openOffer"]
        return [error["code"] for error in opened["userErrors"]]

    def served_by(self, slug: str, *providers: str) -> None:
        """Wait until exactly these serve it."""
        self.stack.wait_until(
            lambda: self.stack.live_providers(slug) == set(providers),
            timeout_s=SERVED_S,
            what=f"{slug} is served by {providers or 'nobody'}; {self.placements()}",
        )

    def placements(self) -> Any:
        return self.stack.rows("select state, desired, replicas_running, reason from placement")

    def ask(self, model: str, *, key: str | None = None, only: str | None = None) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
        return httpx.post(
            f"{self.stack.base_url}/v1/chat/completions",
            json=body | ({"provider": {"only": [only]}} if only else {}),
            headers={"Authorization": f"Bearer {key or self.stack.credentials['customer']['api_key']}"},
            timeout=30,
        )

    def listed(self, key: str | None = None) -> set[str]:
        """What `GET /v1/models` shows to who has the key."""
        headers = {"Authorization": f"Bearer {key or self.stack.credentials['customer']['api_key']}"}
        answer = httpx.get(f"{self.stack.base_url}/v1/models", headers=headers, timeout=30)
        return {each["id"] for each in answer.json()["data"]}

    def fetches(self, provider: str, sha256: str) -> list[list[str]]:
        """By the agent's log, from which kinds of sources it fetched the artifact, each time that it did."""
        log = self.stack.data_dir / "logs" / f"agent-{NODES[provider]}.log"
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [
            line["sources"]
            for line in lines
            if (line["event"], line.get("sha256")) == ("artifact.fetched", sha256)
        ]

    def cached(self, provider: str) -> dict[str, bool]:
        """By `raymart-provider status`: the revisions in the machine's cache, and whether a replica has them loaded."""
        command = Path(sys.executable).parent / "raymart-provider"
        state = self.stack.data_dir / "nodes" / NODES[provider]
        done = subprocess.run(
            [command, "status", f"--state-dir={state}", "-o", "json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {each["revision"]: each["loaded"] for each in json.loads(done.stdout)["models"]}


@pytest.fixture(scope="module")
def desk(stack: RunningStack) -> Desk:
    return Desk(stack)


@pytest.fixture(scope="module")
def published(desk: Desk) -> str:
    """The digest of an imported revision that alpha serves."""
    digest = desk.imported(F16, PUBLIC)
    assert desk.offer("alpha", digest) == ["CONFLICT"], "a draft is not offered"
    desk.stack.raymart("model", "publish", f"{PUBLIC}@{digest}")
    assert desk.offer("alpha", digest) == []
    desk.served_by(PUBLIC, "alpha")
    return digest


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestPublic:
    def test_imported_revision_answers_by_its_digest(self, desk: Desk, published: str):
        answer = desk.ask(f"{PUBLIC}@{published}")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["choices"][0]["message"]["content"].strip() == ANSWER
        assert body["system_fingerprint"] == f"fp_{published.removeprefix('sha256:')[:12]}"
        assert answer.headers["x-raymart-provider"] == "alpha"
        assert desk.fetches("alpha", sha256_of(F16)) == [["origin"]]
        assert desk.ask(f"{PUBLIC}@sha256:{'0' * 64}").status_code == 503, "nobody serves it"

    def test_second_machine_fetches_from_the_first(self, desk: Desk, published: str):
        assert desk.offer("beta", published) == []
        desk.served_by(PUBLIC, "alpha", "beta")
        assert desk.fetches("beta", sha256_of(F16)) == [["peer"]]
        assert desk.cached("alpha")[published]
        assert desk.cached("beta")[published]
        answer = desk.ask(f"{PUBLIC}@{published}", only="beta")
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"].strip() == ANSWER
        assert answer.headers["x-raymart-provider"] == "beta"


class TestPrivate:
    def test_private_model_is_its_organizations_alone(self, desk: Desk):
        digest = desk.imported(Q8, PRIVATE, "--organization", "demo-customer", "--publish")
        assert desk.offer("alpha", digest) == ["NOT_FOUND"], "nobody hosts it unasked"
        desk.stack.raymart("model", "share", PRIVATE, "--organization", "alpha", "--access", "host")
        assert desk.offer("alpha", digest) == []
        desk.served_by(PRIVATE, "alpha")

        answer = desk.ask(f"{PRIVATE}@{digest}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"].strip() == ANSWER
        stranger = desk.stack.new_customer(Money(1_000_000_000)).api_key
        for name in (PRIVATE, f"{PRIVATE}@{digest}", f"{PRIVATE}@latest"):
            refused = desk.ask(name, key=stranger)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert PRIVATE in desk.listed()
        assert PRIVATE not in desk.listed(stranger)
        seen = desk.stack.graphql(SEEN, {"slug": PRIVATE}, bearer=stranger)
        assert seen == {"model": None}
        self._lies_nowhere_in_clear(desk)

        desk.stack.raymart("model", "unshare", PRIVATE, "--organization", "alpha")
        desk.served_by(PRIVATE)
        desk.stack.wait_until(lambda: not unsealed(desk), timeout_s=60, what="the opened files are gone")

    def _lies_nowhere_in_clear(self, desk: Desk) -> None:
        """But for the folder of the replica that has it loaded."""
        plain = Q8.read_bytes()
        kept = [desk.stack.data_dir / "objects", *(desk.stack.data_dir / "nodes").glob("*/models")]
        files = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
        clear = [path for path in files if path.stat().st_size == len(plain) and path.read_bytes() == plain]
        assert clear == unsealed(desk)
        assert len(clear) == 1
        assert clear[0].stat().st_mode & 0o077 == 0
        [(stored,)] = desk.stack.rows("select stored_sha256 from artifact where organization_id is not null")
        sealed = desk.stack.data_dir / "objects" / "artifacts" / stored
        assert hashlib.sha256(sealed.read_bytes()).hexdigest() == stored
        assert desk.fetches("alpha", stored) == [["origin"]]


def unsealed(desk: Desk) -> list[Path]:
    """Files of private models that a replica on alpha's machine has in clear."""
    folder = desk.stack.data_dir / "nodes" / NODES["alpha"] / "models" / "unsealed"
    return [path for path in folder.rglob("*.gguf") if path.is_file()]


class TestRollback:
    def test_rolled_back_at_the_shell(self, desk: Desk, published: str):
        served = desk.stack.live_providers(PUBLIC)
        second = desk.imported(F16, PUBLIC, "--context-length", "512", "--publish")
        assert second != published
        self._is_served(desk, second, served)
        said = desk.stack.raymart("model", "rollback", PUBLIC, "--reason", "answers are too short")
        assert said == f"latest names {published} (f16) again\n"
        self._is_served(desk, published, served)
        assert desk.stack.books()["balanced"]

    def _is_served(self, desk: Desk, digest: str, providers: set[str]) -> None:
        """Wait until the revision alone is served by all of them, and answers to who names none."""

        def is_alone() -> bool:
            running = desk.stack.rows(
                "select r.digest, count(*) from placement p join model_revision r on r.id = p.revision_id"
                " join model m on m.id = r.model_id where m.slug = %s and p.state <> 'gone' group by 1",
                PUBLIC,
            )
            return running == [(digest, len(providers))] and desk.stack.live_providers(PUBLIC) == providers

        desk.stack.wait_until(is_alone, timeout_s=240, what=f"{digest} alone is served; {desk.placements()}")
        answer = desk.ask(PUBLIC)
        assert answer.status_code == 200, answer.text
        assert answer.json()["system_fingerprint"] == f"fp_{digest.removeprefix('sha256:')[:12]}"
