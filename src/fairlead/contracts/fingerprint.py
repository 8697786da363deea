"""The published feature hash: anyone with the features and the contract id can recompute it.

    feature_hash = XXH3-128 in hexadecimal of  contract id (UTF-8) ‖ 0x00 ‖ MessagePack array of the row

The row holds the values after coercion and imputation, in contract order: floats as float 64, integers and
text in their shortest form, null as nil, lists as arrays. The same bytes are what the log stores.
"""

from __future__ import annotations

from typing import Any

import msgspec
import xxhash

__all__ = ["encode_row", "feature_hash"]

encode_row = msgspec.msgpack.Encoder().encode


def feature_hash(contract_id: str, encoded_row: bytes) -> str:
    """32 hexadecimal digits that name these features under this contract."""
    return xxhash.xxh3_128_hexdigest(contract_id.encode() + b"\x00" + encoded_row)


def decode_row(encoded_row: bytes) -> list[Any]:
    """The values of an encoded row."""
    values: list[Any] = msgspec.msgpack.decode(encoded_row)
    return values
