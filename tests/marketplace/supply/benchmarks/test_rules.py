import msgspec
import pytest

from raymart_core.wire.link import MigSlice
from raymart_marketplace.supply.benchmarks.known_gpus import known_gpu, known_gpus
from raymart_marketplace.supply.benchmarks.rules import (
    BY_CHECK,
    GENERAL_REASONS,
    RULES,
    Reason,
    judge,
    judge_announced,
    judge_identity,
    judge_speed,
)
from support.benchmarked import H200

H200_BY_CUDA = {
    "name": "NVIDIA H200",
    "multiprocessors": 132,
    "memory_bytes": 139 * 2**30,
    "compute_capability": "9.0",
}


def reasons(findings):
    return {finding.check: finding.reason for finding in findings if not finding.passed}


def as_(**changes):
    return msgspec.structs.replace(H200, **changes)


class TestRules:
    def test_every_check_is_named_once(self):
        assert len(BY_CHECK) == len(RULES)

    def test_every_reason_belongs_to_a_rule(self):
        named = {reason for rule in RULES for reason in rule.reasons} | set(GENERAL_REASONS)
        assert named == set(Reason)

    def test_every_rule_says_what_and_why(self):
        assert all(rule.what and rule.why and rule.reasons for rule in RULES)

    @pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.of_gpu], ids=lambda rule: rule.check)
    def test_a_machines_rule_holds_on_its_limit_and_fails_beyond(self, rule):
        assert judge(rule.check, rule.limit).passed
        beyond = rule.limit * (0.99 if rule.least is not None else 1.01)
        finding = judge(rule.check, beyond)
        assert (finding.reason, finding.limit) == (rule.reasons[0], rule.limit)


class TestAnnounced:
    def test_a_card_that_is_what_it_says_passes(self):
        assert reasons(judge_announced(H200)) == {}

    def test_another_cards_memory_fails_by_name(self):
        assert reasons(judge_announced(as_(memory_bytes=24 * 2**30))) == {
            "gpu_memory": Reason.GPU_MEMORY_NOT_OF_MODEL
        }

    def test_more_memory_than_the_model_has_fails_too(self):
        assert reasons(judge_announced(as_(memory_bytes=180 * 2**30))) == {
            "gpu_memory": Reason.GPU_MEMORY_NOT_OF_MODEL
        }

    def test_another_cards_multiprocessors_and_capability_fail_by_name(self):
        found = reasons(judge_announced(as_(multiprocessors=108, compute_capability="8.0")))
        assert found == {
            "gpu_multiprocessors": Reason.GPU_MULTIPROCESSORS_NOT_OF_MODEL,
            "gpu_compute_capability": Reason.GPU_COMPUTE_CAPABILITY_NOT_OF_MODEL,
        }

    def test_a_capability_that_is_no_number_fails(self):
        found = reasons(judge_announced(as_(compute_capability="nine")))
        assert found == {"gpu_compute_capability": Reason.GPU_COMPUTE_CAPABILITY_NOT_OF_MODEL}

    def test_what_an_older_driver_does_not_tell_is_no_lie(self):
        assert reasons(judge_announced(as_(multiprocessors=0, compute_capability=""))) == {}

    def test_a_model_nobody_knows_passes_with_a_word(self):
        (finding,) = judge_announced(as_(model="NVIDIA H900"))
        assert finding.passed
        assert "not a model that is known" in finding.message


class TestIdentity:
    def test_cuda_and_nvml_agree(self):
        assert judge_identity(H200, H200_BY_CUDA, device=H200.uuid).passed

    @pytest.mark.parametrize(
        "other",
        [
            {"name": "NVIDIA GeForce RTX 4090"},
            {"multiprocessors": 128},
            {"memory_bytes": 24 * 2**30},
            {"name": ""},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_another_device_behind_the_name_fails(self, other):
        finding = judge_identity(H200, H200_BY_CUDA | other, device=H200.uuid)
        assert finding.reason is Reason.GPU_NOT_AS_ANNOUNCED

    def test_a_device_that_tells_nothing_fails(self):
        assert not judge_identity(H200, {}, device=H200.uuid).passed

    def test_a_slice_is_its_cards(self):
        found = {"name": "NVIDIA H200 MIG 1g.18gb", "multiprocessors": 16, "memory_bytes": 2**34}
        assert judge_identity(H200, found, device="MIG-1").passed


class TestSpeed:
    def test_a_known_model_owes_a_share_of_its_data_sheet(self):
        assert judge_speed("gpu_matrix", H200, 297.0, device=H200.uuid).passed
        slow = judge_speed("gpu_matrix", H200, 296.0, device=H200.uuid)
        assert slow.reason is Reason.GPU_TOO_SLOW_FOR_MODEL
        memory = judge_speed("gpu_memory_bandwidth", H200, 2_399.0, device=H200.uuid)
        assert memory.reason is Reason.GPU_MEMORY_TOO_SLOW_FOR_MODEL

    def test_an_unknown_model_owes_what_any_gpu_does(self):
        other = as_(model="NVIDIA H900")
        assert judge_speed("gpu_matrix", other, 1.0, device=other.uuid).passed
        assert judge_speed("gpu_matrix", other, 0.9, device=other.uuid).reason is Reason.GPU_TOO_SLOW
        slow = judge_speed("gpu_memory_bandwidth", other, 49.0, device=other.uuid)
        assert slow.reason is Reason.GPU_MEMORY_TOO_SLOW

    def test_a_slice_owes_its_part(self):
        split = as_(mig=(MigSlice(uuid="MIG-1", profile="1g.18gb", memory_bytes=2**34),))
        assert judge_speed("gpu_matrix", split, 43.0, device="MIG-1").passed
        assert not judge_speed("gpu_matrix", split, 42.0, device="MIG-1").passed


class TestKnownGpus:
    def test_no_model_passes_for_a_much_faster_one(self):
        """A card that reaches all of its data sheet fails as any model of more than 10 / 3 of its speed."""
        h200 = known_gpu("NVIDIA H200")
        rtx_4090 = known_gpu("NVIDIA GeForce RTX 4090")
        assert rtx_4090.tensor_tflops < 0.3 * h200.tensor_tflops

    def test_names_are_unique_and_older_drivers_names_are_known(self):
        names = [model.name for model in known_gpus()]
        assert len(set(names)) == len(names)
        assert known_gpu("A100-SXM4-80GB") == known_gpu("NVIDIA A100-SXM4-80GB")
        assert known_gpu("NVIDIA A100-SXM4-80GB with a hat") is None
