"""A provider that dies in mid-stream is not noticed: the text is byte-identical, billed once, and everybody has their part.

Real llama.cpp replicas in processes of their own behind the real gateway. Streams run on one provider, which is killed
with SIGKILL at random tokens; two others go on. What each client read is compared with an undisturbed run, what was
billed with what was delivered, and what each provider earned with its parts.
"""

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from raymart_billing.connections import make_pool
from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions
from raymart_marketplace.gateway.limits import InferenceLimits
from support.figures import Figure
from support.gateway_market import GatewayMarket
from support.llama_process import LlamaProcess

STREAMS = 100
AT_ONCE = 4
STEP_DELAY_MS = 8.0
GAP_S_MAX = 2.0
LIMITS = InferenceLimits(
    request_deadline_s=60.0, first_token_timeout_s=20.0, stall_timeout_s=10.0, attempts_max=3, hold_ttl_s=90.0,
    resume_wait_s=3.0,
)  # fmt: skip
PRICES = {
    "victim": Prices(token_prompt=3, token_completion=7),
    "second": Prices(token_prompt=3, token_completion=7),
    "third": Prices(token_prompt=2, token_completion=5),
}
QUESTIONS: Sequence[Mapping[str, object]] = (
    {"content": "Repeat after me: naïve 你好 😀"},
    {"content": "What is a payout?"},
    {"content": "What is a payout?", "stop": ["machines have"]},
    {"content": "Count from 1 to 20."},
    {"content": "What is latency?"},
    {"content": "Spell the word marketplace."},
)


@dataclass(slots=True)
class Stream:
    """What a client saw of one stream."""

    text: str = ""
    finish: str = ""
    chunks: int = 0
    gap_s: float = 0.0
    """The longest wait between two chunks."""
    cost: str = ""
    tokens: int = 0
    resumed: int = 0


@dataclass(slots=True)
class Outcome:
    """What came of all kills."""

    kills: int = 0
    broken: int = 0
    """Streams that lost their provider in the middle."""
    streams: int = 0
    different: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    billed_wrong: int = 0
    earned_wrong: int = 0
    earned_nano_usd: dict[str, int] = field(default_factory=dict)


async def read_stream(market: GatewayMarket, question: Mapping[str, object], seen: Stream) -> None:
    """Ask, and note what comes and when."""
    asked = dict(question)
    body = market.body(
        messages=[{"role": "user", "content": asked.pop("content")}], max_tokens=80, temperature=0, stream=True,
        stream_options={"include_usage": True}, provider={"order": ["victim"]}, **asked,
    )  # fmt: skip
    async with market.client.stream("POST", "/v1/chat/completions", json=body) as response:
        at: float | None = None
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            now = time.monotonic()
            seen.gap_s = max(seen.gap_s, now - (at or now))
            at = now
            _note(json.loads(line.removeprefix("data: ")), seen)


def _note(chunk: dict, seen: Stream) -> None:
    seen.chunks += 1
    for choice in chunk["choices"]:
        seen.text += choice["delta"].get("content") or ""
        seen.finish = choice["finish_reason"] or seen.finish
    seen.resumed = max(seen.resumed, len(chunk.get("failover", {}).get("resumed", ())))
    if chunk.get("usage"):
        seen.cost, seen.tokens = chunk["usage"]["cost"], chunk["usage"]["completion_tokens"]


async def one_round(market: GatewayMarket, outcome: Outcome, whole: Mapping[str, Stream]) -> None:
    """A fresh victim, a few streams on it, and its death at a random token."""
    async with LlamaProcess(slots=AT_ONCE, step_delay_ms=STEP_DELAY_MS) as victim:
        market.directory.endpoints = {
            id_: endpoint
            for id_, endpoint in market.directory.endpoints.items()
            if endpoint.provider_slug != "victim"
        }
        await add(market, victim, "victim")
        questions = random.choices(QUESTIONS, k=AT_ONCE)
        seen = [Stream() for _ in questions]
        shortest = min(whole[json.dumps(question)].chunks for question in questions)
        die_at = random.randint(1, max(1, shortest - 3))
        async with asyncio.TaskGroup() as group:
            for question, stream in zip(questions, seen, strict=True):
                group.create_task(read_stream(market, question, stream))
            while min(stream.chunks for stream in seen) < die_at:
                await asyncio.sleep(0.001)
            victim.kill()
    outcome.kills += 1
    outcome.streams += len(seen)
    for question, stream in zip(questions, seen, strict=True):
        expected = whole[json.dumps(question)]
        if stream.resumed:
            outcome.broken += 1
            outcome.gaps_s.append(stream.gap_s)
        if (stream.text, stream.finish, stream.tokens) != (expected.text, expected.finish, expected.tokens):
            outcome.different.append(f"{stream.text!r} instead of {expected.text!r}")


