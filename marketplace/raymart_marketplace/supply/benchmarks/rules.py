"""The rules of the benchmark, published as they stand here: what is checked, its limit, why, and the name of a failure.

Pure: a rule and a measurement give a finding. Limits are low on purpose. They keep out what cannot serve and what is not
what it claims to be; how well a machine serves is seen by what it serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from raymart_core.wire.link import Gpu
from raymart_marketplace.supply.benchmarks.known_gpus import MEMORY_SHARES, KnownGpu, known_gpu

GIB = 1024**3


class Reason(StrEnum):
    """Why a check failed."""

    NOT_ANSWERED = "not_answered"
    """The order was not answered in time."""
    NOT_MEASURED = "not_measured"
    """The machine says why it could not measure."""
    PRODUCT_WRONG = "product_wrong"
    """A product of matrices was left out or computed wrongly."""
    CPU_TOO_SLOW = "cpu_too_slow"
    MEMORY_TOO_SLOW = "memory_too_slow"
    DISK_TOO_SLOW = "disk_too_slow"
    DISK_FULL = "disk_full"
    NETWORK_TOO_SLOW = "network_too_slow"
    NETWORK_TOO_FAR = "network_too_far"
    GPU_MEMORY_NOT_OF_MODEL = "gpu_memory_not_of_model"
    GPU_MULTIPROCESSORS_NOT_OF_MODEL = "gpu_multiprocessors_not_of_model"
    GPU_COMPUTE_CAPABILITY_NOT_OF_MODEL = "gpu_compute_capability_not_of_model"
    GPU_NOT_AS_ANNOUNCED = "gpu_not_as_announced"
    """CUDA finds another device than NVML announced."""
    GPU_TOO_SLOW = "gpu_too_slow"
    GPU_TOO_SLOW_FOR_MODEL = "gpu_too_slow_for_model"
    GPU_MEMORY_TOO_SLOW = "gpu_memory_too_slow"
    GPU_MEMORY_TOO_SLOW_FOR_MODEL = "gpu_memory_too_slow_for_model"


GENERAL_REASONS = (Reason.NOT_ANSWERED, Reason.NOT_MEASURED)
"""Any check may fail by these beside its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check, as it is published."""

    check: str
    what: str
    unit: str
    least: float | None = None
    most: float | None = None
    share_of_model: float | None = None
    """Of the data sheet's figure, where the GPU's model is known; `least` holds for the others."""
    why: str
    reasons: tuple[Reason, ...]
    """How it may fail, beside `GENERAL_REASONS`."""
    of_gpu: bool = False
    """Whether each GPU, or each of its slices, is checked."""

    def fails(self, value: float) -> bool:
        """Whether `value` breaks the rule's own limit."""
        return (self.least is not None and value < self.least) or (
            self.most is not None and value > self.most
        )

    @property
    def limit(self) -> float | None:
        """The one number to stay above or below."""
        return self.least if self.least is not None else self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    device: str = ""
    """UUID of the GPU or slice; empty for the machine."""
    value: float | None = None
    """In the rule's unit."""
    limit: float | None = None
    reason: Reason | None = None
    """Why it failed; None when it passed."""
    message: str = ""
    """For people: what was found, and what to do."""

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.reason is None


