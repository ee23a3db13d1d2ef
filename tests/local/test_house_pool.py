"""The house pool's parts, without starting Ray."""

import shutil
import stat
from pathlib import Path

from raymart_graphql.seed import PROVIDERS
from raymart_graphql.seed_models import DEMO_MODELS
from raymart_local.house_pool import DEMO_NODES, MODELS_PER_NODE, HousePool
from raymart_local.layout import Layout
from raymart_local.part import Part
from raymart_local.ray_nodes import TEMP_DIR_BYTES_MAX, RayCluster


def pool(root: Path) -> HousePool:
    return HousePool(layout=Layout(root), environment={"PATH": "/bin"}, server_url="http://127.0.0.1:8000")


def part(house: HousePool, name: str) -> Part:
    return next(part for part in house.parts() if part.name == name)


class TestHousePool:
    def test_each_node_has_a_raylet_and_an_agent(self, tmp_path: Path):
        names = [part.name for part in pool(tmp_path).parts()]
        assert names == [
            "ray-redis", "ray-head", "ray-demo-a", "ray-demo-b", "agent-demo-a", "agent-demo-b", "controller",
        ]  # fmt: skip

    def test_ready_means_that_every_model_of_the_seed_is_served(self):
        assert len(DEMO_MODELS) == MODELS_PER_NODE
        assert [node.provider for node in DEMO_NODES] == [provider.slug for provider in PROVIDERS]

    def test_replicas_find_the_agent_that_serves_their_node(self, tmp_path: Path):
        house = pool(tmp_path)
        for node in DEMO_NODES:
            raylet, agent = (
                part(house, f"ray-{node.name}").program(),
                part(house, f"agent-{node.name}").program(),
            )
            assert f"--labels=raymart.io/node={node.name},raymart.io/provider={node.provider}" in raylet.argv
            [state] = [a.removeprefix("--state-dir=") for a in agent.argv if a.startswith("--state-dir=")]
            assert raylet.env["RAYMART_AGENT_FILE"] == f"{state}/agent.json"

    def test_agents_share_their_models_on_loopback(self, tmp_path: Path):
        for node in DEMO_NODES:
            agent = part(pool(tmp_path), f"agent-{node.name}").program()
            assert agent.env["RAYMART_ARTIFACT_HOST"] == "127.0.0.1"

    def test_join_token_is_given_only_while_there_is_one(self, tmp_path: Path):
        agent = part(pool(tmp_path), "agent-demo-a")
        assert not [a for a in agent.program().argv if a.startswith("--token-file=")]
        token = Layout(tmp_path).join_tokens / "demo-a"
        token.parent.mkdir(parents=True)
        token.touch()
        assert f"--token-file={token}" in agent.program().argv

    def test_ray_demands_its_token_and_stays_on_loopback(self, tmp_path: Path):
        house = pool(tmp_path)
        part(house, "ray-redis").program()
        for name in ("ray-head", "ray-demo-a", "ray-demo-b"):
            program = part(house, name).program()
            assert program.env["RAY_AUTH_MODE"] == "token"
            assert Path(program.env["RAY_AUTH_TOKEN_PATH"]).stat().st_size > 0
            assert "--node-ip-address=127.0.0.1" in program.argv
            assert "--block" in program.argv

    def test_the_head_keeps_its_state_in_a_redis_of_its_own_and_everybody_waits_for_it(self, tmp_path: Path):
        house = pool(tmp_path)
        store = part(house, "ray-redis").program()
        head = part(house, "ray-head").program()
        port = (tmp_path / "ray" / "redis" / "port").read_text().strip()
        assert head.env["RAY_REDIS_ADDRESS"] == f"127.0.0.1:{port}"
        password = Path(head.env["RAYMART_RAY_REDIS_PASSWORD_FILE"]).read_text().strip()
        assert password in (tmp_path / "ray" / "redis" / "redis.conf").read_text()
        # Arguments are for everybody on the machine to read.
        assert password not in " ".join((*store.argv, *head.argv))
        for name in ("ray-head", "ray-demo-a", "controller"):
            assert part(house, name).program().env["RAY_gcs_rpc_server_reconnect_timeout_s"] == "600"
        assert "RAY_REDIS_ADDRESS" not in part(house, "ray-demo-a").program().env

    def test_another_run_is_another_cluster(self, tmp_path: Path):
        runs = []
        for _ in range(2):
            house = pool(tmp_path)
            part(house, "ray-redis").program()
            runs.append(part(house, "ray-head").program().env["RAY_external_storage_namespace"])
        assert runs[0] != runs[1]


class TestRayCluster:
    def cluster(self, data_dir: Path) -> RayCluster:
        return RayCluster.at(data_dir, token_path=data_dir / "token", environment={})

    def test_sockets_of_a_long_data_directory_keep_within_the_systems_limit(self, tmp_path: Path):
        temp_dir = self.cluster(tmp_path / ("x" * 100)).temp_dir
        assert len(str(temp_dir)) <= TEMP_DIR_BYTES_MAX
        assert stat.S_IMODE(temp_dir.parent.stat().st_mode) == 0o700

    def test_short_directory_of_a_deleted_data_directory_is_deleted_by_the_next(self, tmp_path: Path):
        temp_dir = self.cluster(tmp_path / "deleted" / ("x" * 50)).temp_dir
        shutil.rmtree(tmp_path / "deleted")
        self.cluster(tmp_path / ("y" * 50))
        assert not temp_dir.parent.exists()

    def test_files_of_an_earlier_run_are_deleted(self, tmp_path: Path):
        old = self.cluster(tmp_path).temp_dir / "session_old"
        old.mkdir()
        assert not (self.cluster(tmp_path).temp_dir / "session_old").exists()

    def test_port_stays_the_same(self, tmp_path: Path):
        assert self.cluster(tmp_path).port == self.cluster(tmp_path).port
