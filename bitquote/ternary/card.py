"""The model card of a policy: Markdown from the policy itself, so that it cannot say what the file does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitquote.ternary.energy import (
    honest_energy,
    layer_shapes,
    layer_zeros,
    operations,
    paper_energy,
    weight_bytes,
)
from bitquote.ternary.policy import Policy

HEADING = "# Card of a bitquote policy"
LONGEST = 120
"""Characters of a text of somebody else's that are shown."""
MOST = 100
"""Entries of a market that are shown."""
DEPTH = 4
PAIR = ("property", "value")

BENCHMARK = (
    "quoter", "mean_profit", "std_profit", "mean_terminal_inventory", "std_terminal_inventory", "mean_spread", "fills",
    "turnover", "max_drawdown", "certainty_equivalent", "objective", "regret", "ci_low", "ci_high", "normalised_gap",
    "exact", "attribution",
)  # fmt: skip
CONTEXT = ("market", "objective", "gamma", "units", "paths", "seed", "training_seeds", "reference", "liquidation")

_LOOK_ALIKES = str.maketrans({"`": "'", "|": "¦", "<": "‹", ">": "›"})


def card(
    policy: Policy, benchmark_row: Mapping[str, Any] | None = None, *, context: Mapping[str, Any] | None = None
) -> str:
    """Architecture, bits a weight, zeros, operations, bytes, training market and benchmark of a policy, in Markdown.

    Text from the policy's file and from the benchmark is shown as code, in one line, with look-alikes for what could
    end the code, the cell or begin HTML: none of it can become markup.

    Args:
        benchmark_row: the policy's row of a benchmark.json.
        context: the other entries of that file, which say what was judged and how.
    """
    lines = [
        HEADING,
        "",
        "Written by `bitquote export` from the policy's file. Energies are models, not measurements.",
        *_architecture(policy),
        *_layers(policy),
        *_sizes(policy),
        *_work(policy),
        *_market(policy.metadata),
        *_benchmark(benchmark_row, context or {}),
    ]
    return "\n".join(lines) + "\n"


def _architecture(policy: Policy) -> list[str]:
    description = policy.description
    widths = "-".join(map(str, (policy.observation_size, *description.hidden, 2)))
    baseline = {
        "direct": f"constant half-spread {_value(description.base_half_spread)}",
        "residual": "the GLFT quotes in its observation",
    }[description.baseline]
    facts = [
        ("network", f"{policy.architecture} {widths}"),
        ("adds to", baseline),
        ("half-spread and skew of an output of 1", " and ".join(map(_value, description.action_scale))),
        ("no quotes from a half-spread of", _value(description.no_quote)),
    ]
    if policy.architecture == "ternary":
        facts.append(("inputs are quantised", description.input_quantisation.replace("_", " ")))
    inputs = list(zip(policy.observation_names, policy.observation_ranges, strict=True))
    shown = [(_value(name), _value(bound)) for name, bound in inputs[:MOST]]
    return [
        *_section("Architecture", PAIR, facts),
        *_section("Observation", ("feature", "clipped to ±"), shown, "###"),
        *_more(len(inputs) - MOST, "features"),
    ]


def _layers(policy: Policy) -> list[str]:
    zeros = layer_zeros(policy)
    rows = [
        (f"hidden {layer}", f"{inputs} × {outputs}", f"{inputs * outputs:,}", _share(missing, inputs * outputs))
        for layer, ((inputs, outputs), missing) in enumerate(zip(layer_shapes(policy), zeros, strict=True))
    ]
    size = weight_bytes(policy)
    rows.append(("all hidden", "", f"{size.weights:,}", _share(sum(zeros), size.weights)))
    width = policy.description.hidden[-1]
    rows.append(("head, float32", f"{width} × 2", f"{2 * width:,}", ""))
    return _section("Weights", ("layer", "inputs × outputs", "weights", "zeros"), rows)


