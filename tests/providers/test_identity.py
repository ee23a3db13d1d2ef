import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from raymart_providers.errors import UnsafeFile
from raymart_providers.identity import Enrolment, NodeKey, keep_enrolment, load_enrolment
from raymart_providers.private_file import write_private


class TestNodeKey:
    def test_a_fresh_key_is_0600_and_loads_again(self, tmp_path):
        path = tmp_path / "node.key"
        old_mask = os.umask(0)
        try:
            key = NodeKey.load_or_create(path)
        finally:
            os.umask(old_mask)
        assert path.stat().st_mode & 0o777 == 0o600
        assert NodeKey.load_or_create(path).public_bytes == key.public_bytes
        assert [entry.name for entry in tmp_path.iterdir()] == ["node.key"]

    def test_it_signs(self, tmp_path):
        key = NodeKey.create(tmp_path / "node.key")
        Ed25519PublicKey.from_public_bytes(key.public_bytes).verify(key.sign(b"x"), b"x")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
    def test_a_key_that_others_may_touch_is_refused(self, tmp_path, mode):
        path = tmp_path / "node.key"
        NodeKey.create(path)
        path.chmod(mode)
        with pytest.raises(UnsafeFile, match="chmod 600"):
            NodeKey.load_or_create(path)

    def test_a_damaged_key_is_not_replaced(self, tmp_path):
        path = tmp_path / "node.key"
        write_private(path, b"not a key")
        with pytest.raises(UnsafeFile, match="leave"):
            NodeKey.load_or_create(path)
        assert path.read_bytes() == b"not a key"

    def test_another_kind_of_key_is_refused(self, tmp_path):
        key = generate_private_key(public_exponent=65537, key_size=2048)
        write_private(tmp_path / "k", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(UnsafeFile, match="not an Ed25519 key"):
            NodeKey.load(tmp_path / "k")


class TestEnrolment:
    ENROLMENT = Enrolment(node_id="node_1", name="a", role="node", server="http://127.0.0.1:8000")

    def test_it_is_kept_in_private(self, tmp_path):
        path = tmp_path / "node.json"
        keep_enrolment(path, self.ENROLMENT)
        assert load_enrolment(path) == self.ENROLMENT
        assert path.stat().st_mode & 0o777 == 0o600

    def test_none_is_kept_before_the_first_join(self, tmp_path):
        assert load_enrolment(tmp_path / "node.json") is None

    def test_a_damaged_one_is_told(self, tmp_path):
        write_private(tmp_path / "node.json", b"{")
        with pytest.raises(UnsafeFile, match="damaged"):
            load_enrolment(tmp_path / "node.json")