RULES: Sequence[Rule] = (
    Rule(
        check="network_round_trip",
        what="The shortest of three round trips over the link",
        unit="ms",
        most=1_000.0,
        why="Each token takes half of it; further away a customer feels every pause.",
        reasons=(Reason.NETWORK_TOO_FAR,),
    ),
    Rule(
        check="network_up",
        what="1 MiB sent over the link, by the marketplace's clock",
        unit="Mbit/s",
        least=2.0,
        why="Pictures and many streams at once go that way.",
        reasons=(Reason.NETWORK_TOO_SLOW,),
    ),
    Rule(
        check="cpu_matrix",
        what="Products of 1,024 x 1,024 matrices in float32 on all processors, checked by the marketplace",
        unit="GFLOP/s",
        least=1.0,
        why="A tenth of one core of ten years ago; below it even the smallest model stalls.",
        reasons=(Reason.CPU_TOO_SLOW, Reason.PRODUCT_WRONG),
    ),
    Rule(
        check="memory_bandwidth",
        what="Main memory, read and written",
        unit="GB/s",
        least=0.5,
        why="Each token on a processor reads the whole model.",
        reasons=(Reason.MEMORY_TOO_SLOW,),
    ),
    Rule(
        check="disk_write",
        what="A file of 16 MiB written and made durable where models are kept",
        unit="MB/s",
        least=5.0,
        why="Models of many gigabytes are written there.",
        reasons=(Reason.DISK_TOO_SLOW,),
    ),
    Rule(
        check="disk_free",
        what="Free space where models are kept",
        unit="GiB",
        least=1.0,
        why="The smallest models need it.",
        reasons=(Reason.DISK_FULL,),
    ),
    Rule(
        check="gpu_memory",
        what="Memory that NVML reports, against the model's data sheet",
        unit="GiB",
        share_of_model=MEMORY_SHARES[0],
        why="A card that has not its model's memory is another model.",
        reasons=(Reason.GPU_MEMORY_NOT_OF_MODEL,),
        of_gpu=True,
    ),
    Rule(
        check="gpu_multiprocessors",
        what="Streaming multiprocessors, against the model's data sheet",
        unit="",
        share_of_model=1.0,
        why="As above.",
        reasons=(Reason.GPU_MULTIPROCESSORS_NOT_OF_MODEL,),
        of_gpu=True,
    ),
    Rule(
        check="gpu_compute_capability",
        what="Compute capability, against the model's data sheet",
        unit="",
        share_of_model=1.0,
        why="As above.",
        reasons=(Reason.GPU_COMPUTE_CAPABILITY_NOT_OF_MODEL,),
        of_gpu=True,
    ),
    Rule(
        check="gpu_identity",
        what="What CUDA calls the device, against what NVML announced",
        unit="",
        why="What computes must be what is sold.",
        reasons=(Reason.GPU_NOT_AS_ANNOUNCED,),
        of_gpu=True,
    ),
    Rule(
        check="gpu_matrix",
        what="Products of 8,192 x 8,192 matrices in float16, checked by the marketplace; dense tensor throughput",
        unit="TFLOP/s",
        least=1.0,
        share_of_model=0.3,
        why="A cooled card reaches half of its data sheet and more; a slower model does not reach 30 % of a faster one's.",
        reasons=(Reason.GPU_TOO_SLOW, Reason.GPU_TOO_SLOW_FOR_MODEL, Reason.PRODUCT_WRONG),
        of_gpu=True,
    ),
    Rule(
        check="gpu_memory_bandwidth",
        what="The device's memory, read and written",
        unit="GB/s",
        least=50.0,
        share_of_model=0.5,
        why="Tokens are generated as fast as weights are read.",
        reasons=(Reason.GPU_MEMORY_TOO_SLOW, Reason.GPU_MEMORY_TOO_SLOW_FOR_MODEL),
        of_gpu=True,
    ),
)
"""Every check, in the order in which a benchmark makes them."""
BY_CHECK: Mapping[str, Rule] = {rule.check: rule for rule in RULES}


def judge(check: str, value: float, *, message: str = "") -> Finding:
    """The finding of a check of the machine, whose one limit is the rule's."""
    rule = BY_CHECK[check]
    return Finding(
        check=check,
        value=value,
        limit=rule.limit,
        reason=rule.reasons[0] if rule.fails(value) else None,
        message=message,
    )