def _sizes(policy: Policy) -> list[str]:
    size = weight_bytes(policy)
    formats = {
        "in the policy's file": size.stored,
        f"as the kernel reads them ({policy.path})": size.kernel,
        "2 bits": size.two_bits,
        "int8": size.int8,
        "fp16": size.fp16,
        "fp32": size.fp32,
        "log2(3) bits, the limit for trits": size.limit,
    }
    rows = [
        (name, f"{count:,.0f}", f"{8 * count / size.weights:.3f}", f"{size.fp32 / count:.2f}")
        for name, count in formats.items()
    ]
    return [
        *_section("Size of the hidden layers", ("format", "bytes", "bits per weight", "fp32 / it"), rows),
        "",
        f"Head and scales take {size.others:,} bytes beside each of these.",
    ]


def _work(policy: Policy) -> list[str]:
    counts, ternary = operations(policy), policy.architecture == "ternary"
    honest, half = honest_energy(policy), honest_energy(policy, "fp16")
    facts = [(f"weights of the hidden layers, {'an addition' if ternary else 'a multiply-add'} each", counts.products)]
    pairs = [("honest (sums, quantisers, head and bytes, 45 nm)", honest, half)]
    if ternary:
        facts += [("of these not zero", counts.products - counts.zeros), ("values quantised", counts.quantised)]
        pairs.insert(0, ("paper's (matrix products alone, 7 nm)", paper_energy(policy), paper_energy(policy, "fp16")))
    facts += [("multiply-adds of norm and head", counts.head_products), ("bytes moved", honest.bytes_moved)]
    energies = [
        (label, f"{own.total:,.0f}", f"{fp16.total:,.0f}", f"{fp16.total / own.total:.1f}")
        for label, own, fp16 in pairs
    ]
    return [
        *_section("Operations of one quote", PAIR, [(label, f"{count:,}") for label, count in facts]),
        *_section("Energy of one quote, a model", ("convention", "pJ", "pJ in fp16", "fp16 / it"), energies, "###"),
    ]


def _market(metadata: Mapping[str, Any]) -> list[str]:
    market = metadata.get("market")
    if not market:
        return ["", "## Training market", "", "Not recorded."]
    entries = list(_flat(market, "")) if isinstance(market, Mapping) else [("market", market)]
    if "objective" in metadata:
        entries.insert(0, ("objective", metadata["objective"]))
    rows = [(_value(name) if name else "", _value(value)) for name, value in entries[:MOST]]
    return [*_section("Training market", PAIR, rows), *_more(len(entries) - MOST, "entries")]


def _benchmark(row: Mapping[str, Any] | None, context: Mapping[str, Any]) -> list[str]:
    if row is None:
        return ["", "## Benchmark", "", "None beside the policy."]
    known = {name: row[name] for name in BENCHMARK if name in row}
    rows = [(_value(name), _value(value)) for name, value in _flat(known, "")]
    judged = [(_value(name), _value(context[name])) for name in CONTEXT if name in context]
    return [
        *_section("Benchmark", PAIR, rows),
        *(_section("Judged by", PAIR, judged, "###") if judged else []),
    ]


def _flat(values: Mapping[str, Any], prefix: str, depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Entries by their dotted names; what lies deeper than `DEPTH` stays an object."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and depth < DEPTH:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], level: str = "##") -> list[str]:
    """A heading and a table: the first column to the left, the others to the right."""
    return [
        "",
        f"{level} {title}",
        "",
        _line(columns),
        _line(["---", *("---:" for _ in columns[1:])]),
        *map(_line, rows),
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _more(count: int, what: str) -> list[str]:
    return ["", f"And {count:,} more {what}."] if count > 0 else []


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}"


def _value(value: Any) -> str:
    """A cell for anything that JSON can hold."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and all(isinstance(item, int | float | str | None) for item in value):
        text = ", ".join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value[:LONGEST])
    elif isinstance(value, list | tuple | Mapping):
        text = f"{len(value)} entries"
    else:
        text = str(value)
    return str(value) if isinstance(value, int) and len(text) <= LONGEST else _code(text)


def _code(text: str) -> str:
    """Foreign text as code in one line, with look-alikes for what could end it or begin HTML."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: LONGEST + 1])
    plain = " ".join(plain.translate(_LOOK_ALIKES).split())
    shown = plain if len(text) <= LONGEST else plain[:LONGEST] + "…"
    return f"`{shown}`" if shown else "(empty)"
