"""Checks through the replica's port: what a gateway sees of the engine, over HTTP."""

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from raymart_core.units import Fault
from raymart_core.wire.embedding import EMBED_PATH, PREDICT_PATH, RERANK_PATH
from raymart_core.wire.image import IMAGE_PATH
from raymart_core.wire.replica import (
    GENERATE_PATH,
    NDJSON,
    ErrorBody,
    FinishEvent,
    GenerateRequest,
    Health,
    PromptEvent,
    Sampling,
    Stats,
    StepEvent,
    decode_error_body,
    decode_event,
    encode,
)
from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import generated, greedy
from raymart_serve.conformance.http_client import Answer, exchanged, opened
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import Embeds, Engine, Generates, MakesImages, Predicts, Reranks
from raymart_serve.replica.generation_lines import FLUSH_S
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer
from raymart_serve.replica.routes import Routes

REVISION = "sha256:" + "c0" * 32
_PATHS: Mapping[str, type] = {
    GENERATE_PATH: Generates,
    IMAGE_PATH: MakesImages,
    EMBED_PATH: Embeds,
    RERANK_PATH: Reranks,
    PREDICT_PATH: Predicts,
}


@check
async def what_it_cannot_do_is_refused(rig: Rig) -> None:
    """Requests for what the engine does not implement are 400 or 404 with a sentence, never a failure."""
    async with port_of(rig) as port:
        for path, capability in _PATHS.items():
            if isinstance(rig.engine, capability):
                continue
            answer = await exchanged(port, "POST", path, b"{}")
            require(
                answer.status in {400, 404} and decode_error_body(answer.body).message,
                f"{path} answered {answer.status} {answer.body!r}",
            )


@check
async def health_and_stats_are_served(rig: Rig) -> None:
    """`GET /health` says ready, `GET /stats` the capacity; both want the secret."""
    async with port_of(rig) as port:
        health = msgspec.json.decode((await exchanged(port, "GET", "/health")).body, type=Health)
        require(health.state == "ready", f"health is {health}")
        stats = msgspec.json.decode((await exchanged(port, "GET", "/stats")).body, type=Stats)
        require(stats.capacity == rig.engine.capacity, f"stats are {stats}")
        stranger = await exchanged((port[0], "guess"), "GET", "/stats")
        require(stranger.status == 401, f"a wrong secret was answered with {stranger.status}")


@check
async def a_generation_is_events_in_order(rig: Rig) -> None:
    """The prompt's ids, the steps, then a finish with revision and label: the same tokens as without the port."""
    prompt_ids = await rig.ask(rig.subject.question)
    whole = await generated(rig, prompt_ids, greedy())
    async with port_of(rig) as port:
        answer = await exchanged(port, "POST", GENERATE_PATH, _body(prompt_ids, greedy()))
    require(
        (answer.status, answer.content_type) == (200, NDJSON), f"{answer.status}, {answer.content_type!r}"
    )
    first, *steps, last = (decode_event(line) for line in answer.body.splitlines())
    require(first == PromptEvent(ids=prompt_ids), f"the first event is {first!r}")
    require(
        isinstance(last, FinishEvent) and (last.revision, last.engine) == (REVISION, rig.engine.label),
        f"the last event is {last!r}",
    )
    ids = tuple(token for step in steps if isinstance(step, StepEvent) for token in step.t)
    require(ids == whole.ids, f"over the port it generated {ids}, else {whole.ids}")


@check
async def a_whole_answer_has_the_same_in_fewer_pieces(rig: Rig) -> None:
    """Asked for with `whole`: the tokens and text that come step by step, in one line a second, and the same finish."""
    prompt_ids = await rig.ask(rig.subject.story)
    sampling = greedy(max_tokens=96, ignore_eos=True)
    single = await generated(rig, prompt_ids, sampling)
    body = encode(GenerateRequest(prompt_ids=prompt_ids, sampling=sampling, whole=True))
    began_at = time.monotonic()
    async with port_of(rig) as port:
        answer = await exchanged(port, "POST", GENERATE_PATH, body)
    lines_max = 3 + int((time.monotonic() - began_at) / FLUSH_S)
    first, *middle, last = (decode_event(line) for line in answer.body.splitlines())
    steps = [event for event in middle if isinstance(event, StepEvent)]
    require(first == PromptEvent(ids=prompt_ids), f"the first event is {first!r}")
    require(len(steps) == len(middle) <= lines_max, f"{len(middle)} lines where {lines_max} are enough")
    require(
        tuple(token for step in steps for token in step.t) == single.ids and steps[-1].n == len(single.ids),
        "whole it generated other tokens than step by step",
    )
    require("".join(step.d for step in steps) == single.text, "whole it has another text")
    require(
        isinstance(last, FinishEvent) and (last.revision, last.engine) == (REVISION, rig.engine.label),
        f"the last event is {last!r}",
    )


