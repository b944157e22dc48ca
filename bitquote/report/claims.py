"""What a benchmark shows, in one sentence, and what it does not show, told from the facts of its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitquote.report.numbers import decimals_for, number
from bitquote.report.table import FEWEST_PATHS, is_exact, p_value_text, ranked, regret_text, too_few_paths

FEWEST_SEEDS = 10
"""Training seeds from which a sentence about a learner, and not about one of its outcomes, is a claim."""


def policy_row(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row that speaks for the policies: the pooled one, or that of the only policy; None without any."""
    rows = [row for row in result["rows"] if row["quoter"].startswith("policy")]
    return next((row for row in rows if row["quoter"] == "policy"), rows[0] if len(rows) == 1 else None)


def headline(result: Mapping[str, Any]) -> str:
    """The claim with its interval, or that there is none and why."""
    row, seeds = policy_row(result), len(result["training_seeds"])
    if row is None:
        best = ranked(result)[0]
        rows = "no policy" if seeds == 0 else "no pooled row of policies"
        return f"No claim: there is {rows} here. The best row is {best['quoter']}{_objective(best, result)}."
    if row["regret"] is None:
        return f"No claim: the objective of {row['quoter']} cannot be told from this sample."
    found = _finding(row, result) + _silence(row, result)
    if too_few_paths(result):
        return f"No claim: {result['paths']} test paths are too few, {FEWEST_PATHS} the least. Found: {found}"
    if seeds < FEWEST_SEEDS:
        trained = "one training seed is" if seeds == 1 else f"{seeds} training seeds are"
        return f"No claim about the learner: {trained} too few, {FEWEST_SEEDS} the least. Found: {found}"
    return found


def _finding(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """How a row stands to the reference, as a sentence."""
    reference, units = result["reference"], result["units"]
    if is_exact(result):
        gap = row.get("normalised_gap")
        share = "" if gap is None else f", {100 * gap:.3g} % of what the best constant quote leaves"
        optimum = "the optimum" if reference.startswith("dynamic_program") else reference
        return f"{row['quoter']} is {regret_text(row, _places(result))} {units} below {optimum}{share}."
    advantage = {**row, "regret": abs(row["regret"])}
    text = f"{regret_text(advantage, _places(result))} {units}"
    if row["ci_low"] <= 0.0 <= row["ci_high"]:
        side = "below" if row["regret"] > 0.0 else "above"
        return f"{row['quoter']} cannot be told from {reference}: {text} {side} it (95 % interval)."
    p = row.get("p_value")
    test = "" if p is None else f", p {p_value_text(p)}"
    side = "less" if row["regret"] > 0.0 else "more"
    return f"{row['quoter']} earns {text} {side} than {reference} (95 % interval{test})."


def _silence(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """That not quoting at all does better, where it does: then the rest is worth little."""
    silent = next((other["objective"] for other in result["rows"] if other["quoter"] == "no_quote"), None)
    better = silent is not None and silent > row["objective"]
    return f" Not quoting at all is better than {row['quoter']}." if better else ""


def _places(result: Mapping[str, Any]) -> int:
    return decimals_for([row["objective"] for row in result["rows"]], 6 if is_exact(result) else 5)


def _objective(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    return "" if row["objective"] is None else f", with an objective of {number(row['objective'], _places(result))}"


def limits(result: Mapping[str, Any]) -> list[str]:
    """One sentence a limit that the facts of `result` set."""
    return [
        *_of_training(result),
        *_of_sampling(result),
        *_of_market(result),
        *_of_risk(result),
        *_of_reference(result),
    ]


def _of_training(result: Mapping[str, Any]) -> list[str]:
    seeds = len(result["training_seeds"])
    if seeds == 0:
        return ["No policy was trained for this page: it says nothing about learning."]
    lines = []
    if seeds == 1:
        lines.append(
            "One training seed: the figures say how well this one policy does, not how well its learner would do again;"
            f" for that {FEWEST_SEEDS} seeds are the least."
        )
    elif seeds < FEWEST_SEEDS:
        lines.append(
            f"{seeds} training seeds: fewer than {FEWEST_SEEDS}, too few for a claim about the learner; a spread over "
            f"{seeds} draws is itself hardly known."
        )
    home = result.get("trained_in")
    if home is not None and home != result["market"]:
        lines.append(
            f"The policies were trained in {home} and are judged outside of it: how a policy trained here would do is "
            "not shown."
        )
    return lines


def _of_sampling(result: Mapping[str, Any]) -> list[str]:
    paths, seed = f"{result['paths']:,}", result["seed"]
    if is_exact(result):
        simulated = " and ".join(name.replace("_", " ") for name in result.get("simulated", ("max_drawdown",)))
        return [
            f"The figures are exact expectations in a model, but for {simulated} ({paths} paths of seed {seed}). Exact "
            "is the arithmetic, not the model: fills that come independently at a rate of the distance alone, and a "
            "mid that nobody's orders move."
        ]
    return [
        f"Everything is simulated, on {paths} paths of seed {seed} that all quoters share. Intervals tell what other "
        "paths of the same simulator would give, not what another market would.",
        f"p-values and intervals are of one row against {result['reference']} each: whoever looks for the best of the "
        f"{len(result['rows'])} rows finds it by chance more often than they say.",
    ]


def _of_market(result: Mapping[str, Any]) -> list[str]:
    if is_exact(result):
        return []
    recording = result.get("recording") or {}
    if not recording:
        return [
            "The market is invented: it was calibrated from no recording, and what is gained here may exist here only."
        ]
    seconds = recording.get("evidence", {}).get("seconds")
    length = "of unknown length" if seconds is None else f"of {_duration(seconds)}"
    return [
        f"The market is a simulation calibrated from one recording {length}; other hours differ, and nobody in it "
        "learns from the maker's quotes."
    ]


def _duration(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes"), (0, "seconds"))
                      if seconds >= 2 * size)  # fmt: skip
    return f"{seconds / max(size, 1):.3g} {unit}"


def _of_risk(result: Mapping[str, Any]) -> list[str]:
    refused = [row["quoter"] for row in result["rows"] if row["certainty_equivalent"] is None]
    if not refused:
        return []
    given = [row["quoter"] for row in result["rows"] if row["certainty_equivalent"] is not None]
    names = f"not given for {', '.join(refused)}"
    if len(given) < len(refused):
        names = f"given for {', '.join(given)} alone" if given else "given for no row"
    why = "a double cannot hold it" if is_exact(result) else "the paths are too few for the tail that rules it"
    return [f"The certainty equivalent is {names}: {why}."]


def _of_reference(result: Mapping[str, Any]) -> list[str]:
    tuning = result.get("tuning") or {}
    if "untuned" in tuning:
        return [f"glft_tuned is not tuned here, it is GLFT itself ({tuning['untuned']}): beating it is worth less."]
    if is_exact(result) or "paths" not in tuning:
        return []
    return [
        f"glft_tuned is the best of a family with two parameters, on {tuning['paths']} paths of seed {tuning['seed']}. "
        "It is not the best that can be done: no closed form reads the book."
    ]
