"""One try of a request on one endpoint."""

from typing import ClassVar, Generic

from raymart_core.errors import DeadlineExceeded
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.gateway.deadline import Patience, TimedOut
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.replica_attempt import ReplicaAttempt
from raymart_marketplace.gateway.vectors.request import Reply, VectorRequest
from raymart_marketplace.supply.live import Lease, LiveEndpoint
from raymart_marketplace.supply.upstream import UpstreamBroken


class VectorAttempt(ReplicaAttempt[Reply], Generic[Reply]):
    """A request on one endpoint. `answer` it, `close` it whatever happened."""

    awaited: ClassVar[str] = "answer"

    def __init__(
        self,
        endpoint: LiveEndpoint,
        lease: Lease,
        request: VectorRequest[Reply],
        *,
        patience: Patience,
        limits: InferenceLimits,
    ) -> None:
        super().__init__(endpoint, lease, lines=request.lines(), patience=patience, limits=limits)
        self.tokens = 0
        """What the checked answer counts; 0 before it."""
        self._request = request

    async def answer(self, body: bytes, *, request_id: str) -> Reply:
        """The whole answer, checked and counted. Raises: AttemptFailed."""
        try:
            await self._post(self._request.path, body, request_id=request_id)
            reply = await self._next_event()
            if reply.revision != self.endpoint.revision_digest:
                raise UpstreamBroken(
                    f"the replica sent another revision than {self.endpoint.revision_digest}",
                    fault=Fault.PROVIDER,
                )
            await self._request.check(reply)
        except (UpstreamBroken, TimedOut, DeadlineExceeded) as error:
            raise self._failed(error) from None
        self.tokens = sum(reply.tokens)
        self._stepped()
        self._ended(FinishReason.STOP)
        return reply
