import pytest

from raymart_providers.errors import ProviderError
from raymart_providers.ray_process import RayOptions, ray_options


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("t")
    return path


class TestRayOptions:
    def test_one_machine_needs_none(self):
        assert ray_options(host="127.0.0.1", head=None, token_path=None, cpus=None) == RayOptions()

    def test_a_second_machine_joins_the_firsts_head(self, token):
        options = ray_options(host="10.0.0.6", head="10.0.0.5:6379", token_path=token, cpus=8)
        assert options == RayOptions(host="10.0.0.6", head="10.0.0.5:6379", token_path=token, cpus=8)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"host": "gpu.example"}, "no IP address"),
            ({"host": "0.0.0.0"}, "to everybody"),  # refused is what is tested
            ({"host": "8.8.8.8"}, "to everybody"),
            ({"head": "10.0.0.5:6379"}, "belong together"),
            ({"token_path": "{token}"}, "belong together"),
            ({"head": "10.0.0.5", "token_path": "{token}", "host": "10.0.0.6"}, "not host:port"),
            ({"head": "10.0.0.5:6379", "token_path": "{token}"}, "cannot reach this machine"),
            ({"head": "10.0.0.5:6379", "token_path": "{gone}", "host": "10.0.0.6"}, "is no file"),
        ],
    )
    def test_what_cannot_work_or_is_open_to_everybody_is_refused(self, token, changes, said):
        values = {"host": "127.0.0.1", "head": None, "token_path": None, "cpus": None, **changes}
        if "token_path" in changes:
            values["token_path"] = token if changes["token_path"] == "{token}" else token.with_name("gone")
        with pytest.raises(ProviderError, match=said):
            ray_options(**values)
