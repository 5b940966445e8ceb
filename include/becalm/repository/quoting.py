"""Names as restic writes them: Go's quoted strings, so that a name of any bytes fits into JSON. Pure.

A name is held as text in which each byte that is not UTF-8 is a lone surrogate (`surrogateescape`), as Python's `os` gives it.
"""

from __future__ import annotations

import re

_NAMED = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\""}
_MEANING = {quoted[1]: ord(plain) for plain, quoted in _NAMED.items()}
_ESCAPE = re.compile(r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([abfnrtv\\"]))')


def to_bytes(name: str) -> bytes:
    """Return the bytes that a name stands for. Raises UnicodeEncodeError where it stands for none."""
    return name.encode("utf-8", "surrogateescape")


def from_bytes(raw: bytes) -> str:
    """Return the name that stands for these bytes."""
    return raw.decode("utf-8", "surrogateescape")


def quote(name: str) -> str:
    """Write a name with Go's escapes for quotes, backslashes, what cannot be printed, and bytes that are not UTF-8."""
    if name.isprintable() and '"' not in name and "\\" not in name:
        return name
    return "".join(map(_quote_character, name))


def _quote_character(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(quoted: str) -> str:
    """Read a name back. Raises ValueError where the text is not one that Go would have written."""
    if "\\" not in quoted:
        if '"' in quoted or "\n" in quoted:
            raise ValueError(f"{quoted!r} has a character that must be escaped")
        return quoted
    raw = bytearray()
    place = 0
    while place < len(quoted):
        stop = quoted.find("\\", place)
        if stop < 0:
            stop = len(quoted)
        plain = quoted[place:stop]
        if '"' in plain or "\n" in plain:
            raise ValueError(f"{quoted!r} has a character that must be escaped")
        raw += to_bytes(plain)
        place = stop
        if place < len(quoted):
            found = _ESCAPE.match(quoted, place)
            if found is None:
                raise ValueError(f"{quoted!r} has an unknown escape")
            raw += _unescape(found)
            place = found.end()
    return from_bytes(bytes(raw))


def _unescape(found: re.Match[str]) -> bytes:
    byte, short, long, octal, named = found.groups()
    if byte is not None:
        return bytes([int(byte, 16)])
    if octal is not None:
        if int(octal, 8) > 255:
            raise ValueError(f"\\{octal} is not a byte")
        return bytes([int(octal, 8)])
    if named is not None:
        return bytes([_MEANING[named]])
    code = int(short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError(f"{found.group()} is not a character")
    return chr(code).encode()