@check
async def closing_the_connection_stops_the_engine(rig: Rig) -> None:
    """A peer that goes away in mid-stream frees the slot."""
    ids = await rig.ask(rig.subject.story)
    await rig.idle()
    aborted = rig.engine.stats().requests_aborted_total
    async with port_of(rig) as port:
        body = _body(ids, greedy(max_tokens=400, ignore_eos=True))
        async with opened(port, "POST", GENERATE_PATH, body) as reader:
            await reader.readuntil(b'"e":"s"')
        await rig.idle()
    require(rig.engine.stats().requests_aborted_total == aborted + 1, "it was not counted as aborted")


@check
async def refusals_name_fault_and_field(rig: Rig) -> None:
    """What a customer got wrong is 400 with the field; a deadline that passed is 503 or an error event, and frees the slot."""
    async with port_of(rig) as port:
        for ids, sampling, param in (
            ((), greedy(), "prompt_ids"),
            ((-1,), greedy(), "prompt_ids"),
            ((1,), greedy(max_tokens=0), "max_tokens"),
            ((1,), greedy(temperature=9.0), "temperature"),
        ):
            error = refusal(await exchanged(port, "POST", GENERATE_PATH, _body(ids, sampling)), 400)
            require(
                (error.fault, error.param) == (Fault.CUSTOMER, param), f"{ids} and {sampling} gave {error!r}"
            )
        prompt = await rig.ask(rig.subject.story)
        body = _body(prompt, greedy(max_tokens=400, ignore_eos=True))
        late = await exchanged(port, "POST", GENERATE_PATH, body, headers="X-Deadline-Ms: 1\r\n")
        require(late.status in {200, 503}, f"a deadline of 1 ms was answered with {late.status}")
        await rig.idle()


class _Served:
    """The replica's state as the routes want it, for an engine that is loaded already."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.revision = REVISION
        self.accepting = True

    async def health(self) -> Health:
        health = await self.engine.health()
        return Health(state=health.state, reason=health.reason)

    def stats(self) -> Stats:
        stats = self.engine.stats()
        return Stats(
            running=stats.running,
            waiting=stats.waiting,
            capacity=self.engine.capacity,
            tokens_generated_total=stats.tokens_generated_total,
            requests_aborted_total=stats.requests_aborted_total,
        )

    def drain(self) -> None:
        self.accepting = False


@asynccontextmanager
async def port_of(rig: Rig) -> AsyncIterator[tuple[str, str]]:
    """The engine behind the replica's own routes and server: address and secret."""
    secret = secrets.token_urlsafe(16)
    server = HttpServer(Routes(_Served(rig.engine)), secret=secret, limits=HttpLimits())
    address = await server.start("127.0.0.1")
    try:
        yield address, secret
    finally:
        await server.close()


def _body(ids: tuple[int, ...], sampling: Sampling) -> bytes:
    return encode(GenerateRequest(prompt_ids=ids, sampling=sampling))


def refusal(answer: Answer, status: int) -> ErrorBody:
    """What a refusal with `status` says. Raises: Nonconformance for another answer."""
    require(answer.status == status, f"{status} was expected, not {answer.status} {answer.body!r}")
    return decode_error_body(answer.body)


PORT = (what_it_cannot_do_is_refused, health_and_stats_are_served)
PORT_OF_GENERATES = (
    a_generation_is_events_in_order,
    a_whole_answer_has_the_same_in_fewer_pieces,
    closing_the_connection_stops_the_engine,
    refusals_name_fault_and_field,
)
