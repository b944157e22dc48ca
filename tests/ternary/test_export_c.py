"""The exported C file, compiled in several ways, against the kernel: every integer and every bit of every quote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitquote.errors import InputError
from bitquote.ternary import Policy, PolicyDescription, quote_batch, simd
from bitquote.ternary.export_c import c_source, export_c

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
# gcc fuses multiplications with additions under -std=gnu99 only, where the processor can.
PLAIN = ("-std=c99", "-O2")
WIDE = ("-std=gnu99", "-O2", "-mavx2", "-mfma")
FUSED = ("-std=gnu99", "-O3", "-mfma", "-mno-avx2")
NEEDS = {PLAIN: True, WIDE: simd.AVAILABLE, FUSED: simd.AVAILABLE}  # every processor with AVX2 but one has FMA

CASES = [  # inputs, hidden, rows, options
    (1, (1,), 30_000, {}),
    (3, (3, 5), 30_000, {"baseline": "residual", "input_quantisation": "per_row"}),
    (6, (64, 64), 24_000, {"baseline": "residual"}),
    (7, (33, 300), 10_000, {"input_quantisation": "per_row"}),
    (32, (256, 256), 8_000, {"baseline": "residual"}),
    (601, (300, 9, 1), 600, {"trits": 1}),  # sums beyond 16 bits
    (2, (2, 2), 200, {"trits": -1, "input_quantisation": "per_row"}),  # rows without a positive sum
]
RANGES = (0.5, 20.0, 1.0, 2.0, 3.7, 0.0, 1e-30, 1e30)

gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")


def test_the_cases_are_as_many_as_promised():
    assert sum(rows for _, _, rows, _ in CASES) >= 100_000


def build(inputs: int, hidden: tuple[int, ...], trits: int | None = None, metadata=None, **options) -> Policy:
    """A random policy; `trits` is the value of all hidden weights, if given."""
    generator = np.random.default_rng(inputs)
    names = ("glft_skew", "glft_half_spread", *(f"feature_{i}" for i in range(2, inputs)))[:inputs]
    ranges = (*RANGES, *generator.choice(RANGES, inputs).tolist())[:inputs]
    options = {"no_quote": 50.0, "action_scale": (0.37, 0.21), "base_half_spread": 1.3} | options
    description = PolicyDescription(names, ranges, hidden=hidden, **options)
    tensors = {}
    for name, (dtype, shape) in description.layout().items():
        if dtype == np.int8:
            tensors[name] = generator.integers(-1, 2, shape).astype(np.int8) if trits is None else np.full(shape, trits)
        else:
            values = generator.normal(size=shape)
            if name == "head.weight":  # numbers so far apart that the order of their sum counts
                values *= 10.0 ** generator.integers(-9, 1, shape)
            tensors[name] = np.abs(values) if name.endswith("scale") else values
        tensors[name] = np.asarray(tensors[name], dtype)
    return Policy(description, metadata or {}, tensors)


def hostile(ranges: tuple[float, ...], rows: int) -> np.ndarray:
    """float64 (rows, features): inside and outside the ranges, exact ties and their neighbours, few values, zeros,
    denormal, huge, NaN and infinite."""
    generator = np.random.default_rng(rows)
    shape, scale = (rows, len(ranges)), np.array(ranges)
    ties = (generator.integers(-128, 128, shape) + 0.5) / 127 * scale
    kinds = np.stack([
        generator.normal(size=shape) * scale,
        generator.uniform(-1.5, 1.5, shape) * scale,
        ties,
        np.nextafter(ties, generator.choice([-np.inf, np.inf], shape)),
        generator.integers(-127, 128, shape) / 127 * scale,
        generator.choice([0.0, -0.0, 1.0, -1.0, 0.5], shape) * scale,
        generator.choice([5e-324, -1e-310, 1e-45, -1e-40, 1e-38, 1e-6], shape),
        generator.choice([1e300, -1e300, 1.7e308, 3.5e38, -1e38], shape),
        10.0 ** generator.uniform(-300, 300, shape) * generator.choice([-1.0, 1.0], shape),
    ])  # fmt: skip
    each, whole = generator.integers(len(kinds), size=shape), generator.integers(len(kinds), size=(rows, 1))
    kind = np.where(generator.random((rows, 1)) < 0.5, each, whole)  # for each value, or one for the row
    observations = np.take_along_axis(kinds, kind[None], 0)[0]
    unsound = generator.random(rows) < 0.02
    observations[unsound, generator.integers(shape[1], size=rows)[unsound]] = generator.choice(
        [np.nan, -np.nan, np.inf, -np.inf], unsound.sum()
    )
    return observations


def compile_c(source: Path, flags: tuple[str, ...], program: Path) -> None:
    command = ["gcc", *flags, *STRICT, "-DBITQUOTE_MAIN", str(source), "-o", str(program), "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def run_c(program: Path, observations: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Quotes float64 (rows, 2) and integers int32 (rows, count)."""
    output = subprocess.run([program, "integers"], input=observations.tobytes(), capture_output=True, check=True).stdout
    rows = np.frombuffer(output, [("quotes", "f8", 2), ("integers", "i4", count)])
    return rows["quotes"], rows["integers"]


