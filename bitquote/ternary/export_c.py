"""A ternary network as one C99 file that needs libm alone: integer hidden layers, constant weights, no allocation.

The file does what `kernels.quote_kernel` does, operation by operation, so that its integers and its quotes are equal in
every bit. Its hidden weights take two bits each: with AVX2 a load and four `pmaddubsw` serve 128 of them, without it
plain loops read the same words, which compilers turn into vectors. Nothing depends on whether a compiler fuses
multiplications with additions: a product that is added to is either exact or stored first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from bitquote.errors import InputError
from bitquote.ternary.kernels import LANES, NORM_EPSILON, ROW_EPSILON
from bitquote.ternary.policy import Policy

BLOCK = 64  # outputs that the file computes together
CHUNK = 128  # pairs of inputs whose products fit 16 bits
LINE = 116  # characters of numbers in a line


def export_c(policy: Policy, path: str | Path) -> None:
    """Write the C file of a ternary policy; its function is `<stem of the file's name>_quote`."""
    path = Path(path)
    if policy.architecture != "ternary":
        raise InputError(f"{path}: architecture is {policy.architecture!r}: must be 'ternary' to be exported to C")
    try:
        path.write_text(c_source(policy, path.stem), encoding="ascii")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def c_source(policy: Policy, name: str) -> str:
    """The text of the C file, with names that begin with `name`; what cannot be part of one becomes an underscore."""
    description = policy.description
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "policy"
    name = f"policy_{name}" if name[0].isdigit() else name
    widths = (policy.observation_size, *description.hidden)
    tensors = policy.tensors()
    layers = [tensors[f"hidden.{layer}.weight"] for layer in range(len(description.hidden))]
    head = np.zeros((2, _padded(widths[-1], LANES)), np.float32)
    head[:, : widths[-1]] = tensors["head.weight"]
    half_spread, skew = description.baseline_features()
    bias = tensors["head.bias"]
    return _SOURCE.substitute(
        name=name,
        macro=name.upper(),
        observation="\n".join(_features(policy)),
        metadata="".join(f" * {_comment(key)}: {_comment(value)}\n" for key, value in policy.metadata.items()),
        shape="-".join(map(str, (*widths, 2))),
        observation_size=widths[0],
        last=widths[-1],
        layers=len(layers),
        recorded=sum(a + b for a, b in pairwise(widths)),
        widths=", ".join(map(str, widths)),
        widest=max(_padded(width, BLOCK) for width in widths),
        block=BLOCK,
        chunk=CHUNK,
        lanes=LANES,
        norm_epsilon=float(NORM_EPSILON).hex(),
        row_epsilon=_single(ROW_EPSILON),
        per_row=int(description.input_quantisation == "per_row"),
        no_quote=_double(description.no_quote),
        no_quote_decimal=f"{description.no_quote:.9g}",
        half_spread=_double(description.base_half_spread) if half_spread < 0 else f"observation[{half_spread}]",
        skew="0.0" if skew < 0 else f"observation[{skew}]",
        half_spread_scale=_double(description.action_scale[0]),
        skew_scale=_double(description.action_scale[1]),
        half_spread_bias=_double(bias[0]),
        skew_bias=_double(bias[1]),
        ranges=_lines(map(_single, description.observation_ranges)),
        input_scales=_lines(map(_single, description.input_scales())),
        weights="\n".join(
            f"static const uint16_t weights_{layer}[] = {{ /* {inputs} inputs, {outputs} outputs */\n"
            f"{_lines(map(str, _words(trits).tolist()))}\n}};"
            for layer, (trits, (inputs, outputs)) in enumerate(zip(layers, pairwise(widths), strict=True))
        ),
        weight_names=", ".join(f"weights_{layer}" for layer in range(len(layers))),
        head_width=head.shape[1],
        head=_lines(map(_double, head.ravel())),
    )


def _features(policy: Policy) -> Iterable[str]:
    """A line for each feature: its place, its name and where it is clipped."""
    for place, (name, bound) in enumerate(zip(policy.observation_names, policy.observation_ranges, strict=True)):
        yield f" *   {place}: {_comment(name)} +-{bound:.9g}"


def _comment(value: Any) -> str:
    """JSON in ASCII on one line, in which nothing can end a comment, begin one or be a trigraph."""
    text = json.dumps(value, default=str, skipkeys=True)
    return re.sub(r"[*/?]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _words(trits: np.ndarray) -> np.ndarray:
    """int8 trits (outputs, inputs) of a layer -> the uint16 words of the file, as its own comment describes them."""
    outputs, inputs = trits.shape
    pairs, blocks = -(-inputs // 2), -(-outputs // BLOCK)
    codes = np.ones((blocks * BLOCK, 2 * pairs), np.uint16)
    codes[:outputs, :inputs] = trits + 1
    codes = codes.reshape(blocks, 4, 16, pairs, 2).transpose(3, 0, 2, 4, 1)  # (pairs, blocks, word, input, part)
    words = codes.reshape(pairs, blocks, 16, 8) @ (1 << np.arange(0, 16, 2)).astype(np.uint16)
    chunks = [words[first : first + CHUNK].transpose(1, 0, 2).ravel() for first in range(0, pairs, CHUNK)]
    return np.concatenate(chunks)


def _single(value: Any) -> str:
    """A float32 as C writes it, exactly."""
    return f"{_double(np.float32(value))}f"


def _double(value: Any) -> str:
    """A number as C writes it, exactly: in hexadecimal, without the zeros that Python appends."""
    return re.sub(r"\.?0*p", "p", float(value).hex())


def _lines(numbers: Iterable[str]) -> str:
    """Numbers with commas, in lines of bounded length."""
    lines: list[str] = [""]
    for number in numbers:
        if len(lines[-1]) + len(number) > LINE:
            lines.append("")
        lines[-1] += f"{number},"
    return "\n".join(lines)


def _padded(width: int, multiple: int) -> int:
    return -(-width // multiple) * multiple


_SOURCE = Template(r"""/* Quotes of the ternary network $shape, written by bitquote export.
 *
 *   void ${name}_quote(const double *observation, double *half_spread, double *skew);
 *
 * observation: ${macro}_OBSERVATION_SIZE numbers in physical units, in this order; the network sees each clipped.
$observation
 * half_spread, skew: (bid + ask) / 2 and (bid - ask) / 2 of the distances to quote at, in the market's units. A
 *   half_spread of ${macro}_NO_QUOTE or more means no quotes; so does an observation that holds a NaN or an infinity.
 *
$metadata *
 * Build: gcc -O2 -c $name.c (-O3 -mavx2 is faster), link with -lm. It needs nothing else, allocates nothing, keeps no
 *   state, and gives the bits of bitquote's own kernel on any compiler that follows IEEE 754 (no -ffast-math) in the
 *   default rounding, whether it fuses multiplications with additions or not.
 * Check: gcc -O2 -DBITQUOTE_MAIN $name.c -lm makes a program that reads observations from its input, as raw doubles,
 *   and writes half_spread and skew of each; with any argument, then also the integers into and out of each hidden
 *   layer, as raw int32.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || FLT_EVAL_METHOD != 0 \
    || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error "floats must follow IEEE 754, each in its own precision: no -ffast-math; on 32-bit x86 -msse2 -mfpmath=sse"
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#define ${macro}_OBSERVATION_SIZE $observation_size
#define ${macro}_NO_QUOTE $no_quote /* $no_quote_decimal */

