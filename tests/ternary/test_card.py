"""The model card: it says what the policy holds, and nobody's text becomes markup."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from bitquote.errors import InputError
from bitquote.ternary import Policy
from bitquote.ternary.card import HEADING, LONGEST, MOST, card
from train.carding import write_card
from train.command import main

ROW = {
    "quoter": "policy",
    "mean_profit": 67.870430982895,
    "certainty_equivalent": None,
    "objective": 66.8731227112108,
    "exact": True,
    "attribution": {"spread": 67.87, "fees": -0.25},
}
MARKET = {"name": "game", "gamma": 0.1, "steps": 200, "flow": {"rates": [1.5, 2.0], "kind": "poisson"}}
HOSTILE = (
    "a | b", "`code` ![x](http://evil)", "<script>alert(1)</script>", "line\n| new | row |\n# title", "--- | ---",
    "trailing\\", "[x](javascript:1)", "\u202eright to left", "\ud800", "\x00\x1b[31m", "", "<!-- ", "x" * 5000,
    "&lt;b&gt;",
)  # fmt: skip

KINDS = {
    "text", "code_inline", "softbreak", "inline", "heading_open", "heading_close", "paragraph_open", "paragraph_close",
    *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")),
}  # fmt: skip
"""Of Markdown, what a card is made of: no links, images, HTML or emphasis."""


def cells(text: str) -> dict[str, list[str]]:
    """First cell -> the others, of every table row; code marks are taken off."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip().strip("`"): [cell.strip().strip("`") for cell in row[1:]] for row in rows}


def assert_sound(text: str) -> None:
    """Every table is whole, and no line, code or tag is anyone else's."""
    width = None
    for line in text.splitlines():
        if not line.startswith("|"):
            width = None
            assert line == "" or line.startswith(("#", "Written by ", "Head and scales ", "And ", "None ", "Not "))
            continue
        assert line.count("`") % 2 == 0
        assert line.endswith(" |")
        width = width or line.count("|")
        assert line.count("|") == width
    assert not re.search("[<>]", text)
    outside = re.sub("`[^`]*`", "", text)
    assert not re.search(r"[\[\]*\\]|http|javascript", outside)
    assert text.replace("\n", "").isprintable()
    text.encode()
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert kinds <= KINDS
    tables = sum(line.startswith("| ---") for line in text.splitlines())
    assert sum(token.type == "table_open" for token in tokens) == tables


@pytest.fixture
def policy(build) -> Policy:
    return build(6, (64, 64)).policy(market=MARKET, objective="penalty")


def test_zeros_are_those_of_the_weights(policy):
    table = cells(card(policy))
    weights = [policy.tensors()[f"hidden.{layer}.weight"] for layer in range(2)]
    for layer, trits in enumerate(weights):
        share = sum(value == 0 for value in trits.ravel().tolist()) / trits.size
        assert table[f"hidden {layer}"] == [f"{trits.shape[1]} × {trits.shape[0]}", f"{trits.size:,}", f"{share:.2%}"]
    every = np.concatenate([trits.ravel() for trits in weights]).tolist()
    assert table["all hidden"][1:] == ["4,480", f"{every.count(0) / 4480:.2%}"]
    assert table["of these not zero"] == [f"{4480 - every.count(0):,}"]


def test_architecture_sizes_and_market(policy):
    text = card(policy)
    table = cells(text)
    assert text.startswith(HEADING)
    assert table["network"] == ["ternary 6-64-64-2"]
    assert table["in the policy's file"] == ["897", "1.602", "19.98"]
    assert table["log2(3) bits, the limit for trits"][1] == "1.585"
    assert table["inventory"] == ["20"]
    assert (table["gamma"], table["steps"], table["flow.kind"]) == (["0.1"], ["200"], ["poisson"])
    assert table["flow.rates"] == ["1.5, 2"]
    assert "a model" in text and "not measurements" in text
    assert "None beside the policy." in text
    assert_sound(text)


