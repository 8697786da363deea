"""Requests that are up to no good, by what is wrong with them, and odd ones that are allowed."""

from tests.gateway.plain_server import chunked, get, post

SMUGGLED = get("/smuggled", "Connection: close")
CHUNKED = b"Transfer-Encoding: chunked"
IDENTITY = b"Transfer-Encoding: identity"
END = b"0\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST /a HTTP/1.1") -> bytes:
    return b"\r\n".join((start, b"Host: h", *lines)) + b"\r\n\r\n"


def coding(value: bytes) -> bytes:
    return head(b"Transfer-Encoding: " + value) + END


def length(value: bytes) -> bytes:
    return head(b"Content-Length: " + value) + b"hello"


REFUSED = {
    # what llhttp accepts and we do not
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two equal hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "HTTP/1.0 with two hosts": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "HTTP/0.9 by name": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0 line": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/1.0 with a transfer coding": head(CHUNKED, start=b"POST /a HTTP/1.0") + END,
    "absolute target": b"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "target of another host": b"GET http://evil/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a fragment after a query": b"GET /a?b#c HTTP/1.1\r\nHost: h\r\n\r\n",
    "upgrade to h2c": head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", start=b"GET / HTTP/1.1"),
    "upgrade with a body": head(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 0") + SMUGGLED,
    "websocket": head(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.1"),
    # transfer codings
    "another coding": coding(b"gzip"),
    "gzip, chunked": coding(b"gzip, chunked"),
    "chunked, gzip": coding(b"chunked, gzip"),
    "chunked twice in a line": coding(b"chunked, chunked"),
    "xchunked": coding(b"xchunked"),
    "chunked with a blank behind": coding(b"chunked "),
    "chunked with a tab behind": coding(b"chunked\t"),
    "a vertical tab before chunked": coding(b"\x0bchunked"),
    "chunked in quotes": coding(b'"chunked"'),
    "chunked with a parameter": coding(b"chunked;q=1"),
    "an empty item before chunked": coding(b", chunked"),
    "identity": coding(b"identity"),
    "no coding": coding(b""),
    "chunked twice": head(CHUNKED, CHUNKED) + END,
    "chunked, then identity": head(CHUNKED, IDENTITY) + END,
    "identity, then chunked": head(IDENTITY, CHUNKED) + END,
    "coding on a folded line": head(b"Transfer-Encoding:\r\n chunked") + END,
    "coding with a blank before the colon": head(b"Transfer-Encoding : chunked") + END,
    "length, then coding": head(b"Content-Length: 5", CHUNKED) + END + SMUGGLED,
    "coding, then length": head(CHUNKED, b"Content-Length: 5") + END + SMUGGLED,
    "coding, then a length of 0": head(CHUNKED, b"Content-Length: 0") + SMUGGLED,
    # chunks
    "chunk size in C notation": head(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size with a sign": head(CHUNKED) + b"+3\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": head(CHUNKED) + b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size with a blank": head(CHUNKED) + b"3 \r\nabc\r\n0\r\n\r\n",
    "chunk size of 17 digits": head(CHUNKED) + b"f" * 17 + b"\r\nabc",
    "no chunk size": head(CHUNKED) + b"\r\nabc\r\n0\r\n\r\n",
    "chunk longer than it says": head(CHUNKED) + b"3\r\nabcd\r\n0\r\n\r\n",
    "bare LF after a chunk size": head(CHUNKED) + b"3\nabc\r\n0\r\n\r\n",
    "bare LF in a chunk extension": head(CHUNKED) + b"3;\nabc\r\n0\r\n\r\n",
    "bare CR in a chunk extension": head(CHUNKED) + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a length in a trailer": chunked("/a", [b"abc"], "Content-Length: 9\r\n"),
    "a coding in a trailer": chunked("/a", [b"abc"], "Transfer-Encoding: gzip\r\n"),
    "NUL in a trailer": chunked("/a", [b"abc"], "X: a\0b\r\n"),
    # lengths
    "length with a sign": length(b"+5"),
    "negative length": length(b"-5"),
    "list of lengths": length(b"5, 5"),
    "two numbers as length": length(b"5 5"),
    "hexadecimal length": length(b"0x5"),
    "length with an exponent": length(b"1e1"),
    "empty length": length(b""),
    "length of 2^64": length(b"18446744073709551616"),
    "length with 30 digits": length(b"9" * 30),
    "two lengths": head(b"Content-Length: 1", b"Content-Length: 2") + b"ab",
    "two equal lengths": head(b"Content-Length: 5", b"Content-Length: 5") + b"hello",
    # lines and names
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    "blank before the first header": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: h\r\nabc\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: h\n\n",
    "bare LF between headers": b"GET / HTTP/1.1\r\nHost: h\nX: b\r\n\r\n",
    "bare CR between headers": b"GET / HTTP/1.1\r\nHost: h\rX: b\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: h\r\nX\0: b\r\n\r\n",
    "control character in a header": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01b\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n",
    "target without a slash": b"GET ?a HTTP/1.1\r\nHost: h\r\n\r\n",
    "tab after the method": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "method in small letters": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "protocol in small letters": b"GET / http/1.1\r\nHost: h\r\n\r\n",
    "version with three digits": b"GET / HTTP/1.01\r\nHost: h\r\n\r\n",
    "blank after the version": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "unknown method": b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method for mail": b"HELO h\r\nMAIL FROM:<a@b>\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip

TOO_LARGE = {
    "body by its length": head(b"Content-Length: 2001"),
    "body by a length with a blank behind": head(b"Content-Length: 2001 "),
    "body by a length with zeros before": head(b"Content-Length: 0000000000002001"),
    "body of 2^64 - 1": head(b"Content-Length: 18446744073709551615"),
    "body in a chunk": head(CHUNKED) + b"7d1\r\n" + b"x" * 2001,
    "body in many chunks": chunked("/a", [b"x" * 10] * 201),
    "body whose sender waits for leave": head(b"Content-Length: 2001", b"Expect: 100-continue"),
    "target": b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 1100 + b"\r\n\r\n",
    "name of a header": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X" * 1100 + b": a\r\n\r\n",
    "the same header often": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: 1234567\r\n" * 130 + b"\r\n",
    "101 headers": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"%d: \r\n" % n for n in range(100)) + b"\r\n",
    "101 lines of one header": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    "trailers": chunked("/a", [b"abc"], "X: 1234567\r\n" * 130),
    "101 trailers": chunked("/a", [b"abc"], "a: b\r\n" * 101),
}  # fmt: skip

TAKEN = {
    "leading zeros of a length": (length(b"00005"), b"/a hello"),
    "blank after a length": (length(b"5 "), b"/a hello"),
    "tab before chunked": (coding(b"\tchunked"), b"/a "),
    "chunked in capitals": (coding(b"CHUNKED"), b"/a "),
    "chunk extensions": (
        head(CHUNKED) + b'3;a=b;c="d"\r\nabc\r\n0;x\r\n\r\n',
        b"/a abc",
    ),
    "zeros before a chunk size": (
        head(CHUNKED) + b"0" * 30 + b"3\r\nabc\r\n0\r\n\r\n",
        b"/a abc",
    ),
    "a query": (b"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", b"/a "),
    "empty lines before": (b"\r\n\r\n" + get("/a"), b"/a "),
    "an upgrade that is not asked for": (get("/a", "Upgrade: h2c"), b"/a "),
    "no host in HTTP/1.0": (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"/a "),
    "another expectation": (post("/a", b"x", "Expect: a-miracle"), b"/a x"),
    "bytes beyond ASCII in a header": (b"GET /a HTTP/1.1\r\nHost: h\r\nX: \xff\xfe\r\n\r\n", b"/a "),
    "100 headers": (get("/a", *(f"a{n}: " for n in range(99))), b"/a "),
    "a body of the largest size": (post("/a", b"x" * 2000), b"/a " + b"x" * 2000),
    "a body that looks like a request": (post("/a", SMUGGLED), b"/a " + SMUGGLED),
    "a chunk that looks like a request": (chunked("/a", [SMUGGLED]), b"/a " + SMUGGLED),
    "a GET with a body that looks like one": (
        get("/a", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,
        b"/a " + SMUGGLED,
    ),
    "trailers that look like a head": (
        chunked("/a", [b"abc"], "Host: evil\r\nX-Unit: evil\r\nExpect: x\r\n"),
        b"/a abc",
    ),
}