void ${name}_quote(const double *observation, double *half_spread, double *skew);

enum {
    LAYERS = $layers,
    WIDEST = $widest,
    LAST = $last,
    HEAD = $head_width, /* LAST, padded with zeros */
    LANES = $lanes, /* partial sums of the head */
    BLOCK = $block, /* outputs that are computed together */
    CHUNK = $chunk, /* pairs of inputs whose products fit 16 bits */
    PER_ROW = $per_row /* whether the row of inputs is stretched to +-127 */
};

static const int32_t widths[LAYERS + 1] = {$widths};

static const float ranges[] = {
$ranges
};

static const float input_scales[] = { /* 127 / range */
$input_scales
};

static const double head[2 * HEAD] = {
$head
};

/* Of each hidden layer: chunks of CHUNK pairs of inputs, in them blocks of BLOCK outputs, in them the pairs, of which
 * each has 16 words. Bits 2k and 2k + 1 of word i are the weight + 1 of the first input to output 16k + i of the block,
 * bits 2k + 8 and 2k + 9 that of the second. */
$weights

static const uint16_t *const weights[LAYERS] = {$weight_names};

/* Nearest integer, ties to even; before SSE4.1 rintf would be a call. */
static inline int32_t nearest(float x)
{
#if defined(__SSE2__) && !defined(__SSE4_1__)
    return _mm_cvtss_si32(_mm_set_ss(x));
#else
    return (int32_t)rintf(x);
#endif
}

