"""Checks of what an engine refuses, and how it says so."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from raymart_core.wire.replica import NO_OPTIONS, GenerationOptions, ResponseFormat, Sampling
from raymart_serve.conformance.checks import Nonconformance, check, require
from raymart_serve.conformance.generations import answer, generated, greedy
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import EngineBusy, EngineError, PromptTooLong, RequestRefused

_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@check
async def wrong_prompts_are_refused(rig: Rig) -> None:
    """No tokens, or ids outside the vocabulary: `RequestRefused` on entry, naming the field."""
    for ids, param in (((), "prompt"), ((-1,), "prompt_ids"), ((2**31 - 1,), "prompt_ids")):
        error = await _refusal(rig, ids, greedy(max_tokens=2))
        require(
            isinstance(error, RequestRefused) and error.param == param,
            f"prompt ids {ids} must be refused naming {param!r}; it raised {error!r}",
        )
        _require_speakable(rig, error)
    await rig.idle()


@check
async def prompts_without_room_are_refused(rig: Rig) -> None:
    """A prompt that fills the context, alone or with resumed ids, is `PromptTooLong` before anything runs."""
    ids = await rig.ask(rig.subject.story)
    filled = (ids * (rig.engine.context_length // len(ids) + 1))[: rig.engine.context_length]
    for prompt, resumed in ((filled, ()), (filled * 3, ()), (filled[:-4], filled[-4:])):
        error = await _refusal(rig, prompt, greedy(), resume_ids=resumed)
        require(isinstance(error, PromptTooLong), f"a full context must be PromptTooLong, not {error!r}")
        _require_speakable(rig, error)
    await rig.idle()


@check
async def one_too_many_is_refused_at_once(rig: Rig) -> None:
    """When all slots are taken and `waiting_max` wait, one more is `EngineBusy`, and those before it are answered."""
    require(rig.spec.waiting_max <= 16, "the subject's waiting_max must be small, 16 at most")
    await rig.idle()
    ids = await rig.ask(rig.subject.story)
    short = greedy(max_tokens=2, ignore_eos=True)
    async with asyncio.TaskGroup() as waiting, AsyncExitStack() as running:
        for _ in range(rig.engine.capacity):
            generation = rig.generates.generate(ids, sampling=greedy(max_tokens=400, ignore_eos=True))
            await anext(await running.enter_async_context(generation))
        tasks = [waiting.create_task(generated(rig, ids, short)) for _ in range(rig.spec.waiting_max)]
        await rig.until(
            lambda: rig.engine.stats().waiting == len(tasks) or any(task.done() for task in tasks),
            "the queue did not fill",
        )
        # Where the model ended meanwhile and one that waited has run, there is room for one more.
        if not any(task.done() for task in tasks):
            error = await _refusal(rig, ids, short)
            require(isinstance(error, EngineBusy), f"one too many must be EngineBusy, not {error!r}")
            _require_speakable(rig, error)
    for task in tasks:
        require(task.result().finish.usage.completion == 2, "one that waited was not answered")
    await rig.idle()


@check
async def a_response_format_is_held_or_refused(rig: Rig) -> None:
    """With a JSON schema the text is JSON of it, without endless white space; an engine that cannot refuses the field."""
    ids = await rig.ask(rig.subject.question)
    options = GenerationOptions(
        response_format=ResponseFormat(type="json_schema", schema=msgspec.Raw(msgspec.json.encode(_SCHEMA)))
    )
    if not rig.subject.response_format:
        error = await _refusal(rig, ids, greedy(), options=options)
        require(
            isinstance(error, RequestRefused) and error.param == "response_format",
            f"an engine that holds to no format must refuse response_format, not raise {error!r}",
        )
        return
    for sampling in (greedy(max_tokens=120), greedy(max_tokens=120, temperature=1.0, seed=5)):
        whole = await generated(rig, ids, sampling, options=options)
        _require_person(whole.text)
    any_object = GenerationOptions(response_format=ResponseFormat(type="json_object"))
    whole = await generated(rig, ids, greedy(max_tokens=300), options=any_object)
    require(whole.text.startswith("{"), f"json_object must give an object, not {whole.text!r}")


@check
async def a_broken_schema_is_refused(rig: Rig) -> None:
    """A schema that is none is `RequestRefused` naming `response_format`, before or instead of any token."""
    ids = await rig.ask(rig.subject.question)
    broken = ResponseFormat(type="json_schema", schema=msgspec.Raw(b'{"type": "no-such-type"}'))
    error = await _refusal(rig, ids, greedy(), options=GenerationOptions(response_format=broken))
    require(
        isinstance(error, RequestRefused) and error.param == "response_format",
        f"a broken schema must be refused naming response_format; it raised {error!r}",
    )
    _require_speakable(rig, error)
    await rig.idle()


@check
async def a_refusal_leaves_no_trace(rig: Rig) -> None:
    """Refusals hold no slot and break nothing: the next request is answered as ever."""
    _, whole = await answer(rig)
    await rig.idle()
    before = rig.engine.stats()
    for _ in range(rig.engine.capacity * 2):
        await _refusal(rig, (), greedy())
    after = rig.engine.stats()
    require(after == before, f"refusals changed the counters from {before} to {after}")
    again = (await answer(rig))[1]
    require(again.text == whole.text, f"after refusals it answered {again.text!r}, before {whole.text!r}")


async def _refusal(
    rig: Rig,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    resume_ids: Sequence[int] = (),
    options: GenerationOptions = NO_OPTIONS,
) -> EngineError:
    """The error on entry. Raises: Nonconformance when there is none."""
    try:
        async with rig.generates.generate(ids, sampling=sampling, resume_ids=resume_ids, options=options):
            pass
    except EngineError as error:
        return error
    raise Nonconformance(
        f"{len(ids)} prompt ids, {len(resume_ids)} resumed and {options} must be refused on entry"
    )


def _require_speakable(rig: Rig, error: EngineError) -> None:
    """The message goes to a customer: one or two sentences, and nothing of the machine."""
    message = error.message
    require(
        8 <= len(message) <= 400,
        f"a message of {len(message)} characters is none for a customer: {message!r}",
    )
    secrets = (str(rig.spec.path.parent), "Traceback", "0x")
    require(
        not any(secret in message for secret in secrets),
        f"the message tells too much of the machine: {message!r}",
    )


def _require_person(text: str) -> None:
    try:
        person = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Nonconformance(f"the text is no JSON ({error}): {text!r}") from error
    fits = isinstance(person, dict) and person.keys() == {"name", "age"} and isinstance(person["age"], int)
    require(fits, f"the text is not of the schema: {text!r}")
    require("\n\n" not in text and "   " not in text, f"white space without end: {text!r}")


REFUSALS = (
    wrong_prompts_are_refused,
    prompts_without_room_are_refused,
    one_too_many_is_refused_at_once,
    a_response_format_is_held_or_refused,
    a_broken_schema_is_refused,
    a_refusal_leaves_no_trace,
)
