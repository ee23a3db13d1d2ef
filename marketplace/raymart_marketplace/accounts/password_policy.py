"""Which passwords may be chosen: long enough, and none that a guesser tries first. No rules on kinds of characters.

`common_passwords.txt` holds the 5,000 most frequent ones of at least 8 characters in leaked sets, in NFKC and lower case;
source: zxcvbn's list (MIT). Source of the rules: NIST SP 800-63B, 5.1.1.2.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.passwords import LENGTH_MAX, LENGTH_MIN

SERVICE_WORDS = ("raymart",)
_TRIMMINGS = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_GUESSED = "the password is {why}, which is among the first that a guesser tries; choose another, such as four unrelated words"


def check_password(password: str, *, context: Sequence[str] = (), param: str = "password") -> None:
    """Refuse a password that is easy to guess; `context` holds words that belong to the person, as name and address.

    Raises: InvalidRequest naming `param`.
    """
    # Over-long text is refused before it is normalised: that takes time with its length.
    if (
        len(password) > 4 * LENGTH_MAX
        or not LENGTH_MIN <= len(unicodedata.normalize("NFKC", password)) <= LENGTH_MAX
    ):
        raise InvalidRequest(
            f"the password has {len(password)} characters; use {LENGTH_MIN} to {LENGTH_MAX}", param=param
        )
    folded = unicodedata.normalize("NFKC", password).casefold()
    why = _why_guessed(folded, context)
    if why is not None:
        raise InvalidRequest(_GUESSED.format(why=why), param=param)


def _why_guessed(folded: str, context: Sequence[str]) -> str | None:
    if folded in _common():
        return "a common one"
    if len(set(folded)) <= 2 or _is_sequence(folded):
        return "one character or a row of them"
    bare = _TRIMMINGS.sub("", folded)
    words = {word.casefold() for word in SERVICE_WORDS}
    words |= {part for text in context for part in re.split(r"[\W_]+", text.casefold()) if len(part) >= 4}
    words |= {text.casefold() for text in context}
    return "a name that belongs to you or to us" if bare in words or folded in words else None


def _is_sequence(text: str) -> bool:
    """Whether each character follows the one before by the same step: "abcdefgh", "98765432"."""
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return len(steps) == 1


@cache
def _common() -> frozenset[str]:
    return frozenset(
        Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    )