/* Add to sums the products of a chunk of x with its weights. Words wrap around in between; since they begin at minus
 * the sum of x, which takes off the 1 in each code, what they end at fits. */
static const uint16_t *add_chunk(const int8_t *x, const uint16_t *w, int pairs, int blocks, int32_t *restrict sums)
{
    int32_t total = 0;
    for (int i = 0; i < 2 * pairs; i++)
        total += x[i];
    for (int block = 0; block < blocks; block++, sums += BLOCK) {
        uint16_t words[BLOCK];
#ifdef __AVX2__
        const __m256i mask = _mm256_set1_epi8(3);
        __m256i a = _mm256_set1_epi16((int16_t)-total), b = a, c = a, d = a;
        for (int pair = 0; pair < pairs; pair++, w += 16) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)w);
            int16_t two;
            memcpy(&two, x + 2 * pair, sizeof two);
            const __m256i xs = _mm256_set1_epi16(two);
            a = _mm256_add_epi16(a, _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), xs));
            b = _mm256_add_epi16(b, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 2), mask), xs));
            c = _mm256_add_epi16(c, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), mask), xs));
            d = _mm256_add_epi16(d, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 6), mask), xs));
        }
        _mm256_storeu_si256((__m256i *)words, a);
        _mm256_storeu_si256((__m256i *)words + 1, b);
        _mm256_storeu_si256((__m256i *)words + 2, c);
        _mm256_storeu_si256((__m256i *)words + 3, d);
#else
        for (int i = 0; i < BLOCK; i++)
            words[i] = (uint16_t)-total;
        for (int pair = 0; pair < pairs; pair++, w += 16) {
            const uint16_t a = (uint16_t)x[2 * pair], b = (uint16_t)x[2 * pair + 1];
            for (int i = 0; i < 16; i++) {
                const uint16_t low = w[i], high = low >> 8;
                words[i] = (uint16_t)(words[i] + (low & 3u) * a + (high & 3u) * b);
                words[i + 16] = (uint16_t)(words[i + 16] + (low >> 2 & 3u) * a + (high >> 2 & 3u) * b);
                words[i + 32] = (uint16_t)(words[i + 32] + (low >> 4 & 3u) * a + (high >> 4 & 3u) * b);
                words[i + 48] = (uint16_t)(words[i + 48] + (low >> 6 & 3u) * a + (high >> 6 & 3u) * b);
            }
        }
#endif
        for (int i = 0; i < BLOCK; i++)
            sums[i] += (words[i] ^ 0x8000) - 0x8000;
    }
    return w;
}

/* x = rint(relu(sums) * (127 / max relu(sums))), integers from 0 to 127. */
static void requantize(int32_t *restrict sums, int blocks, int8_t *restrict x)
{
    int32_t largest = 1;
    for (int i = 0; i < BLOCK * blocks; i++) {
        sums[i] = sums[i] > 0 ? sums[i] : 0;
        largest = sums[i] > largest ? sums[i] : largest;
    }
    const float scale = 127.0f / (float)largest;
    for (int block = 0; block < blocks; block++, sums += BLOCK, x += BLOCK)
        for (int i = 0; i < BLOCK; i++)
            x[i] = (int8_t)nearest((float)sums[i] * scale);
}

/* A product, rounded before anything is added to it. */
static double multiply(double a, double b)
{
    volatile double product = a * b;
    return product;
}

