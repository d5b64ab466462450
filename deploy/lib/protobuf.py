"""The wire format of protocol buffers, as far as ONNX files need it: fields by number, in order, undecoded.

A message is a list of (field number, value); a value is an int (varint) or bytes (length-delimited: strings, bytes and
messages). Source: https://protobuf.dev/programming-guides/encoding/
"""

import struct


def parse(data):
    """The fields of a message. Fixed-width fields are not supported: the messages edited here have none."""
    fields, at = [], 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _read_varint(data, at)
        elif kind == 2:
            length, at = _read_varint(data, at)
            value, at = bytes(data[at : at + length]), at + length
        else:
            raise ValueError(f"field {number}: wire type {kind} is not expected here")
        fields.append((number, value))
    return fields


def encode(fields):
    """The bytes of a message; a str is UTF-8, a float has 32 bits, and a list is a message of its own."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, float):
            out += _varint(number << 3 | 5) + struct.pack("<f", value)
            continue
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
            continue
        if isinstance(value, list):
            value = encode(value)
        elif isinstance(value, str):
            value = value.encode()
        out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def first(fields, number, default=None):
    """The first value of a field."""
    return next((value for key, value in fields if key == number), default)


def every(fields, number):
    """All values of a repeated field."""
    return [value for key, value in fields if key == number]


def _read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
