import json
import os
from pathlib import Path

import pytest
from solders.keypair import Keypair

from raymart_billing.solana.errors import SignerMisconfigured
from raymart_billing.solana.signing import KeypairFileSigner

KEY = Keypair.from_seed(bytes(range(32)))  # One: it is in names of tests.
NUMBERS = list(bytes(KEY))


def key_file(folder: Path, content: str = json.dumps(NUMBERS), *, mode: int = 0o600) -> Path:
    path = folder / "treasury.json"
    path.write_text(content)
    path.chmod(mode)
    return path


class TestOpen:
    @pytest.mark.parametrize("mode", [0o600, 0o400])
    async def test_the_owners_file_signs(self, tmp_path: Path, mode: int) -> None:
        signer = KeypairFileSigner.open(key_file(tmp_path, mode=mode))
        assert signer.address == KEY.pubkey()
        assert (await signer.sign(b"message")).verify(KEY.pubkey(), b"message")
        await signer.aclose()

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700, 0o601, 0o620])
    def test_a_file_that_others_may_touch_is_refused_with_what_to_do(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(SignerMisconfigured, match=rf"mode {mode:04o}.*chmod 0600"):
            KeypairFileSigner.open(key_file(tmp_path, mode=mode))

    def test_a_file_of_another_user_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = key_file(tmp_path)
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        with pytest.raises(
            SignerMisconfigured, match=rf"belongs to user {owner} and this process runs as {owner + 1}"
        ):
            KeypairFileSigner.open(path)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(key_file(tmp_path))
        with pytest.raises(SignerMisconfigured, match="not a link"):
            KeypairFileSigner.open(link)

    def test_what_is_no_file_is_refused_at_once(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe, 0o600)
        for path in (pipe, tmp_path):
            with pytest.raises(SignerMisconfigured, match="no regular file"):
                KeypairFileSigner.open(path)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SignerMisconfigured, match="No such file"):
            KeypairFileSigner.open(tmp_path / "nowhere.json")

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[",
            "{}",
            "[1, 2, 3]",
            json.dumps(NUMBERS[:63]),
            json.dumps([*NUMBERS, 1]),
            json.dumps([*NUMBERS[:32], *bytes(Keypair.from_seed(bytes(32)).pubkey())]),
            json.dumps([300, *NUMBERS[1:]]),
            json.dumps([-1, *NUMBERS[1:]]),
            json.dumps(["1", *NUMBERS[1:]]),
            json.dumps(NUMBERS) + "x" * 5_000,
            str(KEY),
        ],
    )
    def test_what_is_no_key_is_refused_without_telling_of_it(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(SignerMisconfigured, match="JSON array of the 64 numbers") as refused:
            KeypairFileSigner.open(key_file(tmp_path, content))
        assert refused.value.__cause__ is None
        assert json.dumps(NUMBERS[:4])[1:-1] not in refused.value.message
