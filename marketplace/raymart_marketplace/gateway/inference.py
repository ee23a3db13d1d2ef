"""The life of a request: admit -> hold -> first token -> stream -> record -> finish. Every surface goes through here.

(Being written; the signatures are final.)
"""

from collections.abc import AsyncGenerator

from raymart_core.ports import HoldGate, Rater, UsageSink
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.events import InferenceEvent
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.request import ChatRequest
from raymart_marketplace.metering.models import Surface
from raymart_marketplace.supply.live import EndpointDirectory


class Inference:
    """Runs chat requests against live endpoints and has them paid for."""

    def __init__(
        self,
        *,
        directory: EndpointDirectory,
        models: ModelLookup,
        hold_gate: HoldGate,
        usage_sink: UsageSink,
        rater: Rater,
        limits: InferenceLimits,
    ) -> None:
        self._directory = directory

    def run(
        self, caller: Caller, request: ChatRequest, *, surface: Surface, streamed: bool
    ) -> AsyncGenerator[InferenceEvent, None]:
        """Serve `request` for `caller`: `Started`, `Delta`..., then `Finished` or `Broken`.

        Closing the generator (or cancelling the task that waits for it) means that the client left: the engine is
        stopped and what was delivered is billed. With `streamed` false nothing is handed out before the end, so that
        a failing endpoint can be replaced at any time.
        Raises: InvalidRequest, InsufficientFunds, ModelNotFound, NoEndpoint, UpstreamFailed, DeadlineExceeded,
        Unavailable; all before `Started`.
        """
        raise NotImplementedError

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for settlements that are still under way, at most `timeout_s`; called at shutdown."""
        raise NotImplementedError
