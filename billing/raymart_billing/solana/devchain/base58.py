"""Base58 with Bitcoin's alphabet, for bytes of any length (keys and signatures have their own types)."""

from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {letter: digit for digit, letter in enumerate(_ALPHABET)}


def encode(content: bytes) -> str:
    """`content` as text; leading zero bytes become leading ones."""
    number = int.from_bytes(content, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    return "1" * (len(content) - len(content.lstrip(b"\0"))) + "".join(reversed(letters))


def decode(text: str) -> bytes:
    """The bytes of `text`. Raises: ValueError, for a letter outside the alphabet."""
    number = 0
    for letter in text:
        if letter not in _DIGITS:
            raise ValueError(f"{letter!r} is no base58 digit")
        number = number * 58 + _DIGITS[letter]
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return b"\0" * (len(text) - len(text.lstrip("1"))) + body
