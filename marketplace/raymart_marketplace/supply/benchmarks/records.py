"""What is written down of benchmarks, and when a machine must be measured. Functions flush; the edge commits."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import new_id
from raymart_core.wire import link
from raymart_marketplace.supply.benchmarks.models import (
    Benchmark,
    BenchmarkCause,
    BenchmarkCheck,
    BenchmarkState,
    Gpu,
)
from raymart_marketplace.supply.benchmarks.rules import GIB, Finding
from raymart_marketplace.supply.life_models import NodeEventKind
from raymart_marketplace.supply.models import Node, NodeState
from raymart_marketplace.supply.node_life import change_many, living_node

OPEN_STATES = (BenchmarkState.REQUESTED, BenchmarkState.RUNNING)
_INTERRUPTED = "the benchmark was interrupted"


def hardware_digest(hardware: link.Hardware) -> str:
    """Tells hardware that must be measured anew from what was measured; a new driver or kernel does not count."""
    cards = sorted(
        (gpu.uuid, gpu.model, gpu.memory_bytes // GIB, tuple(sorted((s.uuid, s.profile) for s in gpu.mig)))
        for gpu in hardware.gpus
    )
    # Virtual machines tell a few megabytes more or less at each start.
    measured = (hardware.cpu_model, hardware.cpu_count, round(hardware.memory_bytes / GIB), cards)
    return hashlib.sha256(msgspec.json.encode(measured)).hexdigest()


async def keep_gpus(session: AsyncSession, node_id: UUID, gpus: Sequence[link.Gpu]) -> None:
    """The node's cards are these: new ones are added, changed ones corrected, others marked as gone."""
    here = [gpu.uuid for gpu in gpus]
    missing = update(Gpu).where(Gpu.node_id == node_id, Gpu.uuid.not_in(here), Gpu.gone_at.is_(None))
    await session.execute(missing.values(gone_at=func.clock_timestamp()))
    if not gpus:
        return
    made = insert(Gpu).values([_gpu_row(node_id, gpu) for gpu in gpus])
    changed = {
        name: made.excluded[name] for name in _gpu_row(node_id, gpus[0]) if name not in {"id", "node_id"}
    }
    await session.execute(
        made.on_conflict_do_update(index_elements=[Gpu.node_id, Gpu.uuid], set_={**changed, "gone_at": None})
    )


async def due(session: AsyncSession, node_id: UUID, digest: str) -> BenchmarkCause | None:
    """Why the node with this hardware must be measured now; None when it need not."""
    asked = select(exists().where(Benchmark.node_id == node_id, Benchmark.state == BenchmarkState.REQUESTED))
    if await session.scalar(asked):
        return BenchmarkCause.ASKED
    newest = await session.scalar(
        select(Benchmark).where(Benchmark.node_id == node_id).order_by(Benchmark.id.desc()).limit(1)
    )
    if newest is None:
        return BenchmarkCause.NEW
    if newest.state is not BenchmarkState.PASSED:
        return BenchmarkCause.AGAIN
    return None if newest.hardware_digest == digest else BenchmarkCause.CHANGED


async def request(session: AsyncSession, *, node_id: UUID, asked_by: UUID | None) -> Benchmark:
    """Have the node measured soon; where it is asked for already, that one. Raises: NotFound, Conflict when it is retired."""
    await living_node(session, node_id)
    made = insert(Benchmark).values(
        id=new_id(),
        node_id=node_id,
        state=BenchmarkState.REQUESTED,
        cause=BenchmarkCause.ASKED,
        asked_by=asked_by,
        hardware_digest="",
    )
    await session.execute(
        made.on_conflict_do_nothing(
            index_elements=[Benchmark.node_id], index_where=Benchmark.state.in_(OPEN_STATES)
        )
    )
    return (
        await session.scalars(
            select(Benchmark).where(Benchmark.node_id == node_id, Benchmark.state.in_(OPEN_STATES))
        )
    ).one()


