"""What is wrong with a head, told by name and soon: Ray would try for ever and say nothing."""

import sys
import time

import pytest

from raymart_providers.pool_membership import HeadProblem, check_head
from support.pool_members import SETTINGS_FRAME, authority, head_context, listening, member


async def reason_of(head: str, membership, *, timeout_s: float = 5.0) -> str:
    with pytest.raises(HeadProblem) as problem:
        await check_head(head, membership.environment, timeout_s=timeout_s)
    assert head in str(problem.value)
    return problem.value.reason


class TestCheckHead:
    async def test_a_head_of_our_pool_is_fine(self, tmp_path):
        pool = authority()
        head, us = member(tmp_path / "head", pool), member(tmp_path / "us", pool)
        async with listening(says=SETTINGS_FRAME, context=head_context(head)) as address:
            await check_head(address, us.environment)

    async def test_a_head_of_another_pool_is_not_believed(self, tmp_path):
        head, us = member(tmp_path / "head", authority()), member(tmp_path / "us", authority())
        async with listening(says=SETTINGS_FRAME, context=head_context(head)) as address:
            assert await reason_of(address, us) == "not_the_pools"

    @pytest.mark.skipif(sys.platform == "darwin", reason="there 127.0.0.1 is the only loopback address")
    async def test_a_certificate_for_another_address_is_not_believed(self, tmp_path):
        """A member of the pool that stands where the head should."""
        pool = authority()
        head, us = member(tmp_path / "head", pool), member(tmp_path / "us", pool)
        # This machine too, and in nobody's certificate.
        async with listening(says=SETTINGS_FRAME, context=head_context(head), host="127.0.0.2") as address:
            assert await reason_of(address, us) == "not_the_pools"

    async def test_a_head_that_refuses_us_is_named_as_such(self, tmp_path):
        """It trusts another authority; with TLS 1.3 it says so only after the handshake."""
        pool = authority()
        head, us = member(tmp_path / "head", pool), member(tmp_path / "us", pool)
        stranger = member(tmp_path / "stranger", authority())
        context = head_context(head)
        trusting = head_context(stranger)
        trusting.load_cert_chain(
            head.environment["RAY_TLS_SERVER_CERT"], head.environment["RAY_TLS_SERVER_KEY"]
        )
        async with listening(says=SETTINGS_FRAME, context=trusting) as address:
            assert await reason_of(address, us) == "refused_us"
        async with listening(says=SETTINGS_FRAME, context=context) as address:
            await check_head(address, us.environment)

    async def test_an_expired_certificate_of_ours_is_refused(self, tmp_path):
        pool = authority()
        head, us = member(tmp_path / "head", pool), member(tmp_path / "us", pool, valid_s=-1.0)
        async with listening(says=SETTINGS_FRAME, context=head_context(head)) as address:
            assert await reason_of(address, us) == "refused_us"

    async def test_a_head_without_tls_is_named_as_such(self, tmp_path):
        us = member(tmp_path / "us", authority())
        async with listening(says=SETTINGS_FRAME) as address:
            assert await reason_of(address, us) == "plaintext"

    async def test_a_tls_server_that_is_no_grpc_is_named_as_such(self, tmp_path):
        pool = authority()
        head, us = member(tmp_path / "head", pool), member(tmp_path / "us", pool)
        async with listening(says=b"HTTP/1.1 400 Bad Request\r\n\r\n", context=head_context(head)) as address:
            assert await reason_of(address, us) == "plaintext"

    async def test_a_silent_head_is_given_up_in_time(self, tmp_path):
        us = member(tmp_path / "us", authority())
        began = time.monotonic()
        async with listening(says=None) as address:
            assert await reason_of(address, us, timeout_s=0.3) == "silent"
        assert time.monotonic() - began < 5

    async def test_nobody_there(self, tmp_path):
        us = member(tmp_path / "us", authority())
        async with listening(says=b"") as address:
            pass
        assert await reason_of(address, us) == "unreachable"

    @pytest.mark.parametrize("head", ["", "nonsense", "host:", ":6379", "host:port"])
    async def test_what_is_no_address(self, tmp_path, head):
        us = member(tmp_path / "us", authority())
        with pytest.raises(HeadProblem) as problem:
            await check_head(head, us.environment)
        assert problem.value.reason == "address"

    async def test_our_own_files_gone(self, tmp_path):
        us = member(tmp_path / "us", authority())
        (tmp_path / "us" / "member.crt").unlink()
        async with listening(says=None) as address:
            with pytest.raises(HeadProblem, match="own certificate"):
                await check_head(address, us.environment)
