"""The gateway's CPU beside nginx's, in one run: what `gateway_quick` prints and what the guard among the tests holds.

A ratio of CPU times of two processes that take turns on one machine hardly knows what else the machine does.

For the guard: cpu_ratio.py FOLDER DATABASE_URL REDIS_URL measures shortly in a migrated database that others may use, and
prints the ratios as JSON.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from api_market import make_market
from gateway_load import Sample, Workload, measure
from gateway_stage import ENDPOINTS, Stage, measured

UNARY = Workload(name="unary, 16 tokens, C=8", mode="unary", concurrency=8, requests=2_000, tokens=16)
STREAM = Workload(
    name="stream, 200 x 10 ms, C=16", mode="stream", concurrency=16, requests=16, tokens=200, pace_us=10_000
)
SHORT_STREAM = replace(STREAM, name="stream, 100 x 10 ms, C=16", tokens=100)
ROUNDS = 3
UNARY_MUST, UNARY_AIM = 8.0, 5.0
CHUNK_MUST, CHUNK_AIM = 3.0, 2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """CPU microseconds a request, or a chunk of a stream: medians of the rounds."""

    name: str
    ours_us: float
    ours_us_min: float
    ours_us_max: float
    nginx_us: float | None
    """None where there is no nginx; so is the least of the rounds."""
    nginx_us_min: float | None
    must: float
    aim: float

    @property
    def ratio(self) -> float:
        """Ours by nginx's. Raises: AssertionError without nginx."""
        assert self.nginx_us is not None
        return self.ours_us / self.nginx_us

    @property
    def holds(self) -> bool:
        """Whether it is within the must; nothing is known without nginx."""
        return self.nginx_us is None or self.ratio <= self.must


def main() -> None:
    folder, database_url, redis_url = sys.argv[1:]
    market = make_market(database_url, endpoints=ENDPOINTS)
    with measured(Path(folder), market, database_url=database_url, redis_url=redis_url) as stage:
        found = ratios(stage, rounds=2, share=0.5, stream=SHORT_STREAM)
    print(json.dumps([asdict(ratio) for ratio in found]))


def ratios(
    stage: Stage, *, rounds: int = ROUNDS, share: float = 1.0, stream: Workload = STREAM
) -> Sequence[Ratio]:
    """Of a request and of a chunk of `stream`. `share` shortens both."""
    return [
        ratio_of(UNARY, stage, rounds=rounds, share=share, must=UNARY_MUST, aim=UNARY_AIM),
        ratio_of(stream, stage, rounds=rounds, share=share, must=CHUNK_MUST, aim=CHUNK_AIM),
    ]


def ratio_of(
    workload: Workload, stage: Stage, *, rounds: int, must: float, aim: float, share: float = 1.0
) -> Ratio:
    """Of one workload."""
    targets = [stage.ours] if stage.nginx is None else [stage.ours, stage.nginx]
    samples = measure(workload, targets, rounds=rounds, share=share)
    ours = per_unit(workload, samples[stage.ours.name])
    nginx = None if stage.nginx is None else per_unit(workload, samples[stage.nginx.name])
    return Ratio(
        name=workload.name,
        ours_us=ours[len(ours) // 2],
        ours_us_min=ours[0],
        ours_us_max=ours[-1],
        nginx_us=nginx[len(nginx) // 2] if nginx else None,
        nginx_us_min=nginx[0] if nginx else None,
        must=must,
        aim=aim,
    )


def per_unit(workload: Workload, samples: Sequence[Sample]) -> list[float]:
    """CPU microseconds a request or chunk, sorted."""
    units = workload.tokens if workload.mode == "stream" else 1
    return sorted(sample.cpu_us / units for sample in samples)


if __name__ == "__main__":
    main()
