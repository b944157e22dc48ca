"""The page: complete, equal to the result, deaf to what names hold, and honest about what it cannot say."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from bitquote.evaluation import benchmark
from bitquote.market import Game
from bitquote.quoting import GameParameters, glft
from bitquote.report.claims import headline, limits
from bitquote.report.page import benchmark_page, suite_page
from bitquote.report.pictures import Picture, evidence, rows_picture
from bitquote.report.table import legend

HOSTILE = "<script>alert(1)</script> $\\frac$ \"'&"
CELLS = {
    "objective": lambda row: row["objective"],
    "regret": lambda row: row["regret"],
    "profit": lambda row: row["mean_profit"],
    "std": lambda row: row["std_profit"],
    "spread": lambda row: row["mean_spread"],
    "fills": lambda row: row["fills"],
    "drawdown": lambda row: row["max_drawdown"],
    "improves": lambda row: row["probability_of_improvement"]["mean"],
    "p": lambda row: row["p_value"],
}
"""What the first number of a cell is, by its heading."""


class Page(HTMLParser):
    """The tables of a page as lists of lines, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        self.words.append(data)
        if self.tags and self.tags[-1][0] in ("td", "th") and self.tables:
            self.tables[-1][-1][-1] += data.strip()


def page_of(result, pictures=(), configuration=None):
    return Page(benchmark_page(result, pictures, configuration or {}, "bitquote benchmark"))


def told_more(result):
    """The result with the figures of a row that not every benchmark has."""
    for place, row in enumerate(result["rows"]):
        row |= {"p_value": 0.5 / (1 + place), "sharpe_ratio": 0.3, "deflated_sharpe_ratio": None}
        row["probability_of_improvement"] = {"mean": 0.61, "low": 0.5, "high": 0.7}
    result["rows"][-1] |= {"interquartile_mean": {"mean": 0.1234, "low": 0.1, "high": 0.2}}
    return result


def test_every_row_is_there_with_the_numbers_of_the_result(result):
    head, *lines = page_of(told_more(result)).tables[0]
    shown = {line[0].removesuffix(" *"): dict(zip(head, line, strict=True)) for line in lines}
    assert set(shown) == {row["quoter"] for row in result["rows"]}
    for row in result["rows"]:
        for title, figure in CELLS.items():
            cell, value = shown[row["quoter"]][title], figure(row)
            if value is None:
                assert cell == "-"
                continue
            first = cell.split()[0]
            decimals = len(first.partition(".")[2])
            assert float(first) == pytest.approx(value, abs=0.501 * 10.0**-decimals)
            assert decimals >= 1


def test_a_row_with_an_interval_shows_half_of_its_width(book_result):
    head, *lines = page_of(book_result).tables[0]
    policy = next(line for line in lines if line[0] == "policy")
    assert policy[head.index("regret")] == "-0.0800 ± 0.0500"


def test_seeds_are_summed_up_where_they_are(book_result):
    assert "0.1234" in " ".join(page_of(told_more(book_result)).words)


def test_hostile_names_are_text(book_result):
    book_result["market"] = HOSTILE
    pictures = [rows_picture(book_result), Picture(HOSTILE, HOSTILE, Figure())]
    text = benchmark_page(book_result, pictures, {"market": {"source": HOSTILE, "name": HOSTILE}}, HOSTILE)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in "".join(page.words)


def test_nothing_is_fetched(result):
    text = benchmark_page(result, [rows_picture(result)], {}, "")
    sources = [attributes["src"] for tag, attributes in Page(text).tags if tag == "img"]
    assert len(sources) == 1
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    picture = base64.b64decode(sources[0].partition(",")[2]).decode()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", picture)
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", text)


