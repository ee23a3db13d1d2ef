"""What is known of one request while it runs, whatever it asks for, and the rows that follow from it."""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, Literal, TypeVar
from uuid import UUID

from raymart_core import clock
from raymart_core.ids import Prefix, show
from raymart_core.money import ZERO
from raymart_core.ports import AttemptRecord, FinishedRequest, Quantities, Rater, UsageEntry
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.deadline import Patience
from raymart_marketplace.gateway.hedge import Hedge
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.rate_limits.limiter import Allowance
from raymart_marketplace.gateway.replica_attempt import AttemptFailed, ReplicaAttempt
from raymart_marketplace.gateway.shedding.shedder import Turn
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import LiveEndpoint

GATEWAY_LOST = "gateway_lost"
"""Error code of a request whose gateway died; only its checkpoint tells of it."""

AttemptT = TypeVar("AttemptT", bound=ReplicaAttempt[object])


class Life(ABC, Generic[AttemptT]):
    """One request from arrival to record. Mutable, owned by whoever runs it."""

    needs: Needs
    """What routing has to know of it."""
    hedge: Hedge = Hedge.OFF
    """What becomes of the wish for a second endpoint; only text can be asked of two."""

    def __init__(
        self,
        request_id: UUID,
        caller: Caller,
        *,
        model: str,
        surface: Surface,
        streamed: bool,
        limits: InferenceLimits,
        rater: Rater,
    ) -> None:
        """`model` is what the customer called it."""
        self.id = request_id
        self.caller = caller
        self.streamed = streamed
        self.patience = Patience(total_s=limits.request_deadline_s)
        self.attempt: AttemptT | None = None
        """The attempt that runs or that served."""
        self.final: FinishedRequest | None = None
        """What is to be recorded, once it is decided; it never changes after."""
        self.lease_id: UUID | None = None
        """The lease that pays; none for what is free."""
        self.allowance: Allowance | None = None
        """What the request counts of its caller's limits; None where nothing is limited."""
        self.turn: Turn | None = None
        """The right to run; None before it is let in, and for a model that nothing serves."""
        self.held = ZERO
        """The most that the request may cost."""
        self.owing = False
        """Whether a hold is out that nobody has yet been told to capture or to void."""
        self._model = model
        self._surface = surface
        self._limits = limits
        self._rater = rater
        self._created_at = clock.now()
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._attempts: list[AttemptRecord] = []

    @property
    def has_begun(self) -> bool:
        """Whether an endpoint serves or has served."""
        return self.attempt is not None

    @property
    def public_id(self) -> str:
        """The request's id as people and providers see it."""
        return show(Prefix.REQUEST, self.id)

    @property
    @abstractmethod
    def tokens(self) -> int:
        """How many tokens the customer was handed so far; none of what is no text."""

    @property
    def tokens_delivered(self) -> int:
        """What tells one checkpoint from the next (`core.ports.RunningRequest`)."""
        return self.tokens

    @property
    def tokens_expected(self) -> int:
        """A guess of all tokens, for limits, before anything is counted; none of what is no text."""
        return 0

    @property
    def tokens_used(self) -> int:
        """All tokens that are billed, once the end is decided."""
        if self.final is None:
            return 0
        used = 0
        for part in self.final.parts:
            each = part.quantities
            used += each.token_prompt + each.token_cached + each.token_completion
        return used

    @abstractmethod
    def quantities(self) -> Quantities | None:
        """What was delivered by the attempt that runs or served; None when that is nothing."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether every token that was counted had its id."""

    def attempt_failed(self, failure: AttemptFailed) -> None:
        """Note that the running attempt is over and handed nothing to the customer."""
        assert self.attempt is not None
        self.put_aside(self.attempt, "failed", fault=failure.fault, reason=failure.reason)
        self.attempt = None

    def put_aside(
        self, attempt: AttemptT, outcome: Literal["failed", "cancelled"], *, fault: Fault, reason: str
    ) -> None:
        """Note that `attempt` is over and handed nothing to the customer; another may be running."""
        self._attempts.append(attempt.record(outcome, fault=fault, reason=reason, tokens_delivered=0))

    def complete(self) -> FinishedRequest:
        """Decide on the good end."""
        assert self.attempt is not None
        assert self.attempt.finish_reason is not None
        self._close_attempt("delivered", fault=Fault.NONE, reason="")
        return self._decide("completed", finish_reason=self.attempt.finish_reason, error_code=None)

    def fail(self, error_code: str, *, fault: Fault, reason: str) -> FinishedRequest:
        """Decide that the request ends in an error; what was delivered is billed."""
        finish_reason = FinishReason.ERROR if self.has_begun else None
        if self.attempt is not None:
            self._close_attempt("failed", fault=fault, reason=reason)
        return self._decide("failed", finish_reason=finish_reason, error_code=error_code)

    def cancel(self) -> FinishedRequest:
        """Decide that the client left; what was delivered is billed."""
        finish_reason = FinishReason.ABORT if self.has_begun else None
        if self.attempt is not None:
            self._close_attempt("cancelled", fault=Fault.CUSTOMER, reason="the client left")
        return self._decide("cancelled", finish_reason=finish_reason, error_code=None)

    def if_lost(self) -> FinishedRequest | None:
        """What is to be recorded if this process ends now: a failure of the platform, billed for what was delivered."""
        if self.final is not None or not self.has_begun:
            return None
        attempts = tuple(self._attempts)
        if self.attempt is not None:
            attempts = (
                *attempts,
                self._record_of(self.attempt, "failed", Fault.PLATFORM, "the gateway was lost"),
            )
        return self._row(
            "failed", finish_reason=FinishReason.ERROR, error_code=GATEWAY_LOST, attempts=attempts
        )

    def _close_attempt(
        self, outcome: Literal["delivered", "failed", "cancelled"], *, fault: Fault, reason: str
    ) -> None:
        assert self.attempt is not None
        self._attempts.append(self._record_of(self.attempt, outcome, fault, reason))

    def _record_of(
        self,
        attempt: AttemptT,
        outcome: Literal["delivered", "failed", "cancelled"],
        fault: Fault,
        reason: str,
    ) -> AttemptRecord:
        return attempt.record(outcome, fault=fault, reason=reason, tokens_delivered=attempt.tokens_made)

    def _decide(
        self,
        state: Literal["completed", "failed", "cancelled"],
        *,
        finish_reason: FinishReason | None,
        error_code: str | None,
    ) -> FinishedRequest:
        assert self.final is None, "a request ends once"
        self.final = self._row(
            state, finish_reason=finish_reason, error_code=error_code, attempts=tuple(self._attempts)
        )
        return self.final

    def _row(
        self,
        state: Literal["completed", "failed", "cancelled"],
        *,
        finish_reason: FinishReason | None,
        error_code: str | None,
        attempts: tuple[AttemptRecord, ...],
    ) -> FinishedRequest:
        caller = self.caller
        return FinishedRequest(
            id=self.id,
            organization_id=caller.organization_id,
            project_id=caller.project_id,
            api_key_id=caller.api_key_id,
            user_id=caller.user_id,
            surface=self._surface._value_,  # `.value` is a property in Python.
            model_asked=self._model,
            model_served=self._model_served(),
            state=state,
            finish_reason=finish_reason,
            error_code=error_code,
            streamed=self.streamed,
            created_at=self._created_at,
            first_token_ms=self._first_token_ms(),
            duration_ms=self._age_ms(),
            attempts=attempts,
            usage=self._usage(),
            lease_id=self.lease_id,
            more=self._more_usage(),
        )

    def _model_served(self) -> str:
        return self.attempt.endpoint.model_slug if self.attempt is not None else self._model

    def _usage(self) -> UsageEntry | None:
        """What is billed: what was handed out."""
        quantities = self.quantities()
        if self.attempt is None or quantities is None:
            return None
        return self._entry(self.attempt.endpoint, quantities, exact=self.exact)

    def _more_usage(self) -> tuple[UsageEntry, ...]:
        """What endpoints that took over delivered; only text can be taken up in its middle."""
        return ()

    def _entry(self, endpoint: LiveEndpoint, quantities: Quantities, *, exact: bool) -> UsageEntry:
        # The endpoint is the snapshot of admission: a price that changed meanwhile is for the next request.
        charge = self._rater.rate(quantities, endpoint.prices, fee_basis_points=endpoint.fee_basis_points)
        return UsageEntry(
            provider_id=endpoint.provider_id,
            endpoint_id=endpoint.id,
            offer_id=endpoint.offer_id,
            revision_id=endpoint.revision_id,
            quantities=quantities,
            prices=endpoint.prices,
            customer_amount=charge.customer,
            provider_amount=charge.provider,
            fee_amount=charge.fee,
            exact=exact,
        )

    def _first_token_ms(self) -> int | None:
        at = None if self.attempt is None else self.attempt.first_token_at
        return None if at is None else int((at - self._begun_at) * 1000)

    def _age_ms(self) -> int:
        return int((self._loop.time() - self._begun_at) * 1000)