def bits(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers).view(np.int64)


@gcc
@pytest.mark.parametrize(("inputs", "hidden", "rows", "options"), CASES, ids=str)
def test_every_bit_is_that_of_the_kernel(tmp_path, inputs, hidden, rows, options):
    policy = build(inputs, hidden, **options)
    export_c(policy, tmp_path / "quoter.c")
    observations = hostile(policy.observation_ranges, rows)
    sound = np.isfinite(observations).all(1)
    quotes = np.empty((rows, 2))
    quote_batch(observations, *policy.arguments, quotes)
    count = 2 * sum(hidden) - hidden[-1] + inputs
    integers = np.zeros((rows, count), np.int32)
    for row in np.flatnonzero(sound):
        integers[row] = np.concatenate([part for layer in policy.integers(observations[row]) for part in layer])
    assert (quotes[~sound] == (policy.no_quote, 0.0)).all()
    assert len(np.unique(bits(quotes), axis=0)) > rows // 50 or "trits" in options or inputs == 1
    for flags in (PLAIN, WIDE, FUSED):
        compile_c(tmp_path / "quoter.c", flags, tmp_path / "quoter")
        if NEEDS[flags]:
            found = run_c(tmp_path / "quoter", observations, count)
            np.testing.assert_array_equal(found[1], integers, err_msg=str(flags))
            np.testing.assert_array_equal(bits(found[0]), bits(quotes), err_msg=str(flags))


@gcc
def test_a_quote_that_is_not_finite_is_no_quote(tmp_path):
    policy = build(2, (2,), baseline="residual", action_scale=(1e30, 1e30))
    tensors = policy.tensors()
    policy.update(tensors | {"head.weight": np.full((2, 2), 3e38, np.float32)})
    observations = np.array([[1.7e308, 1.7e308], [1.0, -1.7e308], [0.1, 0.2]])
    export_c(policy, tmp_path / "quoter.c")
    compile_c(tmp_path / "quoter.c", PLAIN, tmp_path / "quoter")
    quotes = np.empty((3, 2))
    quote_batch(observations, *policy.arguments, quotes)
    np.testing.assert_array_equal(run_c(tmp_path / "quoter", observations, 4)[0], quotes)


@gcc
def test_two_networks_link_into_one_program(tmp_path):
    observations = np.linspace(-1.0, 1.0, 3)
    expected, body = [], "double o[4] = {-1.0, 0.0, 1.0, -1.0};"
    for inputs, stem, name in ((3, "first", "first"), (4, "2nd-one", "policy_2nd_one")):
        policy = build(inputs, (5,))
        export_c(policy, tmp_path / f"{stem}.c")
        expected.append(policy.quote(np.resize(observations, inputs)))
        body += f" void {name}_quote(const double *, double *, double *); {name}_quote(o, o, o + 1);"
        body += r' printf("%a %a\n", o[0], o[1]); o[0] = -1.0; o[1] = 0.0;'
    (tmp_path / "main.c").write_text(f"#include <stdio.h>\nint main(void) {{ {body} return 0; }}\n")
    sources = ["main.c", "first.c", "2nd-one.c"]
    subprocess.run(["gcc", *PLAIN, *STRICT, *sources, "-o", "both", "-lm"], cwd=tmp_path, check=True)
    lines = subprocess.run([tmp_path / "both"], capture_output=True, text=True, check=True).stdout.splitlines()
    # Here the results go where the observation was.
    assert [tuple(map(float.fromhex, line.split())) for line in lines] == expected