def test_few_seeds_make_no_claim_and_ten_do(book_result):
    assert "No claim about the learner: 2 training seeds" in headline(book_result)
    enough = book_result | {"training_seeds": list(range(20, 30))}
    assert headline(enough) == "policy earns 0.0800 ± 0.0500 USD x order more than glft_tuned (95 % interval)."
    row = enough["rows"][-1]
    row |= {"regret": -0.01, "ci_low": -0.06, "ci_high": 0.04}
    assert "cannot be told from glft_tuned" in headline(enough)
    row |= {"regret": 2.4, "ci_low": 2.3, "ci_high": 2.5, "objective": -0.2, "p_value": 1e-9}
    assert "less than glft_tuned (95 % interval, p < 0.0001). Not quoting at all is better than" in headline(enough)


def test_few_paths_make_no_claim(book_result, game_result):
    few = {"paths": 99, "training_seeds": list(range(20, 30))}
    assert headline(book_result | few).startswith("No claim: 99 test paths are too few, 100 the least. Found: policy")
    assert "So few paths make no claim, 100 are the least." in legend(book_result | few)
    assert "too few" not in headline(game_result | few) and "So few" not in legend(game_result | few)  # exact
    assert "So few" not in legend(book_result | {"paths": 100})


def test_without_a_policy_there_is_no_claim(result):
    result["rows"] = [row for row in result["rows"] if not row["quoter"].startswith("policy")]
    assert headline(result | {"training_seeds": []}).startswith("No claim: there is no policy")


def test_the_limits_are_those_of_the_result(game_result, book_result):
    exact = " ".join(limits(game_result))
    assert "exact expectations" in exact
    assert "simulated, on" not in exact
    book = " ".join(limits(book_result))
    for words in ("2 training seeds", "2,000 paths of seed 7", "one recording of unknown length", "given for no row"):
        assert words in book
    facts = {
        "training_seeds": [1], "trained_in": "calm", "recording": {}, "tuning": {"untuned": "the optimum is outside"}
    }  # fmt: skip
    told = " ".join(limits(book_result | facts))
    for words in ("One training seed", "trained in calm and are judged outside", "invented", "not tuned here"):
        assert words in told
    recorded = {"recording": {"evidence": {"seconds": 345.93}}, "trained_in": book_result["market"]}
    assert "one recording of 5.77 minutes" in " ".join(limits(book_result | recorded))
    assert "outside" not in " ".join(limits(book_result | recorded))


def test_several_markets_have_a_table_and_a_section_each(book_result):
    names = ["calm", HOSTILE]
    row = {key: book_result[key] for key in ("objective", "reference", "paths", "rows")}
    summary = {"markets": {name: row | {"description": "", "untuned": name == "calm"} for name in names}}
    results = {name: book_result | {"market": name} for name in names}
    page = Page(suite_page(summary, results, dict.fromkeys(names, ()), {name: {} for name in names}, "x"))
    overview = page.tables[0]
    assert [line[0] for line in overview[1:]] == ["calm", HOSTILE]
    assert overview[1][overview[0].index("glft_tuned")] == "2.200"
    assert "not tuned" in " ".join(page.words)
    assert "script" not in {tag for tag, _ in page.tags}
    assert [attributes["id"] for tag, attributes in page.tags if tag == "h2" and attributes] == [
        "section-1",
        "section-2",
    ]


@pytest.mark.parametrize("policies", [{}, {"policy": glft}])
def test_the_pictures_of_a_game(policies):
    game = Game(GameParameters(horizon=0.2, steps=40, max_inventory=15))
    result = benchmark(game, {}, paths=20, seed=1, tuning={"seed": 2})
    made = {name: form(game.game) for name, form in policies.items()}
    pictures = evidence(game, result, made)
    titles = [picture.title for picture in pictures]
    assert titles == ["Regret", "Quotes", "Markouts after own fills", "Along the paths", "Tuning of the baseline"]
    assert "20 paths of test seed 1" in pictures[3].caption
    shown = {axis.get_title() for axis in pictures[3].figure.axes} - {""}
    assert shown == {"policy" if made else "glft_tuned", "dynamic_program_penalty"} or not made
    assert len(page_of(result, pictures).tables) == 3
