"""E-mail addresses: the form that we accept and store."""

import re

from raymart_core.errors import InvalidRequest

EMAIL_CHARACTERS_MAX = 254
"""Source: RFC 5321, 4.5.3.1.3: a path has 256 octets, two of them its angle brackets."""

# Source: the HTML standard's pattern for <input type=email>, in lower case and with at least one dot in the domain.
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
    re.ASCII,
)


def normal_email(text: str) -> str:
    """`text` without surrounding blanks, in lower case: one account per address, however it is typed.

    Raises: InvalidRequest when it is no address. International addresses are given in their ASCII form.
    """
    email = text.strip().lower()
    # ASCII before it is lowered: the Kelvin sign's lower case is "k", and would make another address one's own.
    if not text.isascii() or len(email) > EMAIL_CHARACTERS_MAX or _EMAIL.fullmatch(email) is None:
        raise InvalidRequest(
            f"{text[:EMAIL_CHARACTERS_MAX]!r} is not an e-mail address such as 'name@example.com'",
            param="email",
        )
    return email
