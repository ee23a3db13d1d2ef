import importlib

from raymart_serve.ray_tuning import START_HOOK, TUNED, tune


class TestTune:
    def test_what_the_environment_says_stays(self) -> None:
        environment = {"RAY_gcs_rpc_server_reconnect_timeout_s": "60"}
        tune(environment)
        assert environment == {**TUNED, "RAY_gcs_rpc_server_reconnect_timeout_s": "60"}

    def test_the_hook_that_ray_is_told_of_is_there(self) -> None:
        """Ray finds it by this name, in a process that only then tells of a wrong one."""
        module, _, name = START_HOOK.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
