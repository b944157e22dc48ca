"""A benchmark as one self-contained HTML page: claim, table, pictures, limits, and what made it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from bitquote.report.claims import headline, limits
from bitquote.report.numbers import MISSING, decimals_for, number
from bitquote.report.pictures import Picture
from bitquote.report.provenance import provenance
from bitquote.report.suite import SHOWN, columns, pair_lines, suite_figure, untuned_note
from bitquote.report.table import OBJECTIVES, legend, p_value_text, ranked, regret_text, table_columns

COLUMNS = {
    "p": "two-sided p-value of a regret of zero",
    "improves": "share of paths on which the row earns more than the reference, with its 95 % interval",
    "profit": "mean profit",
    "std": "standard deviation of the profit over paths",
    "std q": "standard deviation of the last inventory",
    "spread": "mean quoted spread",
    "fills": "mean number a path",
    "drawdown": "mean of the largest fall of the marked wealth",
    "certainty": "certainty equivalent",
    "Sharpe": "mean over standard deviation of the profit of a path",
    "deflated": "probability that the true Sharpe ratio is above what the best of as many tries shows by chance",
}
"""What headings of the table say in full."""
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    best: bool = False


class Line(NamedTuple):
    """A line of a table; `kind` is its look."""

    cells: list[Cell]
    kind: str = ""


class Grid(NamedTuple):
    """A table."""

    head: list[str]
    lines: list[Line]


def benchmark_page(
    result: Mapping[str, Any], pictures: Sequence[Picture], configuration: Mapping[str, Any], command: str
) -> str:
    """The page of one benchmark: `result` is benchmark.json's content, `configuration` the composed settings."""
    section = _section(result, pictures, configuration)
    return _render(f"Benchmark: {result['market']}", _subtitle(result), [section], command)


def suite_page(
    summary: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, Sequence[Picture]],
    configurations: Mapping[str, Mapping[str, Any]],
    command: str,
) -> str:
    """The page of several markets: their table and picture, then a section each; all are keyed by the market's name."""
    picture = Picture(
        "All markets", "Objective of each quoter in each market, and where the reference's profit comes from.",
        suite_figure(summary),
    )  # fmt: skip
    notes = [*pair_lines(summary), *untuned_note(summary)]
    overview = {"grid": _overview(summary), "notes": notes, "picture": _drawn(picture)}
    sections = [
        _section(result, pictures[name], configurations[name]) | {"name": name} for name, result in results.items()
    ]
    first = next(iter(results.values()))
    return _render(f"Benchmark of {len(results)} markets", _subtitle(first), sections, command, overview)


def _render(
    title: str, subtitle: str, sections: list[dict[str, Any]], command: str, overview: dict[str, Any] | None = None
) -> str:
    template = _ENVIRONMENT.get_template("page.html.jinja")
    made = provenance() | {"command": command}
    return template.render(title=title, subtitle=subtitle, sections=sections, overview=overview, provenance=made)


def _subtitle(result: Mapping[str, Any]) -> str:
    return f"Objective: {OBJECTIVES[result['objective']]}, gamma {result['gamma']:g}."


def _section(
    result: Mapping[str, Any], pictures: Sequence[Picture], configuration: Mapping[str, Any]
) -> dict[str, Any]:
    grid = _grid(result)
    explained = "; ".join(f"{title}: {COLUMNS[title]}" for title in grid.head if title in COLUMNS)
    market = configuration.get("market", {})
    return {
        "name": result["market"],
        "about": [text for text in (market.get("description"), market.get("source")) if text],
        "headline": headline(result),
        "grid": grid,
        "notes": [*legend(result).splitlines(), *_pooled(result), f"{explained}. Bold: best row; shaded: policies."],
        "limits": limits(result),
        "pictures": [_drawn(picture) for picture in pictures],
        "facts": _seeds(result),
        "configuration": yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True),
    }


def _grid(result: Mapping[str, Any]) -> Grid:
    """Every row by falling objective, with all that the result tells of it."""
    rows = ranked(result)
    drawn = table_columns(rows, result)
    lines = [
        Line([Cell(column.cells[index]) for column in drawn], _kind(row, rows[0])) for index, row in enumerate(rows)
    ]
    return Grid([column.title for column in drawn], lines)


def _kind(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    looks = {"policy": row["quoter"].startswith("policy"), "best": row is best and row["objective"] is not None}
    return " ".join(look for look, applies in looks.items() if applies)


def _overview(summary: Mapping[str, Any]) -> Grid:
    """A line a market: the objective of each quoter, the best marked, and what each policy is worth."""
    shown = columns(summary)
    policies = shown[len(SHOWN) :]
    lines = []
    for name, market in summary["markets"].items():
        objectives = {row["quoter"]: row["objective"] for row in market["rows"]}
        values = [objectives.get(quoter) for quoter in shown]
        best = max((value for value in values if value is not None), default=None)
        places = decimals_for(values, 4)
        cells = [Cell(number(value, places), value is not None and value == best) for value in values]
        lines.append(Line([Cell(name), *cells, *(cell for policy in policies for cell in _margin(market, policy))]))
    margins = [title for policy in policies for title in (f"{policy} - reference", "p, Holm")]
    return Grid(["market", *shown, *margins], lines)


def _margin(market: Mapping[str, Any], policy: str) -> tuple[Cell, Cell]:
    """By how much a policy beats a market's reference, and the p-value that Holm's correction over markets leaves."""
    row = next((row for row in market["rows"] if row["quoter"] == policy), None)
    if row is None or row["regret"] is None:
        return Cell(MISSING), Cell(MISSING)
    p, better = row.get("p_holm"), row["regret"] < 0.0
    sure = p is not None and p < 0.05 and better
    margin = regret_text({**row, "regret": -row["regret"]}, decimals_for([row["regret"]], 3))
    return Cell(margin, sure), Cell(p_value_text(p), sure)


def _pooled(result: Mapping[str, Any]) -> list[str]:
    """What is known of several training seeds besides their mean."""
    row = next((row for row in result["rows"] if row["quoter"] == "policy"), {})
    told = (
        ("interquartile_mean", "Regret, mean over the middle half of the seeds: {mean:.4g} [{low:.4g}, {high:.4g}]."),
        ("bootstrap", "Regret, bootstrap over training seeds and paths: [{low:.4g}, {high:.4g}]."),
    )  # fmt: skip
    return [text.format(**row[key]) for key, text in told if row.get(key)]


def _seeds(result: Mapping[str, Any]) -> dict[str, str]:
    tuning = result.get("tuning") or {}
    tuned_on = "exactly" if tuning.get("exact") else f"{tuning['paths']:,} paths" if "paths" in tuning else "not tuned"
    return {
        "training seeds": ", ".join(map(str, result["training_seeds"])) or "none",
        "tuning": f"seed {tuning.get('seed')}, {tuned_on}",
        "test": f"seed {result['seed']}, {result['paths']:,} paths",
    }


def _drawn(picture: Picture) -> dict[str, str]:
    return {"title": picture.title, "caption": picture.caption, "image": _data_uri(picture.figure)}


def _data_uri(figure: Figure) -> str:
    """The figure as an SVG image that holds all it needs, the same bytes for the same figure."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "bitquote"}):
        figure.savefig(file, format="svg", dpi=120, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