/* Products with x are exact; element i goes to sum i modulo LANES, and these are added in halves. */
static double dot(const double *restrict x, const double *restrict w)
{
    double sums[LANES] = {0.0};
    for (int start = 0; start < HEAD; start += LANES)
        for (int i = 0; i < LANES; i++)
            sums[i] += x[start + i] * w[start + i];
    for (int i = 0; i < LANES / 2; i++)
        sums[i] += sums[i + LANES / 2];
    for (int i = 0; i < LANES / 4; i++)
        sums[i] += sums[i + LANES / 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

/* Writes half-spread and skew to quotes, unless they are not finite; unless record is null, the integers into and out
 * of each hidden layer go there. */
static void quote(const double *observation, double *quotes, int32_t *record)
{
    double clipped[${macro}_OBSERVATION_SIZE];
    float scaled[${macro}_OBSERVATION_SIZE];
    int8_t x[WIDEST] = {0};
    int32_t sums[WIDEST];
    int finite = 1;

    for (int i = 0; i < ${macro}_OBSERVATION_SIZE; i++) {
        const double bound = ranges[i], value = observation[i], raised = value > -bound ? value : -bound;
        clipped[i] = raised < bound ? raised : bound;
        finite &= fabs(value) <= DBL_MAX;
    }
    for (int i = 0; i < ${macro}_OBSERVATION_SIZE; i++)
        scaled[i] = (float)clipped[i] * input_scales[i];
    if (!finite)
        return;
    if (PER_ROW) {
        float largest = $row_epsilon;
        for (int i = 0; i < ${macro}_OBSERVATION_SIZE; i++)
            largest = fabsf(scaled[i]) > largest ? fabsf(scaled[i]) : largest;
        const float stretch = 127.0f / largest;
        for (int i = 0; i < ${macro}_OBSERVATION_SIZE; i++)
            scaled[i] *= stretch;
    }
    for (int i = 0; i < ${macro}_OBSERVATION_SIZE; i++)
        x[i] = (int8_t)nearest(scaled[i]);

    for (int layer = 0; layer < LAYERS; layer++) {
        const int inputs = widths[layer], outputs = widths[layer + 1];
        const int pairs = (inputs + 1) / 2, blocks = (outputs + BLOCK - 1) / BLOCK;
        const uint16_t *w = weights[layer];
        for (int i = 0; i < BLOCK * blocks; i++)
            sums[i] = 0;
        for (int start = 0; start < pairs; start += CHUNK)
            w = add_chunk(x + 2 * start, w, pairs - start < CHUNK ? pairs - start : CHUNK, blocks, sums);
        if (record) {
            for (int i = 0; i < inputs; i++)
                *record++ = x[i];
            for (int i = 0; i < outputs; i++)
                *record++ = sums[i];
        }
        requantize(sums, blocks, x);
    }

    double last[HEAD];
    for (int i = 0; i < HEAD; i++)
        last[i] = x[i];
    const double norm = 1.0 / sqrt(dot(last, last) / LAST + $norm_epsilon);
    double first = multiply(dot(last, head), norm) + $half_spread_bias;
    double second = multiply(dot(last, head + HEAD), norm) + $skew_bias;
    first = $half_spread + multiply($half_spread_scale, first);
    second = $skew + multiply($skew_scale, second);
    if (fabs(first) <= DBL_MAX && fabs(second) <= DBL_MAX) {
        quotes[0] = first;
        quotes[1] = second;
    }
}

void ${name}_quote(const double *observation, double *half_spread, double *skew)
{
    double quotes[2] = {${macro}_NO_QUOTE, 0.0};
    quote(observation, quotes, (int32_t *)0);
    *half_spread = quotes[0];
    *skew = quotes[1];
}

#ifdef BITQUOTE_MAIN
#include <stdio.h>

int main(int count, char **words)
{
    static double observation[${macro}_OBSERVATION_SIZE];
    size_t read;
    (void)words;
    while ((read = fread(observation, sizeof observation[0], ${macro}_OBSERVATION_SIZE, stdin)) > 0) {
        double quotes[2] = {${macro}_NO_QUOTE, 0.0};
        int32_t record[$recorded] = {0};
        if (read < ${macro}_OBSERVATION_SIZE) {
            fprintf(stderr, "the last observation is cut short\n");
            return 1;
        }
        quote(observation, quotes, count > 1 ? record : (int32_t *)0);
        fwrite(quotes, sizeof quotes, 1, stdout);
        if (count > 1)
            fwrite(record, sizeof record, 1, stdout);
    }
    return ferror(stdin) || fflush(stdout) || ferror(stdout);
}
#endif
""")
