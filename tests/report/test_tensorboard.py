"""What is written can be read back: the event file holds the numbers of benchmark.json."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import metadata as hparams
from torch.utils.tensorboard import SummaryWriter

from bitquote.market import build, shipped_configuration
from bitquote.report import tensorboard
from bitquote.report.figures import benchmark_figure

LAST = 500


@pytest.fixture
def market(result):
    return build(shipped_configuration(result["market"]))


@pytest.fixture
def events(result, market, tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        tensorboard.write_config(writer, "seed: 7\nmarket:\n  gamma: 0.1\n")
        tensorboard.write_benchmark(writer, result, LAST)
        rows = [row["quoter"] for row in result["rows"] if row["objective"] is not None]
        tensorboard.write_layout(writer, market, rows)
        tensorboard.write_hyperparameters(writer, {"seed": 7, "learner": {"rate": 1e-3, "hidden": [64, 64]}}, result)
        tensorboard.write_pictures(writer, {"benchmark": benchmark_figure(result)}, LAST)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    return accumulator.Reload()


def test_every_figure_of_the_benchmark_is_in_the_event_file(result, events):
    for row in result["rows"]:
        for figure in tensorboard.FIGURES:
            name = tensorboard.tag(row["quoter"], figure)
            if row[figure] is None:
                assert name not in events.Tags()["scalars"]
            else:
                assert events.Scalars(name)[-1].value == pytest.approx(row[figure], rel=1e-6, abs=1e-9)
                assert events.Scalars(name)[-1].step == LAST


def test_baselines_are_lines_across_the_run_and_policies_are_points(events):
    assert [event.step for event in events.Scalars("benchmark/glft/objective")] == [0, LAST]
    assert [event.step for event in events.Scalars("benchmark/policy.3/objective")] == [LAST]


def test_the_custom_charts_hold_the_curve_every_row_and_its_interval(result, events):
    layout = layout_pb2.Layout()
    layout.ParseFromString(events.Tensors(custom_scalars.CONFIG_SUMMARY_TAG)[0].tensor_proto.string_val[0])
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    exact = result["market"] == "game"
    every = charts[f"{'normalised_gap' if exact else 'objective'}: policy and every baseline"].multiline.tag
    assert every[0] == "^score$"
    assert len(every) == 1 + sum(row["objective"] is not None for row in result["rows"])
    assert ("glft_tuned - policy.3" in charts) != exact
    for chart in charts.values():
        for series in chart.margin.series:
            if series.value.startswith("benchmark"):
                names = series.lower, series.value, series.upper
                low, value, high = (events.Scalars(name)[-1].value for name in names)
                assert low <= value <= high


def test_hyperparameters_come_with_the_policys_metrics(events):
    session = hparams.parse_session_start_info_plugin_data(
        events.SummaryMetadata(hparams.SESSION_START_INFO_TAG).plugin_data.content
    )
    assert session.hparams["seed"].number_value == 7
    assert session.hparams["learner.rate"].number_value == 1e-3
    assert session.hparams["learner.hidden"].string_value == "[64, 64]"
    experiment = hparams.parse_experiment_plugin_data(
        events.SummaryMetadata(hparams.EXPERIMENT_TAG).plugin_data.content
    )
    assert "benchmark/policy/objective" in {info.name.tag for info in experiment.metric_infos}


def test_configuration_table_and_picture_are_there(events):
    config, table = (events.Tensors(f"{name}/text_summary")[0].tensor_proto for name in ("config", "benchmark"))
    assert "    market:\n      gamma: 0.1" in config.string_val[0].decode()
    assert "glft_tuned" in table.string_val[0].decode()
    (image,) = events.Images("policy/benchmark")
    assert image.width > 400
