"""`bitquote sweep trials=...`: a search by optuna, each trial an ordinary run that may be stopped early.

What decides is the score that training watches, on paths of the validation seed; the seed of the test is used once, for
the policy that was selected. A trial is a function of the words, its number and the trials before it, and the journal
has every trial as soon as it is asked for: so a search that was interrupted ends with the trials of one that was not.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from bitquote import run
from bitquote.config import thread_count
from bitquote.errors import InputError, require
from bitquote.evaluation import check_seeds
from bitquote.learning.scoring import VALIDATION_SEED, Scorer, make_scorer
from bitquote.progress import Stages
from bitquote.report.figures import save
from bitquote.report.search import print_search, search_figure
from bitquote.report.table import print_benchmark
from bitquote.run import Run
from bitquote.ternary import load_policy

from .composition import Composed, one_line
from .judging import SELECTION, TUNING, selection_of_run, tuning_of_run, with_baseline
from .training import compose_training, finish, learn, record

JOURNAL = "search.journal"
"""Optuna's storage, which `optuna-dashboard` reads too."""
PICTURE = "sweep.png"
SEARCHED = ("policy", "learner")
"""Groups that a search may vary; anything else would change what a policy is judged by."""
NAME = "search"
"""Of optuna's study in it."""
GRACE = 1 / 3
"""Share of its epochs before which no trial is pruned."""
STARTUP = 4
"""Trials that must have finished before one is pruned for being worse than their median."""
PLACES = 6
"""Significant digits of a number that a trial is given."""

Space = dict[str, BaseDistribution]


def begin_search(words: Sequence[str], trials: int) -> dict[str, Any]:
    """What sweep.json says of a new search, once every choice and both ends of every interval have composed."""
    fixed, space = _parsed(words)
    if not space:
        raise InputError("trials= is given without anything to search, such as policy.hidden=choice([32,32],[64,64])")
    first = {key: _texts(distribution)[0] for key, distribution in space.items()}
    _compose(fixed, first)
    for key, distribution in space.items():
        for text in _texts(distribution)[1:]:
            _compose(fixed, first | {key: text})
    return {"trials": trials, "words": list(words)}


def finish_search(
    directory: Path, summary: dict[str, Any], write: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Make the trials that are missing, then judge the best on the test seed; `write` is called as the search goes."""
    asked, storage = summary["search"], _storage(directory)
    fixed, space = _parsed(asked["words"])
    _, settings, market = _compose(fixed, {key: _texts(distribution)[0] for key, distribution in space.items()})
    tuned = tuning_of_run(directory, settings, market)
    market = with_baseline(market, tuned)
    scorer = make_scorer(market, settings.objective, thread_count(settings.threads), settings.benchmark.paths)
    study = optuna.create_study(
        storage=storage,
        study_name=NAME,
        pruner=MedianPruner(n_startup_trials=STARTUP),
        direction="minimize" if scorer.lower_is_better else "maximize",
        load_if_exists=True,
    )
    stages = Stages("trial", asked["trials"])
    while unfinished := _next_trial(study, asked["trials"], space, settings.seed):
        words = _words(unfinished.params)
        stages.begin(unfinished.number + 1, " ".join(words))
        own = directory / str(unfinished.number)
        run.write_json(own / TUNING, tuned.record)
        _make(study, unfinished, own, [*fixed, *words], scorer)
        summary |= _told(study, fixed, scorer)
        write(summary)
    best = _best(study)
    summary |= _told(study, fixed, scorer) | {"selected": str(best.number), "selection": _selection(study)}
    write(summary)
    save(search_figure(summary), directory / PICTURE)
    own = directory / summary["selected"]
    if selection_of_run(own) != summary["selection"]:
        run.write_json(own / SELECTION, summary["selection"])
        (own / run.BENCHMARK).unlink(missing_ok=True)  # of somebody who finished the trial by hand
    finished = finish(own)
    _show(directory, summary, finished)
    return summary


def _parsed(words: Sequence[str]) -> tuple[list[str], Space]:
    """The words that hold for every trial, and the distributions that the others describe in Hydra's grammar."""
    parser = OverridesParser.create()
    fixed, space = [], {}
    for word in words:
        key, _, text = word.partition("=")
        try:
            override = parser.parse_override(word)
            if not override.is_sweep_override():
                fixed.append(word)
                continue
            space[key] = _distribution(override)
        except (HydraException, ValueError) as error:
            reason = "" if isinstance(error, HydraException) else f": {one_line(error)}"
            raise InputError(f"{key}: cannot search {text!r}{reason}") from None
        if key.partition(".")[0] not in SEARCHED:
            raise InputError(f"{key} cannot be searched: only {' and '.join(SEARCHED)} and what is in them")
    return fixed, space


def _distribution(override: Any) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind = IntDistribution if whole else FloatDistribution
        return kind(value.start, value.end, log="log" in value.tags)  # type: ignore[arg-type]
    if isinstance(value, RangeSweep) and isinstance(values := value.range(), range) and values:
        return IntDistribution(min(values), max(values), step=abs(values.step))
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))


def _texts(distribution: BaseDistribution) -> list[str]:
    """The choices, or the two ends of an interval, as they stand in a word."""
    if isinstance(distribution, CategoricalDistribution):
        return [str(choice) for choice in distribution.choices]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [_text(distribution.low), _text(distribution.high)]


def _text(value: Any) -> str:
    return f"{value:.{PLACES}g}" if isinstance(value, float) else str(value)


def _words(parameters: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in parameters.items()]