def test_the_benchmark_row_is_the_runs(policy):
    text = card(policy, ROW, context={"market": "game", "units": "price x lots", "rows": [ROW], "tuning": {}})
    table = cells(text)
    assert table["mean_profit"] == ["67.8704"]
    assert table["certainty_equivalent"] == ["-"]
    assert table["attribution.fees"] == ["-0.25"]
    assert table["exact"] == ["yes"]
    assert table["units"] == ["price x lots"]
    assert "rows" not in table and "tuning" not in table
    assert_sound(text)


def test_an_fp32_policy_and_a_residual_one(build):
    table = cells(card(build(6, (8,), "fp32").policy()))
    assert table["in the policy's file"][1] == "32.000"
    assert "of these not zero" not in table
    residual = cells(card(build(6, (8,), baseline="residual").policy()))
    assert "GLFT" in residual["adds to"][0]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(build, text):
    network = build(6, (8,))
    market = {"name": text, text or "empty": 1, "list": [text, 1, None], "deep": {"a": {"b": {"c": {"d": text}}}}}
    description = network.policy().description
    object.__setattr__(description, "observation_names", (text or "x", *description.observation_names[1:]))
    policy = Policy(description, {"market": market, "objective": text}, network.policy().tensors())
    written = card(
        policy, ROW | {"quoter": text, "attribution": {text: text}}, context={"market": text, "paths": [text]}
    )
    assert_sound(written)
    assert max(map(len, written.splitlines())) < 3 * LONGEST


@pytest.mark.parametrize(
    "market", ["a | b", 7, [1, 2], True, {"a": 10**4000}, {"a": float("inf")}, {"a": []}, {"a": {}}]
)
def test_a_market_of_any_kind(build, market):
    assert_sound(card(build(6, (8,)).policy(market=market)))


@pytest.mark.parametrize("market", [None, {}, "", 0])
def test_no_market(build, market):
    assert "Not recorded." in card(build(6, (8,)).policy(market=market))
    assert "Not recorded." in card(build(6, (8,)).policy())


def test_long_lists_are_cut(build):
    text = card(build(300, (8,)).policy(market={f"key {i}": i for i in range(MOST + 1)}))
    assert f"And {300 - MOST} more features." in text
    assert "And 1 more entries." in text
    assert_sound(text)


def test_beside_an_exported_policy(policy, tmp_path):
    page = write_card(policy, tmp_path, tmp_path / "quoter.c")
    assert page == tmp_path / "quoter.md"
    assert page.read_text(encoding="utf-8") == card(policy)
    (tmp_path / "benchmark.json").write_text(json.dumps({"rows": [{"quoter": "glft"}, ROW], "units": "lots"}))
    write_card(policy, tmp_path, tmp_path / "quoter.c")
    assert cells(page.read_text(encoding="utf-8"))["mean_profit"] == ["67.8704"]


def test_export_leaves_a_card(policy, tmp_path, capsys):
    (tmp_path / "config.yaml").touch()
    (tmp_path / "benchmark.json").write_text(json.dumps({"rows": [ROW]}))
    policy.save(tmp_path / "policy.safetensors")
    assert main(["export", f"run={tmp_path}", f"output={tmp_path}/new/quoter.safetensors"]) == 0
    assert str(tmp_path / "new" / "quoter.md") in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "new" / "quoter.md").read_text(encoding="utf-8") == card(policy, ROW)
    assert main(["export", f"run={tmp_path}", f"output={tmp_path}/new/quoter.safetensors"]) == 0, "a second time too"


def test_another_file_is_left_alone(policy, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match="no model card"):
        write_card(policy, tmp_path, tmp_path / "README.safetensors")
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        write_card(policy, tmp_path, tmp_path / "folder.c")


def test_a_damaged_benchmark_is_named(policy, tmp_path):
    for content in ("{", "[]", '{"row": 1}'):
        (tmp_path / "benchmark.json").write_text(content)
        with pytest.raises(InputError, match=r"benchmark\.json is damaged"):
            write_card(policy, tmp_path, tmp_path / "quoter.c")
    for content in ('{"rows": 7}', '{"rows": [1, {"quoter": "glft"}]}'):
        (tmp_path / "benchmark.json").write_text(content)
        assert "None beside the policy." in write_card(policy, tmp_path, tmp_path / "quoter.c").read_text(
            encoding="utf-8"
        )
