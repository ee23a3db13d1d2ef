"""The text of a PDF that Typst wrote, by its fonts' own maps; and where its ink ends. For checks of what a page says.

Source: ISO 32000-1, 9.4 (text objects) and 9.10.3 (ToUnicode CMaps).
"""

import re
import zlib

OBJECT = re.compile(rb"(?:^|\n)(\d+) 0 obj\s*(.*?)\s*endobj", re.DOTALL)
FONT = re.compile(rb"/(f\d+) (\d+) 0 R")
SHOWN = re.compile(rb"/(f\d+) [\d.]+ Tf|(<[0-9A-Fa-f]*>)|\(")
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
PAIR = re.compile(rb"<([0-9A-Fa-f]+)> <([0-9A-Fa-f]+)>\n")
RANGE = re.compile(rb"<([0-9A-Fa-f]+)> <([0-9A-Fa-f]+)> <([0-9A-Fa-f]+)>")


def text_of(pdf: bytes) -> str:
    """All of it, without its blanks: lines are broken where the page is."""
    objects = {int(found[1]): found[2] for found in OBJECT.finditer(pdf)}
    said = []
    for page in (body for body in objects.values() if b"/Type/Page/" in body or b"/Contents" in body):
        resources = objects[_number(rb"/Resources (\d+)", page)]
        maps = {name: _glyphs(objects, int(number)) for name, number in FONT.findall(resources)}
        said.append(_shown(_stream(objects[_number(rb"/Contents (\d+)", page)]), maps))
    return "".join(said)


def _number(pattern: bytes, body: bytes) -> int:
    found = re.search(pattern, body)
    assert found is not None, f"no {pattern!r} in {body[:100]!r}"
    return int(found[1])


def _shown(stream: bytes, maps: dict[bytes, dict[int, str]]) -> str:
    glyphs, said, at = {}, [], 0
    while found := SHOWN.search(stream, at):
        at = found.end()
        if found[1]:
            glyphs = maps[found[1]]
            continue
        codes, at = (bytes.fromhex(found[2][1:-1].decode()), at) if found[2] else _literal(stream, at)
        said += [glyphs.get(int.from_bytes(codes[i : i + 2]), "") for i in range(0, len(codes), 2)]
    return "".join("".join(said).replace("\u200b", "").split())


def _literal(stream: bytes, at: int) -> tuple[bytes, int]:
    """A string in parentheses, which may nest, from behind the first; and where it ends."""
    codes, depth = bytearray(), 1
    while True:
        byte, at = stream[at : at + 1], at + 1
        if byte == b"\\":
            escaped = re.compile(rb"[0-7]{1,3}|.", re.DOTALL).match(stream, at)[0]
            at += len(escaped)
            codes += bytes([int(escaped, 8)]) if escaped[:1].isdigit() else ESCAPES.get(escaped, escaped)
            continue
        depth += (byte == b"(") - (byte == b")")
        if not depth:
            return bytes(codes), at
        codes += byte


def _glyphs(objects: dict[int, bytes], font: int) -> dict[int, str]:
    cmap = _stream(objects[_number(rb"/ToUnicode (\d+)", objects[font])])
    glyphs = {}
    for section in re.findall(rb"beginbfchar\n(.*?)endbfchar", cmap, re.DOTALL):
        for code, text in PAIR.findall(section):
            glyphs[int(code, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    for section in re.findall(rb"beginbfrange\n(.*?)endbfrange", cmap, re.DOTALL):
        for first, last, text in RANGE.findall(section):
            start = int.from_bytes(bytes.fromhex(text.decode()))
            for offset in range(int(last, 16) - int(first, 16) + 1):
                glyphs[int(first, 16) + offset] = chr(start + offset)
    return glyphs


def _stream(body: bytes) -> bytes:
    return zlib.decompress(body.split(b"stream", 1)[1].lstrip(b"\r\n").rsplit(b"endstream", 1)[0])
