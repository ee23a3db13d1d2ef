import pytest

from raymart_providers.ray_process.command import MARK, head_command, node_command, ray_environment
from raymart_providers.ray_process.options import RayOptions
from raymart_providers.ray_process.own_files import RayHome


@pytest.fixture
def home(tmp_path):
    return RayHome(tmp_path / "ray")


class TestEnvironment:
    def environment(self, home, **base):
        return ray_environment(home, RayOptions(), node="gpu-1", agent_file="/s/agent.json", base=base)

    def test_what_the_shell_tells_some_other_ray_does_not_reach_this_one(self, home):
        environment = self.environment(home, RAY_ADDRESS="10.0.0.1:6379", PATH="/bin")
        assert "RAY_ADDRESS" not in environment
        assert environment["PATH"] == "/bin"

    def test_authentication_is_always_named(self, home):
        environment = self.environment(home, RAY_AUTH_MODE="disabled")
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == str(home.token)

    def test_replicas_find_the_agent_and_we_find_them(self, home):
        environment = self.environment(home)
        assert environment["RAYMART_AGENT_FILE"] == "/s/agent.json"
        assert environment[MARK] == home.mark

    def test_only_gpus_for_sale_are_offered(self, home):
        assert self.environment(home, CUDA_VISIBLE_DEVICES="0,1")["CUDA_VISIBLE_DEVICES"] == ""
        environment = ray_environment(home, RayOptions(), node="a", gpus=("GPU-1", "GPU-2"), base={})
        assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"

    def test_replicas_listen_outside_only_where_the_gateway_is_to_reach_them(self, home):
        host = RayOptions(host="10.0.0.6")
        assert "RAYMART_REPLICA_HOST" not in ray_environment(home, host, node="a", base={})
        direct = RayOptions(host="10.0.0.6", direct=True)
        assert ray_environment(home, direct, node="a", base={})["RAYMART_REPLICA_HOST"] == "10.0.0.6"

    def test_another_machines_cluster_is_joined_with_its_token(self, home, tmp_path):
        options = RayOptions(host="10.0.0.6", head="10.0.0.5:1", token_path=tmp_path / "theirs")
        environment = ray_environment(home, options, node="gpu-2", agent_file="", base={})
        assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "theirs")


class TestCommand:
    def test_a_head_of_its_own_is_on_loopback_and_carries_the_nodes_name(self, home):
        argv = head_command(
            home,
            RayOptions(),
            port=1234,
            dashboard_port=4321,
            labels={"raymart.io/node": "gpu-1"},
            environment={},
        ).argv
        for argument in (
            "--head",
            "--port=1234",
            "--node-ip-address=127.0.0.1",
            "--labels=raymart.io/node=gpu-1",
            "--include-dashboard=false",
            "--block",
        ):
            assert argument in argv
        assert not any(argument.startswith("--num-") for argument in argv)

    def test_a_node_names_its_head_and_its_labels(self):
        options = RayOptions(host="10.0.0.6", cpus=3)
        argv = node_command(options, head="10.0.0.5:1", labels={"b": "2", "a": "1"}, environment={}).argv
        for argument in (
            "--address=10.0.0.5:1",
            "--labels=a=1,b=2",
            "--num-cpus=3",
            "--node-ip-address=10.0.0.6",
        ):
            assert argument in argv
        assert "--head" not in argv
