"""Labels as Ray takes them."""

from raymart_core.wire.link import Gpu, Hardware
from raymart_marketplace.supply.membership.labels import gpu_label, ray_labels
from raymart_marketplace.supply.membership.models import MemberRole

CPU_ONLY = Hardware(hostname="h", cpu_model="c", cpu_count=1, memory_bytes=1)


def with_gpu(model: str) -> Hardware:
    return Hardware(
        hostname="h",
        cpu_model="c",
        cpu_count=1,
        memory_bytes=1,
        gpus=(Gpu(uuid="GPU-1", model=model, memory_bytes=1, driver="1"),),
    )


class TestGpuLabel:
    def test_a_models_name_keeps_only_what_a_label_may_have(self):
        assert gpu_label(with_gpu("NVIDIA H100 80GB HBM3")) == "NVIDIA-H100-80GB-HBM3"
        assert gpu_label(with_gpu("Tesla/V100 (SXM2)")) == "Tesla-V100-SXM2"
        assert len(gpu_label(with_gpu("x" * 200))) == 63
        assert gpu_label(with_gpu("漢字")) == "unnamed"

    def test_a_machine_without_one_says_so(self):
        assert gpu_label(CPU_ONLY) == "none"


class TestRayLabels:
    def test_a_node_is_known_by_provider_gpu_region_and_tier(self):
        labels = ray_labels(
            role=MemberRole.NODE, name="gpu-1", provider="alpha", region="eu-1", hardware=with_gpu("H100")
        )
        assert labels == {
            "raymart.io/node": "gpu-1",
            "raymart.io/provider": "alpha",
            "raymart.io/gpu": "H100",
            "raymart.io/region": "eu-1",
            "raymart.io/tier": "verified",
            "raymart.io/role": "node",
        }

    def test_the_head_belongs_to_no_provider(self):
        labels = ray_labels(role=MemberRole.HEAD, name="ctl", provider=None, region="eu-1", hardware=CPU_ONLY)
        assert labels["raymart.io/node"] == "head"
        assert "raymart.io/provider" not in labels
