import os
import stat
from pathlib import Path

from raymart_local.secret_file import secret_at, write_private


class TestSecretFile:
    def test_secret_is_made_once_and_private(self, tmp_path: Path):
        path = tmp_path / "secrets" / "token"
        secret = secret_at(path)
        assert len(secret) == 43
        assert secret_at(path) == secret
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_replaced_file_is_private_whatever_the_umask_and_the_file_before(self, tmp_path: Path):
        path = tmp_path / "token"
        path.write_text("open to all")
        path.chmod(0o666)
        before = os.umask(0)
        try:
            write_private(path, "new")
        finally:
            os.umask(before)
        assert path.read_text() == "new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]
