"""Random numbers that depend on (seed, path, step, stream) alone, never on the number of threads.

xoroshiro128+ (Blackman & Vigna 2018, "Scrambled linear pseudorandom number generators"), seeded by
splitmix64. A generator is a uint64 array of length 2 that the kernels advance in place. Re-keying it at
every decision keeps two quoters on the same path paired although they consume different amounts.
"""

from __future__ import annotations

import math

import numpy as np

from bitquote.compilation import inlined, kernel

_TO_UNIT = 1.0 / 9007199254740992.0  # 2**-53


@inlined
def _mix(word):
    """splitmix64's output function (Steele, Lea & Flood 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@kernel
def seed_generator(generator, seed, path, step, stream):
    """Key `generator` (uint64[2]) by four integers; distinct keys give independent streams."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    word = _mix(np.uint64(seed) + golden)
    word = _mix(word ^ (np.uint64(path) + golden))
    word = _mix(word + np.uint64(step) * golden + golden)
    word = _mix(word ^ (np.uint64(stream) * np.uint64(0xD1B54A32D192ED03) + golden))
    generator[0] = _mix(word + golden)
    generator[1] = _mix(word + golden + golden) | np.uint64(1)  # the all-zero state is never reached


@inlined
def next_word(generator):
    """The next 64 random bits."""
    s0 = generator[0]
    s1 = generator[1]
    result = s0 + s1
    s1 ^= s0
    generator[0] = ((s0 << np.uint64(24)) | (s0 >> np.uint64(40))) ^ s1 ^ (s1 << np.uint64(16))
    generator[1] = (s1 << np.uint64(37)) | (s1 >> np.uint64(27))
    return result


@inlined
def unit(word):
    """64 random bits as a number uniform on [0, 1), of 53 bits."""
    return (word >> np.uint64(11)) * _TO_UNIT


@inlined
def uniform(generator):
    """Uniform on [0, 1)."""
    return unit(next_word(generator))


@inlined
def exponential(generator):
    """Exponential with mean 1."""
    return -math.log1p(-uniform(generator))


@kernel
def normal(generator):
    """Standard normal (Box & Muller 1958, one of the pair)."""
    return math.sqrt(2.0 * exponential(generator)) * math.cos(2.0 * math.pi * uniform(generator))
