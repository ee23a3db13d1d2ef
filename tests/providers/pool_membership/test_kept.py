"""The files of a membership."""

import stat
import time

import pytest

from raymart_providers.errors import UnsafeFile
from raymart_providers.pool_membership.kept import RESTART_SHARES, MembershipFiles
from support.pool_members import authority, grant_of, member


class TestMembershipFiles:
    def test_an_environment_is_all_that_ray_needs(self, tmp_path):
        kept = member(tmp_path / "m", authority())
        environment = kept.environment
        assert (environment["RAY_AUTH_MODE"], environment["RAY_USE_TLS"]) == ("token", "1")
        for name in ("RAY_AUTH_TOKEN_PATH", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"):
            path = tmp_path / "m" / environment[name].rpartition("/")[2]
            assert str(path) == environment[name]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_renewal_keeps_the_key(self, tmp_path):
        pool, files = authority(), MembershipFiles(tmp_path / "m")
        files.keep(grant_of(pool, files.request("m")))
        key, certificate = files.key.read_bytes(), files.certificate.read_bytes()
        files.keep(grant_of(pool, files.request("m")))
        assert files.key.read_bytes() == key
        assert files.certificate.read_bytes() != certificate

    def test_a_certificate_for_another_key_is_not_kept(self, tmp_path):
        pool, files = authority(), MembershipFiles(tmp_path / "m")
        files.request("m")
        other = MembershipFiles(tmp_path / "other")
        with pytest.raises(UnsafeFile, match="another key"):
            files.keep(grant_of(pool, other.request("m")))
        assert files.load() is None

    def test_it_is_there_after_a_restart_until_it_expires(self, tmp_path):
        pool, files = authority(), MembershipFiles(tmp_path / "m")
        kept = files.keep(grant_of(pool, files.request("m")))
        assert files.load() == kept
        files.keep(grant_of(pool, files.request("m"), expires_in_s=-1.0))
        assert files.load() is None

    def test_ray_is_started_anew_before_the_end_and_after_the_renewal(self, tmp_path):
        kept = member(tmp_path / "m", authority(), valid_s=1_000.0)
        left_s = kept.restart_at - time.time()
        assert 1_000 * RESTART_SHARES[0] - 5 <= left_s <= 1_000 * RESTART_SHARES[1]
        assert kept.renew_at < kept.restart_at < kept.expires_at

    def test_a_key_that_others_may_read_is_not_used(self, tmp_path):
        member(tmp_path / "m", authority())
        (tmp_path / "m" / "member.key").chmod(0o644)
        with pytest.raises(UnsafeFile, match="mode 0644"):
            MembershipFiles(tmp_path / "m").load()

    def test_a_damaged_grant_is_named(self, tmp_path):
        member(tmp_path / "m", authority())
        (tmp_path / "m" / "grant.json").write_text("{")
        with pytest.raises(UnsafeFile, match="damaged"):
            MembershipFiles(tmp_path / "m").load()
