"""The life of a request for pictures: route -> hold -> make, elsewhere if need be -> keep -> record -> hand over.

Invariants, beside those of `gateway.inference`:
- What is billed is what the gateway counted: whole pictures, decoded, as asked for; never more than was held.
- A failure before a picture was handed out costs nothing, and another endpoint takes over from the beginning. The same
  seed makes the same picture there, as long as the revision is the same.
- Of what is not streamed nothing is handed out before it is recorded, so that there an endpoint can be replaced until
  the last picture has come.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from types import MappingProxyType
from uuid import UUID

import structlog

from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import HoldGate, Rater, UsageSink
from raymart_core.wire.image import ImageFormat, ImageMade, ImageProgress
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.admission import Admission
from raymart_marketplace.gateway.asked_deadline import check_deadline
from raymart_marketplace.gateway.awakening import Awakening, NeverAsleep
from raymart_marketplace.gateway.endpoint import Headers
from raymart_marketplace.gateway.entrance import Entrance
from raymart_marketplace.gateway.images.attempt import ImageAttempt
from raymart_marketplace.gateway.images.events import (
    Picture,
    PictureEvent,
    PictureProgress,
    PicturesBroken,
)
from raymart_marketplace.gateway.images.life import ImageLife, needs_of
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.quote import quote
from raymart_marketplace.gateway.replica_attempt import AttemptFailed
from raymart_marketplace.gateway.route_plan import Plan
from raymart_marketplace.gateway.settlement import Settlement, exhausted
from raymart_marketplace.gateway.shedding.shedder import LoadShedder
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.objects.keys import image_key
from raymart_marketplace.objects.store import Objects
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint

log = structlog.get_logger(__name__)

SUFFIXES: Mapping[ImageFormat, str] = MappingProxyType({"png": ".png", "jpeg": ".jpg", "webp": ".webp"})


_MODALITIES = (Modality.IMAGE,)
"""What models make pictures."""


class ImageInference:
    """Runs requests for pictures against live endpoints and has them paid for. One per process."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        plan: Plan,
        hold_gate: HoldGate,
        usage_sink: UsageSink,
        rater: Rater,
        limits: InferenceLimits,
        admission: Admission,
        objects: Objects,
        awakening: Awakening | None = None,
        entrance: Entrance | None = None,
    ) -> None:
        """`plan`: `Planner.plan`, so that pictures are routed as text is."""
        self._directory = directory
        self._plan = plan
        self._rater = rater
        self._limits = limits
        self._admission = admission
        self._entrance = entrance or Entrance(shedder=LoadShedder(directory))
        self._awakening = awakening or NeverAsleep()
        self._objects = objects
        self._settlement = Settlement(
            directory=directory, hold_gate=hold_gate, usage_sink=usage_sink, limits=limits
        )

    async def run(
        self,
        caller: Caller,
        request: PictureRequest,
        *,
        surface: Surface,
        streamed: bool,
        keep: bool,
        request_id: UUID | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[PictureEvent, None]:
        """Serve `request` for `caller`: `PictureProgress`..., `Picture`s in their order, then `PicturesFinished`.

        With `streamed` `PicturesStarted` comes first, pictures are handed out as they come, and what breaks after the first ends in `PicturesBroken`
        (those are billed); without, all of them come at once, after they were recorded. `keep` puts them among the
        objects. Closing the generator, or cancelling the task that waits for it, means that the client left: the engine
        is stopped, and whole pictures are billed. `request_id` lets an edge name the request in an error.
        Raises, before any picture: InvalidRequest, InsufficientFunds, ModelNotFound, NoEndpoint, UpstreamFailed,
        DeadlineExceeded, Unavailable, and what leaves no trace: ScopeMissing, ModelNotAllowed, what `Admission.check`
        and `Entrance.enter` raise. `deadline_s`: the client waits no longer.
        """
        caller.require(KeyScope.INFERENCE)
        caller.require_model(request.reference.slug)
        self._admission.check(caller)
        life = ImageLife(
            request_id or new_id(),
            caller,
            request,
            surface=surface,
            streamed=streamed,
            limits=self._limits.within(deadline_s),
            rater=self._rater,
        )
        try:
            await self._entrance.enter(life)
            plan = await self._route(life)
            check_deadline(life.patience, plan)
            await self._settlement.hold(life, self.quote(plan, request))
            async with aclosing(self._tried(life, plan, keep=keep)) as events:
                async for event in events:
                    yield event
        except BaseException as error:
            await self._settlement.interrupted(life, error)
            raise
        finally:
            self._entrance.leave(life)
            if life.attempt is not None:
                await life.attempt.close()
            life.patience.close()

    @property
    def limits(self) -> InferenceLimits:
        """The bounds of every request."""
        return self._limits

    def headers_of(self, caller: Caller) -> Headers:
        """How the caller's limits stand, for its answers."""
        return self._entrance.headers(caller)

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for settlements that are still under way, at most `timeout_s`; called at shutdown."""
        await self._settlement.drain(timeout_s=timeout_s)

    def quote(self, plan: Sequence[LiveEndpoint], request: PictureRequest) -> Money:
        """What is held before `request` is dispatched to `plan`."""
        return quote(self._rater, plan, needs_of(request))

    async def _route(self, life: ImageLife) -> Sequence[LiveEndpoint]:
        """The endpoints to try, best first; what sleeps is waited for.

        Raises: ModelNotFound, InvalidRequest for another kind of model, NoEndpoint, DeadlineExceeded.
        """
        again = partial(self._plan, life.request.routing, life.needs, modalities=_MODALITIES)
        plan = await self._awakening.wait(
            await again(),
            again,
            preference=life.request.routing,
            needs=life.needs,
            modalities=_MODALITIES,
            patience=life.patience,
        )
        if plan.refusal is not None:
            raise await self._settlement.give_up(life, plan.refusal)
        return plan.tried

    async def _tried(
        self, life: ImageLife, plan: Sequence[LiveEndpoint], *, keep: bool
    ) -> AsyncGenerator[PictureEvent, None]:
        """Try the endpoints of `plan` until one has made everything, or has begun to hand out."""
        failures: list[AttemptFailed] = []
        for endpoint in plan:
            if failures and not self._entrance.may_retry():
                break
            lease = self._directory.acquire(endpoint.id)
            if lease is None:
                continue
            attempt = life.new_attempt(endpoint, lease)
            try:
                async with aclosing(self._made(life, attempt, keep=keep)) as events:
                    async for event in events:
                        yield event
                return
            except AttemptFailed as failure:
                if life.handed_out:
                    yield await self._broken(life, failure)
                    return
                life.attempt_failed(failure)
                await attempt.close()
                self._settlement.blame(attempt, failure)
                self._entrance.failed(life, failure)
                if not failure.retry:
                    raise await self._settlement.give_up(life, failure.error) from None
                failures.append(failure)
        raise await self._settlement.give_up(life, exhausted(life.request.model, failures))

    async def _made(
        self, life: ImageLife, attempt: ImageAttempt, *, keep: bool
    ) -> AsyncGenerator[PictureEvent, None]:
        """What one endpoint makes, to the recorded end. Raises: AttemptFailed; Unavailable with nothing handed out."""
        await attempt.begin(life.body, request_id=life.public_id)
        made = []
        is_told = not life.streamed
        while (event := await attempt.next_event()) is not None:
            if not is_told:
                is_told = True
                yield life.started()
            if isinstance(event, ImageProgress):
                yield PictureProgress(step=event.step, of=event.of)
            elif life.streamed:
                picture = await self._picture(life, event, keep=keep)
                is_first = not life.handed_out
                life.hand_out()
                if is_first:
                    self._settlement.watch(life)
                yield picture
            else:
                made.append(event)
        self._directory.report_success(attempt.endpoint.id, attempt.served())
        pictures = [await self._picture(life, one, keep=keep) for one in made]
        try:
            await self._settlement.record(life, life.complete())
        except Unavailable as failure:
            # As with text: what was made whole but could not be recorded is not billed, and its hold expires.
            life.owing = False
            if not life.handed_out:
                raise
            yield life.broken(failure, billed=False)
            return
        for picture in pictures:
            yield picture
        yield life.finished()

    async def _picture(self, life: ImageLife, made: ImageMade, *, keep: bool) -> Picture:
        """`made` as its caller gets it, put among the objects if it is to be kept."""
        return Picture(
            index=made.index,
            seed=made.seed,
            width=made.width,
            height=made.height,
            steps=made.steps,
            format=made.format,
            data=made.data,
            parameters=made.parameters,
            key=await self._put(life, made) if keep else None,
        )

    async def _put(self, life: ImageLife, made: ImageMade) -> str | None:
        """The key under which the picture is kept now; None when the store is away: it is delivered all the same."""
        suffix = SUFFIXES[made.format]
        key = image_key(life.caller.organization_id, life.id, made.index, suffix=suffix)
        try:
            await self._objects.put(key, made.data)
        except Unavailable:
            log.warning("picture.not_kept", request_id=life.public_id, index=made.index)
            return None
        return key

    async def _broken(self, life: ImageLife, failure: AttemptFailed) -> PicturesBroken:
        """End a request that has handed out: bill that, and say why no more comes."""
        assert life.attempt is not None
        final = life.fail(failure.error.code, fault=failure.fault, reason=failure.reason)
        await life.attempt.close()
        self._settlement.blame(life.attempt, failure)
        try:
            await self._settlement.record(life, final)
        except Unavailable:
            life.owing = False
            log.exception("request.not_recorded", request_id=life.public_id)
            return life.broken(failure.error, billed=False)
        return life.broken(failure.error, billed=True)