async def add(market: GatewayMarket, process: LlamaProcess, provider: str) -> None:
    """An endpoint of a provider that has an account of its own."""
    await market.add_endpoint(
        process, provider=provider, secret=process.secret, provider_id=PROVIDERS[provider], prices=PRICES[provider],
        context_length=512, capacity=64,
    )  # fmt: skip


PROVIDERS: Mapping[str, UUID] = {name: new_id() for name in PRICES}


async def check(market: GatewayMarket, outcome: Outcome) -> None:
    """Compare the bill with what was delivered, and earnings with the parts."""
    await market.settle()
    rows = await market.books.fetch(
        "select r.id, sum(u.customer_nano_usd)::bigint, sum(u.tokens_completion)::bigint,"
        " count(*) filter (where u.tokens_prompt > 0),"
        " (select sum(a.tokens_delivered) from attempt a where a.request_id = r.id)::bigint"
        " from request r join usage_record u on coalesce(u.continues_id, u.id) = r.id"
        " where r.organization_id = %s group by r.id",
        market.books.organization_id,
    )
    outcome.billed_wrong += sum(
        prompts != 1 or tokens != delivered for _, _, tokens, prompts, delivered in rows
    )
    spent = sum(cost for _, cost, *_ in rows)
    balance, pending = await market.balance()
    outcome.billed_wrong += (FUNDS - spent, 0) != (balance, pending)
    for name, provider in PROVIDERS.items():
        [[earned, parts]] = await market.books.fetch(
            "select (select coalesce(sum(credits_posted - debits_posted), 0)::bigint from ledger_account"
            " where owner_id = %s), (select coalesce(sum(provider_nano_usd), 0)::bigint from usage_record"
            " where provider_id = %s)",
            provider,
            provider,
        )
        outcome.earned_wrong += earned != parts
        outcome.earned_nano_usd[name] = earned


FUNDS = 10**12


async def run(url: str, *, streams: int) -> Outcome:
    """All rounds, then the books."""
    outcome = Outcome()
    async with contextlib.AsyncExitStack() as stack:
        engine = make_engine(url)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(make_pool(url, name="gateway"))
        market = GatewayMarket(make_sessions(engine), pool, limits=LIMITS)
        await stack.enter_async_context(market.stack)
        await market.open()
        await market.books.fund(FUNDS)
        for provider in ("second", "third"):
            survivor = LlamaProcess(slots=AT_ONCE, step_delay_ms=STEP_DELAY_MS)
            await add(market, await stack.enter_async_context(survivor), provider)
        whole = {}
        for question in QUESTIONS:
            whole[json.dumps(question)] = undisturbed = Stream()
            await read_stream(market, question, undisturbed)
        while outcome.broken < streams:
            await one_round(market, outcome, whole)
        await check(market, outcome)
    return outcome


def figures(outcome: Outcome) -> Sequence[Figure]:
    """`outcome` beside what was promised."""
    gaps = sorted(outcome.gaps_s)
    return [
        Figure(
            name=f"texts unlike an undisturbed run, {outcome.broken} streams broken by {outcome.kills} SIGKILLs",
            measured=f"{len(outcome.different)} of {outcome.streams} {'; '.join(outcome.different[:2])}".strip(),
            target="0",
            holds=not outcome.different and outcome.broken > 0,
        ),
        Figure(
            name="requests not billed once for what was delivered",
            measured=str(outcome.billed_wrong),
            target="0",
            holds=outcome.billed_wrong == 0,
        ),
        Figure(
            name="providers whose earnings are not their parts",
            measured=f"{outcome.earned_wrong}; earned, nano-USD: {outcome.earned_nano_usd}",
            target="0",
            holds=outcome.earned_wrong == 0 and sum(map(bool, outcome.earned_nano_usd.values())) > 1,
        ),
        Figure(
            name="longest gap in a broken stream",
            measured=f"{gaps[-1]:.3f} s, median {gaps[len(gaps) // 2]:.3f} s",
            target="<= 2 s",
            holds=gaps[-1] <= GAP_S_MAX,
        ),
    ]


def measure(*, streams: int = STREAMS) -> Sequence[Figure]:
    """Kill providers, on a server of its own, until `streams` streams were broken."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-") as name:
        server = EmbeddedPostgres(Path(name) / "pg")
        try:
            upgrade(server.start())
            outcome = asyncio.run(run(server.url, streams=streams))
        finally:
            server.destroy()
    return figures(outcome)