def judge_announced(gpu: Gpu) -> Sequence[Finding]:
    """What the announcement alone tells of a card: whether it has what its model has. Unknown models pass."""
    known = known_gpu(gpu.model)
    memory_gib = gpu.memory_bytes / GIB
    if known is None:
        message = f"{gpu.model[:80]!r} is not a model that is known here; any GPU's rules hold"
        return [Finding(check="gpu_memory", device=gpu.uuid, value=memory_gib, message=message)]
    least, most = (share * known.memory_gib for share in MEMORY_SHARES)
    found = [
        Finding(
            check="gpu_memory",
            device=gpu.uuid,
            value=memory_gib,
            limit=least,
            reason=None if least <= memory_gib <= most else Reason.GPU_MEMORY_NOT_OF_MODEL,
            message=f"{known.name} has {known.memory_gib} GiB",
        )
    ]
    # A driver that does not tell is not a lie; speed is measured either way.
    if gpu.multiprocessors:
        found.append(_same(gpu, known, "gpu_multiprocessors", gpu.multiprocessors, known.multiprocessors))
    if gpu.compute_capability:
        found.append(
            _same(
                gpu,
                known,
                "gpu_compute_capability",
                _number(gpu.compute_capability),
                float(known.compute_capability),
            )
        )
    return found


def judge_identity(gpu: Gpu, found: Mapping[str, str | int | float], *, device: str) -> Finding:
    """Whether CUDA's name, multiprocessors and memory are the announced card's. A slice is compared by its name only."""
    whole = device == gpu.uuid
    name = str(found.get("name", ""))
    problems = [] if _is_of(name, gpu.model) else [f"CUDA names it {name[:80]!r}, NVML {gpu.model[:80]!r}"]
    if whole and gpu.multiprocessors and found.get("multiprocessors") != gpu.multiprocessors:
        problems.append(f"{found.get('multiprocessors')} multiprocessors and not {gpu.multiprocessors}")
    memory_bytes = found.get("memory_bytes")
    if whole and not (isinstance(memory_bytes, int) and 0.9 <= memory_bytes / gpu.memory_bytes <= 1.01):
        problems.append(f"{memory_bytes} bytes of memory and not {gpu.memory_bytes}")
    return Finding(
        check="gpu_identity",
        device=device,
        reason=Reason.GPU_NOT_AS_ANNOUNCED if problems else None,
        message="; ".join(problems) or name[:80],
    )


def judge_speed(check: str, gpu: Gpu, value: float, *, device: str) -> Finding:
    """The finding of `gpu_matrix` (TFLOP/s) or `gpu_memory_bandwidth` (GB/s), against the model's share where it is known.

    A slice owes its part: "1g" of seven.
    """
    rule, known = BY_CHECK[check], known_gpu(gpu.model)
    assert rule.least is not None
    assert rule.share_of_model is not None
    any_gpu, of_model = rule.reasons[:2]
    if known is None:
        reason = any_gpu if value < rule.least else None
        return Finding(check=check, device=device, value=value, limit=rule.least, reason=reason)
    sheet = known.tensor_tflops if check == "gpu_matrix" else known.bandwidth_gb_s
    limit = rule.share_of_model * sheet * _part(gpu, device)
    return Finding(
        check=check,
        device=device,
        value=value,
        limit=limit,
        reason=of_model if value < limit else None,
        message=f"{known.name}: {sheet:g} {rule.unit} by its data sheet",
    )


def failed(check: str, reason: Reason, message: str, *, device: str = "") -> Finding:
    """A check that gave no value."""
    return Finding(check=check, device=device, reason=reason, message=message[:500])


def _same(gpu: Gpu, known: KnownGpu, check: str, value: float, expected: float) -> Finding:
    rule = BY_CHECK[check]
    return Finding(
        check=check,
        device=gpu.uuid,
        value=value,
        limit=expected,
        reason=None if value == expected else rule.reasons[0],
        message=f"{known.name} has {expected:g}",
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_of(name: str, model: str) -> bool:
    plain, other = (text.casefold().removeprefix("nvidia ").strip() for text in (name, model))
    # CUDA names a slice by its card and the slice's profile.
    return bool(plain) and (plain == other or plain.startswith(f"{other} mig "))


def _part(gpu: Gpu, device: str) -> float:
    for piece in gpu.mig:
        if piece.uuid == device:
            compute, _, _ = piece.profile.partition("g")
            return min(int(compute), 7) / 7 if compute.isdecimal() else 1.0
    return 1.0
