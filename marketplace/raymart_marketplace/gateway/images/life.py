"""What is known of one request for pictures while it runs, and the events that follow from it."""

from uuid import UUID

from msgspec import structs

from raymart_core.errors import DomainError
from raymart_core.money import ZERO, Money
from raymart_core.ports import FinishedRequest, Quantities, Rater
from raymart_core.units import Fault
from raymart_core.wire.replica import encode
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.images.attempt import ImageAttempt
from raymart_marketplace.gateway.images.events import PicturesBroken, PicturesFinished, PicturesStarted
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.request_life import Life
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import Lease, LiveEndpoint


class ImageLife(Life[ImageAttempt]):
    """One request for pictures from arrival to record. Mutable, owned by one `ImageInference.run`."""

    def __init__(
        self,
        request_id: UUID,
        caller: Caller,
        request: PictureRequest,
        *,
        surface: Surface,
        streamed: bool,
        limits: InferenceLimits,
        rater: Rater,
    ) -> None:
        super().__init__(
            request_id,
            caller,
            model=request.model,
            surface=surface,
            streamed=streamed,
            limits=limits,
            rater=rater,
        )
        self.request = request
        self.body = encode(request.wire())
        """The request as any replica is asked for it."""
        self.needs = structs.replace(needs_of(request), organization_id=caller.organization_id)
        self.handed_out = False
        """Whether the customer has a picture; from then on no other endpoint may take over."""
        self._pixel_steps_handed_out = 0
        self._has_failed = False

    def new_attempt(self, endpoint: LiveEndpoint, lease: Lease) -> ImageAttempt:
        """Make the next try, on `endpoint`."""
        self.attempt = ImageAttempt(
            endpoint, lease, self.request, patience=self.patience, limits=self._limits
        )
        return self.attempt

    def hand_out(self) -> None:
        """Note that the customer gets the picture that was counted last."""
        assert self.attempt is not None
        self.handed_out = True
        self._pixel_steps_handed_out = self.attempt.meter.pixel_steps

    @property
    def tokens(self) -> int:
        """None: pictures have no tokens that anybody pays for."""
        return 0

    @property
    def tokens_delivered(self) -> int:
        """Whole pictures so far: a checkpoint is worth writing when there is another."""
        return 0 if self.attempt is None else self.attempt.meter.pictures

    def quantities(self) -> Quantities | None:
        """Every whole picture, of a request that failed those that were handed out; what was begun costs nothing."""
        if self.attempt is None:
            return None
        # What fails for whatever reason, our own mistakes among them, is never the customer's to pay.
        made = self._pixel_steps_handed_out if self._has_failed else self.attempt.meter.pixel_steps
        return Quantities(image_megapixel_step=made, request=1) if made else None

    def fail(self, error_code: str, *, fault: Fault, reason: str) -> FinishedRequest:
        """Decide that the request ends in an error; pictures that were handed out are billed, none if none was."""
        self._has_failed = True
        return super().fail(error_code, fault=fault, reason=reason)

    @property
    def exact(self) -> bool:
        """Pictures are counted by the gateway itself."""
        return True

    def started(self) -> PicturesStarted:
        """What the caller is told when the running attempt has begun."""
        assert self.attempt is not None
        endpoint = self.attempt.endpoint
        return PicturesStarted(
            request_id=self.id,
            model=endpoint.model_slug,
            provider=endpoint.provider_slug,
            attempts=len(self._attempts) + 1,
        )

    def finished(self) -> PicturesFinished:
        """What the caller is told at the good end."""
        assert self.attempt is not None
        pixel_steps, cost = self._bill()
        endpoint = self.attempt.endpoint
        return PicturesFinished(
            request_id=self.id,
            created_at=self._created_at,
            model=endpoint.model_slug,
            provider=endpoint.provider_slug,
            revision=endpoint.revision_digest,
            attempts=len(self._attempts),
            pixel_steps=pixel_steps,
            cost=cost,
        )

    def broken(self, error: DomainError, *, billed: bool) -> PicturesBroken:
        """What the caller is told at the bad end; nothing costs unless `billed`."""
        assert self.attempt is not None
        pixel_steps, cost = self._bill() if billed else (0, ZERO)
        return PicturesBroken(
            request_id=self.id,
            error=error,
            provider=self.attempt.endpoint.provider_slug,
            attempts=len(self._attempts),
            pixel_steps=pixel_steps,
            cost=cost,
        )

    def _bill(self) -> tuple[int, Money]:
        usage = self.final.usage if self.final is not None else None
        if usage is None:
            return 0, ZERO
        return usage.quantities.image_megapixel_step, usage.customer_amount


def needs_of(request: PictureRequest) -> Needs:
    """What routing has to know, and what is held."""
    return Needs(
        model_slug=request.reference.slug,
        revision=request.reference.revision,
        tokens_prompt_max=0,
        tokens_completion_max=0,
        tokens_min=0,
        pixel_steps=request.pixel_steps,
        pictures=request.count,
    )
