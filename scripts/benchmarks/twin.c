/* What a careful programmer would write by hand in C with AVX2: the yardstick of `bitquote.ternary.kernels`.
 *
 * It reads the very arrays of `Policy.arguments` on the path "avx2", and gives the same quotes to the last bit.
 * Ternary networks with a constant baseline and inputs quantised per feature.
 *
 *     gcc -O3 -mavx2 -ffp-contract=off -shared -fPIC twin.c -o twin.so -lm
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

enum { WORDS = 5, CONSTANTS = 6, BLOCK = 64, CHUNK = 128, LANES = 16, LARGEST_BYTES = 1 << 14, WIDEST = 4096 + 64 };

static long padded(long width, long multiple) { return (width + multiple - 1) / multiple * multiple; }

static __m256i step(__m256i sum, __m256i weights, __m256i pair) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, pair));
}

static void put(int32_t *at, __m256i words, int first) {
    __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(words));
    __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(words, 1));
    if (!first) {
        low = _mm256_add_epi32(low, _mm256_loadu_si256((const __m256i *)at));
        high = _mm256_add_epi32(high, _mm256_loadu_si256((const __m256i *)(at + 8)));
    }
    _mm256_storeu_si256((__m256i *)at, low);
    _mm256_storeu_si256((__m256i *)(at + 8), high);
}

static __m256i load(const int8_t *at) { return _mm256_loadu_si256((const __m256i *)at); }

/* accumulators (outputs,) = weights @ activations (inputs,); both sizes padded. Returns the end of the weights. */
const int8_t *accumulate(const int8_t *x, const int8_t *w, long inputs, long outputs, int32_t *accumulators) {
    const __m256i three = _mm256_set1_epi8(3);
    long pairs = inputs / 2, bytes = inputs * outputs <= LARGEST_BYTES;
    for (long first = 0; first < pairs; first += CHUNK) {
        long last = first + CHUNK < pairs ? first + CHUNK : pairs;
        int total = 0;
        for (long j = 2 * first; j < 2 * last; j++) total += x[j];
        for (long block = 0; block < outputs; block += BLOCK) {
            __m256i a, b, c, d;
            a = b = c = d = _mm256_set1_epi16((short)-total);
            for (long pair = first; pair < last; pair++) {
                __m256i p = _mm256_set1_epi16(*(const short *)(x + 2 * pair));
                if (bytes) {
                    a = step(a, load(w), p);
                    b = step(b, load(w + 32), p);
                    c = step(c, load(w + 64), p);
                    d = step(d, load(w + 96), p);
                    w += 128;
                } else {
                    __m256i v = load(w);
                    a = step(a, _mm256_and_si256(v, three), p);
                    b = step(b, _mm256_and_si256(_mm256_srli_epi16(v, 2), three), p);
                    c = step(c, _mm256_and_si256(_mm256_srli_epi16(v, 4), three), p);
                    d = step(d, _mm256_and_si256(_mm256_srli_epi16(v, 6), three), p);
                    w += 32;
                }
            }
            put(accumulators + block, a, first == 0);
            put(accumulators + block + 16, b, first == 0);
            put(accumulators + block + 32, c, first == 0);
            put(accumulators + block + 48, d, first == 0);
        }
    }
    return w;
}

static void requantize(const int32_t *accumulators, int8_t *x, long count) {
    int32_t largest = 1;
    for (long i = 0; i < count; i++) largest = accumulators[i] > largest ? accumulators[i] : largest;
    float scale = 127.0f / (float)largest;
    for (long i = 0; i < count; i++) {
        int32_t positive = accumulators[i] > 0 ? accumulators[i] : 0;
        x[i] = (int8_t)rintf((float)positive * scale);
    }
}

static double halves(__m256d a, __m256d b, __m256d c, __m256d d) {
    a = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static double dot(const int8_t *x, const float *w, long count) {
    __m256d sum[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
    for (long i = 0; i < count; i += LANES)
        for (int k = 0; k < 4; k++) {
            __m256d a = _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(*(const int *)(x + i + 4 * k))));
            __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(w + i + 4 * k));
            sum[k] = _mm256_add_pd(sum[k], _mm256_mul_pd(a, b));
        }
    return halves(sum[0], sum[1], sum[2], sum[3]);
}

void quote(const double *observation, const int8_t *weights, const float *scales, const int64_t *shape, long words,
           double *out) {
    int8_t x[WIDEST];
    int32_t accumulators[WIDEST];
    long inputs = shape[WORDS];
    const float *constants = scales + 2 * inputs;
    int finite = 1;
    for (long i = 0; i < inputs; i++) {
        double bound = scales[i], value = observation[i];
        finite &= isfinite(value) != 0;
        value = value > -bound ? value : -bound;
        value = value < bound ? value : bound;
        x[i] = (int8_t)rintf((float)value * scales[inputs + i]);
    }
    out[0] = constants[3];
    out[1] = 0.0;
    if (!finite) return;
    for (long i = inputs; i < padded(inputs, 2); i++) x[i] = 0;
    for (long layer = WORDS + 1; layer < words; layer++) {
        long width = padded(shape[layer], BLOCK);
        weights = accumulate(x, weights, padded(shape[layer - 1], 2), width, accumulators);
        requantize(accumulators, x, shape[layer]);
        for (long i = shape[layer]; i < width; i++) x[i] = 0;
    }
    long last = shape[words - 1], wide = padded(last, LANES);
    int32_t squares = 0;
    for (long i = 0; i < wide; i++) squares += x[i] * x[i];
    double norm = 1.0 / sqrt((double)squares / (double)last + 1e-6);
    double first = dot(x, constants + CONSTANTS, wide) * norm, second = dot(x, constants + CONSTANTS + wide, wide) * norm;
    double half_spread = constants[0] + constants[1] * (first + constants[4]);
    double skew = constants[2] * (second + constants[5]);
    if (!isfinite(half_spread) || !isfinite(skew)) return;
    out[0] = half_spread;
    out[1] = skew;
}

void quote_batch(const double *observations, long rows, const int8_t *weights, const float *scales,
                 const int64_t *shape, long words, double *out) {
    for (long i = 0; i < rows; i++) quote(observations + i * shape[WORDS], weights, scales, shape, words, out + 2 * i);
}
