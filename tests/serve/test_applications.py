import msgspec
import pytest

from raymart_core.wire.link import Placement
from raymart_serve.applications import PlacementInvalid, application_name, schema_of
from raymart_serve.replica.config import ReplicaConfig


def placement(**changes: object) -> Placement:
    values = {
        "placement_id": "plc_1",
        "node": "a",
        "model": "raymart/demo-chat",
        "revision": "sha256:" + "0" * 64,
        "engine": "llama_cpp",
        "source": "bundled:demo-llm.gguf",
        "sha256": "0" * 64,
        "context_length": 1024,
        "replicas_min": 1,
        "replicas_max": 3,
        "slots": 2,
    }
    return msgspec.convert(values | changes, Placement)


class TestSchemaOf:
    def test_the_application_is_pinned_to_its_node(self) -> None:
        (deployment,) = schema_of(placement(node="b"))["deployments"]
        assert deployment["ray_actor_options"]["label_selector"] == {"raymart.io/node": "b"}

    def test_replica_has_the_gpus_that_its_revision_needs(self) -> None:
        for parameters, count in (({}, 0), ({"gpus": "2"}, 2)):
            (deployment,) = schema_of(placement(parameters=parameters))["deployments"]
            assert deployment["ray_actor_options"]["num_gpus"] == count

    @pytest.mark.parametrize("count", [(1, 1), (2, 2), (0, 4)])
    def test_every_size_has_the_autoscaling_form(self, count: tuple[int, int]) -> None:
        """A change between the fixed and the autoscaling form would replace running replicas."""
        (deployment,) = schema_of(placement(replicas_min=count[0], replicas_max=count[1]))["deployments"]
        assert "num_replicas" not in deployment
        config = deployment["autoscaling_config"]
        assert (config["min_replicas"], config["max_replicas"]) == count

    def test_size_does_not_change_what_a_replica_is(self) -> None:
        """Serve replaces replicas whose arguments change."""
        assert schema_of(placement(replicas_max=3))["args"] == schema_of(placement(replicas_max=9))["args"]
        assert schema_of(placement(slots=2))["args"] != schema_of(placement(slots=3))["args"]

    def test_arguments_are_a_replica_s_configuration(self) -> None:
        config = msgspec.convert(schema_of(placement())["args"], ReplicaConfig)
        assert (config.model, config.slots, config.context_length) == ("raymart/demo-chat", 2, 1024)

    def test_serve_waits_longer_than_the_replica_drains(self) -> None:
        schema = schema_of(placement())
        (deployment,) = schema["deployments"]
        assert deployment["graceful_shutdown_timeout_s"] > schema["args"]["drain_timeout_s"]

    def test_the_first_replica_of_what_sleeps_is_not_waited_for_longer_than_it_takes(self) -> None:
        for least, delay_s in ((0, 0.0), (1, 4.0)):
            (deployment,) = schema_of(placement(replicas_min=least, idle_s=7.5))["deployments"]
            config = deployment["autoscaling_config"]
            assert config["upscale_delay_s"] == delay_s
            assert (config["downscale_delay_s"], config["downscale_to_zero_delay_s"]) == (7.5, 7.5)

    def test_ray_accounts_the_cpus_of_the_placement(self) -> None:
        (deployment,) = schema_of(placement(cpus=3.5))["deployments"]
        assert deployment["ray_actor_options"]["num_cpus"] == 3.5

    @pytest.mark.parametrize(
        "changes",
        [
            {"cpus": 0.0},
            {"cpus": 1025.0},
            {"idle_s": 0.0},
            {"idle_s": 86_401.0},
            {"replicas_min": 2, "replicas_max": 1},
            {"replicas_min": -1},
            {"replicas_min": 0, "replicas_max": 0},
            {"slots": 0},
            {"context_length": 0},
            {"parameters": {"gpus": "-1"}},
            {"parameters": {"gpus": "65"}},
            {"parameters": {"gpus": "٣"}},
        ],
    )
    def test_what_cannot_run_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(PlacementInvalid):
            schema_of(placement(**changes))

    def test_names_differ_by_placement(self) -> None:
        assert application_name("plc_1") != application_name("plc_2")
