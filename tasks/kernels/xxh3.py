"""xxh3-64 of many byte strings at once, compiled: what `xxhash.xxh3_64_intdigest` gives for each of them.

Source: xxHash's specification and reference implementation (xxhash.h 0.8), seed 0 and the default secret. The secret is
read once into words at every byte, so that a key is one load wherever in the secret it begins.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SPARE = 8  # bytes behind the last string that must be there, whatever they are

_SECRET_BYTES = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_SECRET = np.array([int.from_bytes(_SECRET_BYTES[at : at + 8], "little") for at in range(185)], np.uint64)
_PRIMES32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_PRIMES64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_A1, _A2, _A3 = (np.uint64(prime) for prime in _PRIMES32)
_P1, _P2, _P3, _P4, _P5 = (np.uint64(prime) for prime in _PRIMES64)
_MIX = np.uint64(0x165667919E3779F9)
_RRMXMX = np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)
_STRIPES = 16  # of 64 bytes, in a block


@intrinsic  # type: ignore[untyped-decorator]
def _load64(context: Any, data: Any, at: Any) -> Any:
    """8 bytes of an array, little endian, at any byte (as in `tokens.py`; a kernel calls nothing of another module)."""
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(address)
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@compiled
def _fold(left: np.uint64, right: np.uint64) -> np.uint64:
    """The two halves of the 128-bit product, one over the other."""
    half = np.uint64(32)
    a, b, c, d = left & _LOW, left >> half, right & _LOW, right >> half
    low, cross = a * c, b * c
    middle = (low >> half) + (cross & _LOW) + a * d
    return ((middle << half) | (low & _LOW)) ^ ((cross >> half) + (middle >> half) + b * d)


@compiled
def _avalanche(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(37))) * _MIX
    return value ^ (value >> np.uint64(32))


@compiled
def _avalanche64(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


@compiled
def _swapped(value: np.uint64) -> np.uint64:
    """The bytes in the other order."""
    out = np.uint64(0)
    for byte in range(8):
        out = out << np.uint64(8) | (value >> np.uint64(8 * byte) & np.uint64(0xFF))
    return out


@compiled
def _mix16(data: Bytes, at: int, key: int) -> np.uint64:
    return _fold(_load64(data, at) ^ _SECRET[key], _load64(data, at + 8) ^ _SECRET[key + 8])


@compiled
def _short(data: Bytes, at: int, length: int) -> np.uint64:
    """Of at most 16 bytes."""
    size = np.uint64(length)
    if length > 8:
        low = _load64(data, at) ^ _SECRET[24] ^ _SECRET[32]
        high = _load64(data, at + length - 8) ^ _SECRET[40] ^ _SECRET[48]
        return _avalanche(size + _swapped(low) + high + _fold(low, high))
    if length > 3:
        first, last = _load64(data, at) & _LOW, _load64(data, at + length - 4) & _LOW
        value: np.uint64 = (last + (first << np.uint64(32))) ^ _SECRET[8] ^ _SECRET[16]
        value ^= (value << np.uint64(49) | value >> np.uint64(15)) ^ (value << np.uint64(24) | value >> np.uint64(40))
        value *= _RRMXMX
        value = (value ^ ((value >> np.uint64(35)) + size)) * _RRMXMX
        return value ^ (value >> np.uint64(28))
    if length > 0:
        one, two, three = np.uint64(data[at]), np.uint64(data[at + (length >> 1)]), np.uint64(data[at + length - 1])
        joined = one << np.uint64(16) | two << np.uint64(24) | three | size << np.uint64(8)
        return _avalanche64(joined ^ ((_SECRET[0] ^ _SECRET[4]) & _LOW))
    return _avalanche64(_SECRET[56] ^ _SECRET[64])


@compiled
def _middling(data: Bytes, at: int, length: int) -> np.uint64:
    """Of 17 to 240 bytes."""
    value = np.uint64(length) * _P1
    end = at + length
    if length <= 128:
        for pair in range((length - 1) // 32, -1, -1):
            value += _mix16(data, at + 16 * pair, 32 * pair) + _mix16(data, end - 16 * (pair + 1), 32 * pair + 16)
        return _avalanche(value)
    for part in range(8):
        value += _mix16(data, at + 16 * part, 16 * part)
    value = _avalanche(value)
    for part in range(8, length // 16):
        value += _mix16(data, at + 16 * part, 16 * (part - 8) + 3)
    return _avalanche(value + _mix16(data, end - 16, 119))


@compiled
def _stripe(data: Bytes, at: int, key: int, lanes: Hashes) -> None:
    for lane in range(0, 8, 2):
        one, two = _load64(data, at + 8 * lane), _load64(data, at + 8 * lane + 8)
        keyed, other = one ^ _SECRET[key + 8 * lane], two ^ _SECRET[key + 8 * lane + 8]
        lanes[lane] += two + (keyed & _LOW) * (keyed >> np.uint64(32))
        lanes[lane + 1] += one + (other & _LOW) * (other >> np.uint64(32))


@compiled
def _long(data: Bytes, at: int, length: int, lanes: Hashes) -> np.uint64:
    """Of more than 240 bytes; `lanes` (8) is room to work in."""
    lanes[0], lanes[1], lanes[2], lanes[3] = _A3, _P1, _P2, _P3
    lanes[4], lanes[5], lanes[6], lanes[7] = _P4, _A2, _P5, _A1
    whole = (length - 1) // 64  # stripes before the last, which ends with the data
    for stripe in range(whole):
        _stripe(data, at + 64 * stripe, 8 * (stripe % _STRIPES), lanes)
        if stripe % _STRIPES == _STRIPES - 1:
            for lane in range(8):
                value = lanes[lane]
                lanes[lane] = (value ^ (value >> np.uint64(47)) ^ _SECRET[128 + 8 * lane]) * _A1
    _stripe(data, at + length - 64, 121, lanes)
    value = np.uint64(length) * _P1
    for pair in range(4):
        key = 11 + 16 * pair
        value += _fold(lanes[2 * pair] ^ _SECRET[key], lanes[2 * pair + 1] ^ _SECRET[key + 8])
    return _avalanche(value)


@compiled
def hashes(data: Bytes, offsets: Offsets, out: Hashes) -> None:
    """xxh3-64 of data[offsets[i]:offsets[i + 1]] for each i, into `out`; `SPARE` more bytes must follow the last."""
    lanes = np.empty(8, np.uint64)
    for i in range(out.size):
        at, length = offsets[i], offsets[i + 1] - offsets[i]
        if length > 240:
            out[i] = _long(data, at, length, lanes)
        elif length > 16:
            out[i] = _middling(data, at, length)
        else:
            out[i] = _short(data, at, length)


@compiled
def hexadecimal(values: Hashes, out: Bytes) -> None:
    """Each value as 16 hex digits, big end first, one after the other."""
    for i in range(values.size):
        value = values[i]
        for digit in range(16):
            four = value >> np.uint64(60 - 4 * digit) & np.uint64(15)
            out[16 * i + digit] = np.uint8(four + np.uint64(48 if four < 10 else 87))