def _compose(fixed: Sequence[str], searched: Mapping[str, Any]) -> Composed:
    """A trial's configuration, if its seeds are apart and this process alone trains it."""
    composed = compose_training([*fixed, *_words(searched)])
    settings = composed[1]
    check_seeds(settings.benchmark.seed, [settings.seed], settings.benchmark.tuning.seed, VALIDATION_SEED)
    require(settings.server.engine == "none", "server", settings.server.engine, "none in a search")
    return composed


def _storage(directory: Path) -> JournalStorage:
    """The trials so far, as the journal has them."""
    path = directory / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not path.is_file():
        raise InputError(f"{path} is missing: the search cannot go on without its trials")
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (AttributeError, LookupError, TypeError, ValueError):  # whatever its bytes make of optuna's reader
        raise InputError(f"{path} is damaged: the search cannot go on without its trials") from None


def _next_trial(study: optuna.Study, trials: int, space: Space, seed: int) -> Trial | None:
    """The trial that was interrupted, or the next one; None when there are enough."""
    past = study.get_trials(deepcopy=False)
    waiting = [trial for trial in past if not trial.state.is_finished()]
    number = waiting[0].number if waiting else len(past)
    if number == trials:
        return None
    # A sampler of its own for each trial: what optuna's would remember is lost when the process ends.
    study.sampler = TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
    if not waiting:
        return study.ask(space)
    trial = Trial(study, waiting[0]._trial_id)
    for key, distribution in space.items():
        trial._suggest(key, distribution)
    return trial


def _make(study: optuna.Study, trial: Trial, directory: Path, words: Sequence[str], scorer: Scorer) -> None:
    """Train and score a trial, and tell the study what became of it."""
    node, settings, market = compose_training(words)
    record(directory, node)
    if not (directory / run.METRICS).exists():
        market = with_baseline(market, tuning_of_run(directory, settings, market))
        try:
            learn(directory, settings, market, [_watch(trial, settings.learner.epochs)])
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            return
    figures = scorer.score(load_policy(directory / run.POLICY))
    trial.set_user_attr("sharpe_ratio", _sharpe_ratio(figures))
    if math.isfinite(figures["score"]):
        study.tell(trial, figures["score"])
    else:
        study.tell(trial, state=TrialState.FAIL)


def _watch(trial: Trial, epochs: int) -> Any:
    """A callback that reports the score of every validation and prunes a trial that has fallen behind."""
    from lightning.pytorch.callbacks import LambdaCallback  # imports torch, which a mistyped word need not wait for

    reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def watch(trainer: Any, module: Any) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch + 1
        if epoch not in reported:
            trial.report(figures["score"], epoch)
            trial.set_user_attr("sharpe_ratio", _sharpe_ratio(figures))
        if GRACE * epochs <= epoch < epochs and trial.should_prune():
            raise optuna.TrialPruned

    return LambdaCallback(on_validation_end=watch)


def _sharpe_ratio(figures: Mapping[str, float]) -> float | None:
    """Of the profit of a validation's paths; None where it does not vary."""
    mean, spread = figures["profit/mean"], figures["profit/std"]
    return mean / spread if spread > 0.0 and math.isfinite(mean / spread) else None


def _best(study: optuna.Study) -> FrozenTrial:
    try:
        return study.best_trial
    except ValueError:
        raise InputError("no trial of the search ended with a finite score: search among smaller steps") from None


def _selection(study: optuna.Study) -> dict[str, Any]:
    """What the deflated Sharpe ratio of the selected policy needs; pruned trials were attempts too."""
    past = study.get_trials(deepcopy=False)
    ratios = [trial.user_attrs["sharpe_ratio"] for trial in past if trial.user_attrs.get("sharpe_ratio") is not None]
    spread = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
    return {"trials": len(past), "sharpe_spread": spread, "seed": VALIDATION_SEED}


def _told(study: optuna.Study, fixed: Sequence[str], scorer: Scorer) -> dict[str, Any]:
    """What sweep.json holds of the trials so far."""
    past = study.get_trials(deepcopy=False)
    rows = [
        {
            "overrides": [*fixed, *_words(trial.params)],
            "directory": str(trial.number),
            "state": trial.state.name.lower(),
            "score": trial.value,
            "epochs": trial.last_step,
            "sharpe_ratio": trial.user_attrs.get("sharpe_ratio"),
        }
        for trial in past
    ]
    several = len({trial.value for trial in past if trial.state == TrialState.COMPLETE}) >= STARTUP
    return {
        "score": {"name": scorer.metric, "lower_is_better": scorer.lower_is_better},
        "importances": optuna.importance.get_param_importances(study) if several else {},
        "runs": rows,
    }


def _show(directory: Path, summary: Mapping[str, Any], finished: Run) -> None:
    """The table of the trials, the benchmark of the best, and how to train it again."""
    print_search(summary)
    print_benchmark(finished.benchmark)
    row = next(line for line in finished.benchmark["rows"] if line["quoter"] == "policy")
    ratio, deflated = row["sharpe_ratio"], row["deflated_sharpe_ratio"]
    if deflated is not None:
        luck = f"is above what luck gives the best of {summary['selection']['trials']} trials"
        print(f"its Sharpe ratio, {ratio:.3g} a path, {luck} with probability {deflated:.3g}")
    best = next(line for line in summary["runs"] if line["directory"] == summary["selected"])
    words = shlex.join(word for word in best["overrides"] if not word.startswith("seed="))
    seed = compose_training(best["overrides"])[1].seed
    print(f"train it again with other seeds: bitquote sweep seed={seed + 1},{seed + 2},{seed + 3} {words}")
    print(f"judge it again: bitquote benchmark run={directory}")
