"""The table on the screen: sorted, complete, within its width, with what the numbers mean."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bitquote.report.table import benchmark_text, legend, print_benchmark, ranked


def lines_by_quoter(text, result):
    rows = [line for line in text.splitlines() if line.split()[:1] and line.split()[0] in quoters(result)]
    return {line.split()[0]: line for line in rows}


def quoters(result):
    return {row["quoter"] for row in result["rows"]}


def test_every_row_is_there_best_first(result):
    lines = lines_by_quoter(benchmark_text(result), result)
    assert list(lines) == [row["quoter"] for row in ranked(result)]
    assert set(lines) == quoters(result)


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_it_keeps_to_its_width(result, width):
    text = benchmark_text(result, width)
    assert max(map(len, text.splitlines())) <= width
    assert "objective" in text


def test_numbers_are_those_of_the_result(game_result, book_result):
    game, book = (lines_by_quoter(benchmark_text(entry), entry) for entry in (game_result, book_result))
    assert game["glft"].split()[1:3] == ["66.8668", "0.0082"]
    assert game["policy"].split()[1:5] == ["66.6750", "0.2000", "±", "0.0500"]
    assert "100.000" in game["symmetric_constant"]
    assert book["policy:3"].split()[1:5] == ["2.3100", "-0.1100", "±", "0.0500"]
    assert book["dynamic_program_cara"].split()[1:3] == ["-", "-"]
    assert "-0.0120" in book["policy"]


def test_the_reference_is_marked(result):
    assert f"{result['reference']} *" in benchmark_text(result)


def test_the_legend_says_what_the_numbers_are(game_result, book_result):
    game, book = (" ".join(benchmark_text(entry).split()) for entry in (game_result, book_result))
    for words in ("price x lot", "dynamic_program_penalty", "exact", "linear fills", "two-point mid", "dt 0.005"):
        assert words in game
    for words in ("USD x order", "95 % interval", "2,000 paths of seed 7", "markout_1s -0.02", "training seeds 3, 4"):
        assert words in book
    assert "policy: half-spread 0.0321 and skew 0.0654 from glft_tuned's" in book


def test_the_best_row_stands_out_on_a_terminal_and_no_code_is_left_elsewhere(result):
    terminal, plain = io.StringIO(), io.StringIO()
    print_benchmark(result, Console(file=terminal, force_terminal=True, color_system="standard", width=120))
    print_benchmark(result, Console(file=plain, force_terminal=False))
    best = next(line for line in terminal.getvalue().splitlines() if ranked(result)[0]["quoter"] in line)
    assert "\x1b[1;32m" in best
    assert "\x1b" not in plain.getvalue()
    assert plain.getvalue() == benchmark_text(result)


def test_a_reference_that_was_not_tuned_is_said(book_result):
    untuned = {"shift": 0.0, "scale": 1.0, "seed": 2, "untuned": "the optimum lies on the edge"}
    assert "glft_tuned: not tuned, GLFT itself" in legend(book_result | {"tuning": untuned})
