"""A finished run in TensorBoard itself: it answers with the numbers of benchmark.json, and a browser shows the tabs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from report.browser import BROWSER, Browser

from bitquote.report.table import benchmark_text
from bitquote.report.tensorboard import FIGURES
from train.command import main

WORDS = ["market=game", "market.steps=20", "market.max_inventory=8", "learner=pathwise", "learner.epochs=3",
         "learner.iterations_per_epoch=2", "learner.paths=8", "policy.hidden=[8]", "benchmark.paths=16",
         "benchmark.tuning.paths=4"]  # fmt: skip
TABS = {
    "scalars": "benchmark",
    "custom_scalars": "policy and every baseline",
    "images": "policy/quotes_in_training",
    "histograms": "activations/into_head",
    "hparams": "learner.learning_rate",
    "text": "dynamic_program_penalty",
}
"""Each tab, and words that it shows once its data have come."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *WORDS, f"output={directory}"]) == 0
    return directory


@pytest.fixture(scope="module")
def address(run):
    """Where TensorBoard serves the run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--logdir", str(run)]
    command = [sys.executable, "-m", "tensorboard.main", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            found = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while not _ready(found):
                assert server.poll() is None, "TensorBoard has ended"
                assert time.monotonic() < deadline, "TensorBoard does not show the run"
                time.sleep(0.5)
            yield found
        finally:
            server.terminate()


def _ready(address: str) -> bool:
    """Whether the run has been read to its end: the layout and the pictures are written last."""
    try:
        return bool(ask(f"{address}/data/plugin/images/tags")["."].get("policy/benchmark"))
    except (OSError, KeyError):
        return False


def ask(url: str, body: dict | None = None):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.loads(answer.read())


def rows(run: Path) -> list[dict]:
    return json.loads((run / "benchmark.json").read_text(encoding="utf-8"))["rows"]


def test_scalars_are_those_of_the_benchmark(run, address):
    for row in rows(run):
        for figure in FIGURES:
            if row[figure] is not None:
                name = f"benchmark/{row['quoter']}/{figure}"
                (*_, (_, _, value)) = ask(f"{address}/data/plugin/scalars/scalars?run=.&tag={quote(name)}")
                assert value == pytest.approx(row[figure], rel=1e-6, abs=1e-9), name


def test_every_chart_finds_its_curves(address):
    layout = ask(f"{address}/data/plugin/custom_scalars/layout")
    charts = {chart["title"]: chart for category in layout["category"] for chart in category["chart"]}
    for title, chart in charts.items():
        for tag in chart.get("multiline", {}).get("tag", []):
            url = f"{address}/data/plugin/custom_scalars/scalars?run=.&tag={quote(tag)}"
            assert ask(url)["tag_to_events"], f"{title}: {tag}"


def test_hyperparameters_come_with_the_policys_figures(run, address):
    asked = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
             "colParams": [], "startIndex": 0, "sliceSize": 10}  # fmt: skip
    (group,) = ask(f"{address}/data/plugin/hparams/session_groups", asked)["sessionGroups"]
    assert group["hparams"]["policy.architecture"] == "ternary"
    shown = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    policy = next(row for row in rows(run) if row["quoter"] == "policy")
    assert shown["benchmark/policy/objective"] == pytest.approx(policy["objective"], rel=1e-6)


def test_every_evaluation_has_a_picture_and_histograms(address):
    pictures = ask(f"{address}/data/plugin/images/images?run=.&tag=policy/quotes_in_training&sample=0")
    assert [entry["step"] for entry in pictures] == [1, 3, 5]
    tags = ask(f"{address}/data/plugin/histograms/tags")["."]
    assert {"weights/hidden_0_latent", "weights/hidden_0_trits", "weights/head_latent"} < set(tags)
    (_, _, buckets), *_ = ask(f"{address}/data/plugin/histograms/histograms?run=.&tag=weights/hidden_0_trits")
    assert sum(count for _, _, count in buckets) == pytest.approx(8 * 6)  # inputs and outputs of the first layer


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.mark.parametrize("tab", TABS)
def test_a_browser_shows_the_tab(tab, address, browser):
    text = browser.text(f"{address}/#{tab}", TABS[tab])
    assert TABS[tab] in text
    for trouble in ("No dashboards are active", "No scalar data was found", "Data could not be loaded"):
        assert trouble not in text


def test_the_table_in_the_browser_is_that_of_the_benchmark(run, address, browser):
    lines = benchmark_text(json.loads((run / "benchmark.json").read_text(encoding="utf-8"))).splitlines()
    text = " ".join(browser.text(f"{address}/#text", " ".join(lines[-1].split())).split())
    for line in lines:
        assert " ".join(line.split()) in text