@gcc
def test_nothing_in_a_policy_can_end_a_comment(tmp_path):
    nasty = '*/ int x = } /* // ??/ \\ \n \r \u2028 \u202e é \0 % $ ${name} \ud800 "'
    description = PolicyDescription((nasty, "*\\\n/"), (1.0, 2.0), hidden=(2,))
    tensors = build(2, (2,)).tensors()
    policy = Policy(description, {nasty: {nasty: [nasty, float("nan"), object()]}, "market": None}, tensors)
    export_c(policy, tmp_path / "quoter.c")
    compile_c(tmp_path / "quoter.c", ("-std=c99", "-O1", "-Wbidi-chars=any", "-trigraphs"), tmp_path / "quoter")


def test_the_file_tells_what_it_is():
    market = {"kind": "game", "A": 140.0}
    text = c_source(build(3, (4,), metadata={"market": market}, no_quote=12.5), "mine")
    assert json.loads(re.search(r'^ \* "market": (.*)$', text, re.MULTILINE)[1]) == market
    assert ' *   1: "glft_half_spread" +-20\n' in text
    assert "#define MINE_OBSERVATION_SIZE 3\n#define MINE_NO_QUOTE 0x1.9p+3 /* 12.5 */\n" in text
    assert max(map(len, text.splitlines())) <= 120
    library = text[: text.index("#ifdef BITQUOTE_MAIN")]
    headers = ["float.h", "math.h", "stdint.h", "string.h", "immintrin.h", "emmintrin.h"]
    assert re.findall("#include <(.*)>", library) == headers
    assert library.count("alloc") == library.count("allocates nothing") == 1


@pytest.mark.parametrize(
    ("stem", "name"), [("a-b c", "a_b_c"), ("__x", "x"), ("7", "policy_7"), ("é*/", "policy"), ("", "policy")]
)
def test_any_file_name_gives_a_name_in_c(stem, name):
    assert f"\nvoid {name}_quote(" in c_source(build(1, (1,)), stem)


@gcc
def test_flags_that_would_change_bits_are_refused(tmp_path):
    export_c(build(1, (1,)), tmp_path / "quoter.c")
    for flag in ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-ffinite-math-only"):
        command = ["gcc", flag, "-fsyntax-only", str(tmp_path / "quoter.c")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode != 0
        assert "floats must follow IEEE 754" in result.stderr


@gcc
def test_input_that_is_cut_short_is_an_error(tmp_path):
    export_c(build(3, (2,)), tmp_path / "quoter.c")
    compile_c(tmp_path / "quoter.c", PLAIN, tmp_path / "quoter")
    result = subprocess.run([tmp_path / "quoter"], input=bytes(8 * 5), capture_output=True, check=False)
    assert (result.returncode, len(result.stdout)) == (1, 16)
    assert b"cut short" in result.stderr


@pytest.mark.parametrize("place", ["missing/quoter.c", ".", "bad\0name.c", "n" * 300 + ".c"])
def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path, place):
    with pytest.raises(InputError, match="cannot be written: ") as error:
        export_c(build(1, (1,)), tmp_path / place)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_only_integer_layers_are_exported(tmp_path):
    with pytest.raises(InputError, match=r"quoter\.c: architecture is 'fp32': must be 'ternary'"):
        export_c(build(2, (2,), architecture="fp32"), tmp_path / "quoter.c")
    assert not (tmp_path / "quoter.c").exists()