async def begin(session: AsyncSession, node_id: UUID, cause: BenchmarkCause, digest: str) -> UUID | None:
    """The node is measured from now on, and gets no requests. None while it may not be: it is draining or retired.

    What another process or an earlier link began is lost. Locks the node's row.
    """
    lost = update(Benchmark).where(Benchmark.node_id == node_id, Benchmark.state == BenchmarkState.RUNNING)
    await session.execute(lost.values(state=BenchmarkState.LOST, finished_at=func.clock_timestamp()))
    state = await session.scalar(select(Node.state).where(Node.id == node_id).with_for_update(key_share=True))
    if state is NodeState.BENCHMARKING:
        await change_many(session, [node_id], NodeEventKind.BENCHMARK_FAILED, reason=_INTERRUPTED)
    if not await change_many(session, [node_id], NodeEventKind.BENCHMARK_STARTED, reason=cause.value):
        return None
    running = {
        "state": BenchmarkState.RUNNING,
        "hardware_digest": digest,
        "started_at": func.clock_timestamp(),
    }
    requested = update(Benchmark).where(
        Benchmark.node_id == node_id, Benchmark.state == BenchmarkState.REQUESTED
    )
    benchmark_id = await session.scalar(requested.values(running).returning(Benchmark.id))
    if benchmark_id is None:
        made = insert(Benchmark).values(id=new_id(), node_id=node_id, cause=cause, **running)
        benchmark_id = await session.scalar(made.returning(Benchmark.id))
    return benchmark_id


async def finish(session: AsyncSession, benchmark_id: UUID, findings: Sequence[Finding]) -> bool:
    """Write down what was found: the node is ready when every check passed, else enrolled again with the reasons.

    Returns whether it passed. Nothing happens to a benchmark that was taken for lost meanwhile.
    """
    failures = sorted({finding.reason.value for finding in findings if finding.reason is not None})
    ended = update(Benchmark).where(Benchmark.id == benchmark_id, Benchmark.state == BenchmarkState.RUNNING)
    node_id = await session.scalar(
        ended.values(
            state=BenchmarkState.FAILED if failures else BenchmarkState.PASSED,
            finished_at=func.clock_timestamp(),
        ).returning(Benchmark.node_id)
    )
    if node_id is None:
        return False
    if findings:
        await session.execute(
            insert(BenchmarkCheck),
            [_check_row(benchmark_id, position, finding) for position, finding in enumerate(findings)],
        )
    event = NodeEventKind.BENCHMARK_FAILED if failures else NodeEventKind.BENCHMARK_PASSED
    await change_many(session, [node_id], event, reason=", ".join(failures))
    return not failures


async def lose_abandoned(session: AsyncSession) -> int:
    """End what is measured on nodes whose link is gone; how many that were."""
    abandoned = (
        update(Benchmark)
        .where(
            Benchmark.state == BenchmarkState.RUNNING,
            Benchmark.node_id == Node.id,
            Node.link_id.is_(None),
            # A link that has just come up is not yet in its node's row.
            Benchmark.started_at < func.clock_timestamp() - timedelta(seconds=30),
        )
        .values(state=BenchmarkState.LOST, finished_at=func.clock_timestamp())
        .returning(Benchmark.id)
    )
    return len((await session.scalars(abandoned)).all())


async def requested(session: AsyncSession) -> Collection[UUID]:
    """Nodes that somebody wants measured."""
    found = select(Benchmark.node_id).where(Benchmark.state == BenchmarkState.REQUESTED)
    return (await session.scalars(found)).all()


def _gpu_row(node_id: UUID, gpu: link.Gpu) -> dict[str, object]:
    return {
        "id": new_id(),
        "node_id": node_id,
        "uuid": gpu.uuid,
        "model": gpu.model,
        "memory_bytes": gpu.memory_bytes,
        "driver": gpu.driver,
        "compute_capability": gpu.compute_capability,
        "multiprocessors": gpu.multiprocessors,
        "ecc": gpu.ecc,
        "mig": [msgspec.to_builtins(piece) for piece in gpu.mig],
    }


def _check_row(benchmark_id: UUID, position: int, finding: Finding) -> dict[str, object]:
    return {
        "benchmark_id": benchmark_id,
        "position": position,
        "check_name": finding.check,
        "device": finding.device[:200],
        "value": finding.value,
        "limit_value": finding.limit,
        "passed": finding.passed,
        "reason": finding.reason.value if finding.reason is not None else None,
        # PostgreSQL's text holds no NUL, and some of it is the node's own words.
        "message": finding.message.replace("\0", "")[:500],
    }
