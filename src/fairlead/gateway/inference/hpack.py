"""Header blocks of HTTP/2 as bytes and back (HPACK, RFC 7541).

Reading keeps the table that a connection's headers share. Writing needs none: what this server says is short.
"""

from __future__ import annotations

from collections import deque

__all__ = ["BrokenHeaders", "Header", "HeaderReader", "written"]

Header = tuple[bytes, bytes]

_TABLE_BYTES = 4_096
_ENTRY_BYTES = 32
"""What a header counts beside its own length, in the table and in the bound of a block."""
_MOST_INTEGER = 2**28

_NAMES = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|"
    ":status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|"
    "accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|"
    "access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|"
    "content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|"
    "if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|"
    "proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
    "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
_STATIC: tuple[Header, ...] = tuple(
    (name.encode(), value.encode()) for name, _, value in (line.partition(" ") for line in _NAMES.split("|"))
)

# The lengths of the 257 Huffman codes in bits, a letter each ("a" is 5). Codes of one length follow each
# other in the order of their symbols, so that lengths are all there is to know.
_CODE_BITS = (
    "isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibccccccccccccccccccccccdcdioijbkaba"
    "babbbaccbbbabcbaabccccckgjixprpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsru"
    "vvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwvz"
)


class BrokenHeaders(Exception):
    """A header block that cannot be read, or is too large; the connection cannot go on."""


class HeaderReader:
    """Reads the header blocks of one connection, in their order. A block may count `most` bytes.

    `changes` tells whether a block changed the table: one that did not means the same until another does.
    `size` is what the last block counted.
    """

    __slots__ = ("_entries", "_limit", "_most", "_size", "changes", "size")

    def __init__(self, most: int) -> None:
        self._entries: deque[Header] = deque()
        self._size = 0
        self._limit = _TABLE_BYTES
        self._most = most
        self.changes = self.size = 0

    def read(self, block: bytes) -> list[Header]:
        """The headers of a block; raises `BrokenHeaders`."""
        try:
            return self._read(block)
        except IndexError:
            raise BrokenHeaders("A header block ends too early, or names what is not there.") from None

    def _read(self, block: bytes) -> list[Header]:
        found: list[Header] = []
        size = place = 0
        while place < len(block):
            first = block[place]
            if first >= 0x80:
                index, place = _integer(block, place, 0x7F)
                header = self._at(index)
            elif first >= 0x40:
                header, place = self._literal(block, place, 0x3F)
                self._insert(header)
            elif first >= 0x20:
                limit, place = _integer(block, place, 0x1F)
                if found or limit > _TABLE_BYTES:
                    raise BrokenHeaders("The table of headers is resized where it may not be.")
                self._limit = limit
                self._shrink(limit)
                continue
            else:
                header, place = self._literal(block, place, 0x0F)
            size += len(header[0]) + len(header[1]) + _ENTRY_BYTES
            if size > self._most:
                raise BrokenHeaders("The headers are too large.")
            found.append(header)
        self.size = size
        return found

    def _literal(self, block: bytes, place: int, mask: int) -> tuple[Header, int]:
        index, place = _integer(block, place, mask)
        if index:
            name = self._at(index)[0]
        else:
            name, place = _text(block, place)
        value, place = _text(block, place)
        return (name, value), place

    def _at(self, index: int) -> Header:
        if not index:
            raise BrokenHeaders("There is no header 0.")
        return _STATIC[index - 1] if index <= len(_STATIC) else self._entries[index - len(_STATIC) - 1]

    def _insert(self, header: Header) -> None:
        size = len(header[0]) + len(header[1]) + _ENTRY_BYTES
        self._shrink(self._limit - size)
        if size <= self._limit:
            self._entries.appendleft(header)
            self._size += size

    def _shrink(self, size: int) -> None:
        """Forgets the oldest entries until the others take no more than that."""
        self.changes += 1
        while self._entries and self._size > size:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _ENTRY_BYTES


def written(*headers: Header) -> bytes:
    """A block of these headers that leaves the reader's table as it is."""
    parts = []
    for header in headers:
        if header in _STATIC:
            parts.append(bytes((0x80 | _STATIC.index(header) + 1,)))
        else:
            parts.append(b"\0")
            for text in header:
                parts += [_prefixed(len(text), 0x7F), text]
    return b"".join(parts)


def _prefixed(value: int, mask: int) -> bytes:
    if value < mask:
        return bytes((value,))
    made = bytearray((mask,))
    value -= mask
    while value >= 0x80:
        made.append(0x80 | value & 0x7F)
        value >>= 7
    made.append(value)
    return bytes(made)


def _integer(block: bytes, place: int, mask: int) -> tuple[int, int]:
    value = block[place] & mask
    place += 1
    if value < mask:
        return value, place
    shift = 0
    while True:
        byte = block[place]
        place += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
        if value > _MOST_INTEGER or shift > 28:
            raise BrokenHeaders("A number in a header block is too large.")


def _text(block: bytes, place: int) -> tuple[bytes, int]:
    is_huffman = block[place] >= 0x80
    length, place = _integer(block, place, 0x7F)
    end = place + length
    if end > len(block):
        raise BrokenHeaders("A header block ends too early.")
    raw = block[place:end]
    return (_unpacked(raw) if is_huffman else raw), end


def _tree() -> list[list[int]]:
    """Where a bit leads from each place within a code (0: before one): to another place, or to a letter,
    which is the complement of its symbol."""
    bits = [ord(letter) - ord("a") + 5 for letter in _CODE_BITS]
    tree = [[0, 0]]
    code = length = 0
    for symbol in sorted(range(len(bits)), key=lambda symbol: (bits[symbol], symbol)):
        code <<= bits[symbol] - length
        length = bits[symbol]
        place = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not tree[place][bit]:
                tree[place][bit] = len(tree)
                tree.append([0, 0])
            place = tree[place][bit]
        tree[place][code & 1] = ~symbol
        code += 1
    return tree


def _steps() -> tuple[list[int], list[bytes], set[int]]:
    """What four bits at a time lead to, from 16 times each place: 16 times the next place, and the letter
    that they end, if any; and 16 times the places where a text may end: within at most seven ones.

    The end symbol, which no text may hold, leads to a place that nothing leads away from.
    """
    tree = _tree()
    nowhere = len(tree)
    places: list[int] = []
    letters: list[bytes] = []
    for start in range(nowhere):
        for nibble in range(16):
            place, letter = start, b""
            for shift in (3, 2, 1, 0):
                place = tree[place][nibble >> shift & 1]
                if place == ~_END:
                    place = nowhere
                    break
                if place < 0:
                    place, letter = 0, bytes((~place,))
            places.append(16 * place)
            letters.append(letter)
    padding = {0}
    place = 0
    for _ in range(7):
        place = tree[place][1]
        padding.add(16 * place)
    return places + 16 * [16 * nowhere], letters + 16 * [b""], padding


_END = 256
_PLACES, _LETTERS, _PADDING = _steps()


def _unpacked(raw: bytes) -> bytes:
    """The text of a Huffman code."""
    made = bytearray()
    place = 0
    for byte in raw:
        place += byte >> 4
        made += _LETTERS[place]
        place = _PLACES[place] + (byte & 15)
        made += _LETTERS[place]
        place = _PLACES[place]
    if place not in _PADDING:
        raise BrokenHeaders("A header's text is no whole text.")
    return bytes(made)
