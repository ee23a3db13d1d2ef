"""Where the requests of this process go: the live endpoints, chance, and what is said where nothing serves a model."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from random import Random

from raymart_core.errors import NoEndpoint
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.gateway.model_lookup import ModelLookup
from raymart_marketplace.gateway.route_plan import RoutePlan, RouteReport, explain_route, plan_route
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.routing.route import Needs
from raymart_marketplace.supply.live import EndpointDirectory, LiveEndpoint


class Planner:
    """Decides at the moment it is asked, and asks no endpoint. One per process."""

    def __init__(
        self,
        directory: EndpointDirectory,
        models: ModelLookup,
        *,
        attempts_max: int,
        sort: Sort,
        chance: Callable[[], int] | None,
    ) -> None:
        """At most `attempts_max` endpoints are named. `sort` decides among them where the customer does not wish.

        `chance` gives 64 bits for each decision.
        """
        self.sort = sort
        self._directory = directory
        self._models = models
        self._attempts_max = attempts_max
        # Not for secrets: who guesses it knows which endpoint a request of another goes to, and no more.
        self._chance = chance or partial(Random().getrandbits, 64)  # noqa: S311

    async def plan(
        self,
        preference: RoutingPreference,
        needs: Needs,
        *,
        modalities: Collection[Modality] = (Modality.CHAT,),
    ) -> RoutePlan:
        """Where such a request goes. Raises: ModelNotFound, Unavailable."""
        plan = self._planned(preference, needs, modalities)
        if plan.trace is None:  # Mostly it is served, and then it exists.
            await self._require_model(plan, needs)
        return plan

    async def explain(
        self,
        preference: RoutingPreference,
        needs: Needs,
        *,
        modalities: Collection[Modality] = (Modality.CHAT,),
        seed: int | None = None,
    ) -> RouteReport:
        """The same in full; with `seed` as chance decided then. Raises: ModelNotFound, Unavailable."""
        report = explain_route(
            self._directory,
            preference,
            needs,
            modalities=modalities,
            attempts_max=self._attempts_max,
            sort=self.sort,
            seed=self._chance() if seed is None else seed,
        )
        if report.plan.trace is None:
            await self._require_model(report.plan, needs)
        return report

    def live(self, preference: RoutingPreference, needs: Needs) -> Sequence[LiveEndpoint]:
        """Where a chat that has begun may go on; whether the model exists is no question any more."""
        return self._planned(preference, needs, (Modality.CHAT,)).tried

    def _planned(
        self, preference: RoutingPreference, needs: Needs, modalities: Collection[Modality]
    ) -> RoutePlan:
        return plan_route(
            self._directory,
            preference,
            needs,
            modalities=modalities,
            attempts_max=self._attempts_max,
            sort=self.sort,
            seed=self._chance(),
        )

    async def _require_model(self, plan: RoutePlan, needs: Needs) -> None:
        """Of a model that nothing serves, see whether there is one. Raises: ModelNotFound, Unavailable."""
        if isinstance(plan.refusal, NoEndpoint):
            await self._models.require(needs.model_slug, organization_id=needs.organization_id)
