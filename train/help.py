"""What `bitquote --help` and `bitquote <verb> --help` print."""

from __future__ import annotations

COMMAND = """\
bitquote: ternary networks that learn to quote inside a compiled limit order book

usage: bitquote <verb> [key=value ...]

verbs:
  train      train a policy and benchmark it; resume a run
  benchmark  judge the closed forms of a market, and trained policies beside them
  calibrate  make a market from a recording
  replay     replay a recording, and let quoters and policies quote into it
  export     write a trained policy to a file of its own
  sweep      train over lists of values, one run after the other, or search for the best
  kernels    say which compiled kernels this machine takes, and why
  doctor     say what this machine has for a run, and what would break one

  bitquote <verb> --help   says more        bitquote --version   prints the version

Long work shows on stderr how far it has come, its rate and the time left: BITQUOTE_OUTPUT=rich in the environment as a
bar (the default on a terminal), BITQUOTE_OUTPUT=plain as a line every ten seconds without control characters (the
default elsewhere), BITQUOTE_OUTPUT=quiet not at all.

The words are Hydra overrides of conf/: market=game chooses a file, market.gamma=0.05 changes one value.
"""

_SETTINGS = """\
  market=order_book     order_book, game, btcusdt_spot, btcusdt_usdm, a scenario, or a path to your own .yaml
                        scenarios: calm clustered toxic tight wide competition self_play whale_block whale_sliced
                        pump crash cascade stuffed washed
  market.gamma=...      risk aversion; every other key of the market's file can be given too
  objective=penalty     penalty or cara
"""
_BENCHMARK = """\
  benchmark.paths=2000  paths in the order book, common to all quoters
  benchmark.seed=1000000
  threads=null          threads of the compiled simulation; null is one per core (per worker, its share of them)
"""

VERBS = {
    "train": f"""\
usage: bitquote train [key=value ...]
       bitquote train run=<run directory>       goes on where an interrupted run stopped

Trains a policy, benchmarks it beside every closed form, and leaves a run directory: policy.safetensors, config.yaml,
metrics.json, benchmark.json (with report.html, a page to read, and benchmark.csv), log.txt, checkpoints and TensorBoard
events. Ctrl-C loses nothing: the run can be resumed.

common keys and their defaults:
{_SETTINGS}\
  policy=ternary        ternary or fp32
  policy.baseline=...   direct (from scratch) or residual (added to the tuned GLFT quotes)
  policy.weight_scale=absmean              absmean or absmedian        (this and the next two: of policy=ternary)
  policy.input_quantisation=per_feature    per_feature or per_row
  policy.head=fp                           fp or learned_scale
  learner=pathwise      distill, pathwise or ppo
  learner.epochs=...    how long to learn; learner.learning_rate=..., learner.paths=... and the rest of its file
  learner.quantisation_warm_up=0.0         share of the updates over which ternary quantisation sets in
  server=none           none, shm (workers on the cores of this machine), ray (on a cluster), or inproc (for tests)
  server.workers=2      with a server; server.consistency=bounded (or bsp, async), server.tau=4 and the rest of its file
  seed=1
  output=<directory>    a new run directory; runs/<market>/<time>-<number> when left out
{_BENCHMARK}
examples:
  bitquote train
  bitquote train market=game learner=distill seed=3
  bitquote train market=game server=shm server.workers=2
  bitquote train market=btcusdt_spot policy=fp32 market.gamma=0.02 output=runs/mine
""",
    "benchmark": f"""\
usage: bitquote benchmark [key=value ...]
       bitquote benchmark run=<run directory>[,<run directory> ...] [key=value ...]
       bitquote benchmark suite=<name or .yaml> [run=...] [output=<directory>]

Without run=, judges the closed forms of a market. With it, judges the trained policies beside them, on the runs' own
market; several runs of different seeds (or the directory of a sweep) also give a pooled row. Prints the table and
writes benchmark.json: into the run directory, into a new one, or to output=<file>. Beside it stand report.html, one
page that holds all it needs (claim, table, pictures, limits, provenance), and benchmark.csv; with output=other.json
they are other.html and other.csv.

A suite is several markets, or several settings of one, in one table and one picture, in a directory that holds a
file for each; the same command with the same output= goes on where it was interrupted. With run= the policies are
judged there as they were trained, wherever that was; p-values are corrected for the number of cells (Holm).
market=calm,toxic makes a suite of two. Those that ship: scenarios, published, game_gamma, calibrated; ternary and
learned train five and ten policies a cell, which takes half an hour or more. A file of your own holds `cells:` (a list
of words for each name) and, if it likes, `words:` common to all, `seeds:` of policies to train in each cell, `pairs:`
of cells whose policies are compared with each other on the same paths, and a `description:`.

common keys and their defaults (with run=, only the benchmark's own):
{_SETTINGS}{_BENCHMARK}\
  log=<directory>       quotes and fills, one Parquet file a quoter, a row a decision; of each market in its own folder
  log_paths=100         of so many of the paths
  cluster=<address>     spread the paths of order books over a Ray cluster: host:port, auto (the one that runs on this
                        machine) or local (start one here); no result depends on it. Needs bitquote[ray] on every node

examples:
  bitquote benchmark market=game market.gamma=0.5 objective=cara
  bitquote benchmark run=runs/game/20260101-120000-1 benchmark.paths=10000 output=more_paths.json
  bitquote benchmark suite=scenarios run=runs/direct output=runs/scenarios
  bitquote benchmark run=runs/direct log=runs/direct/log log_paths=20
""",
    "calibrate": """\
usage: bitquote calibrate data=<recording> output=<market.yaml> [key=value ...]
       bitquote calibrate data=<recording>,<recording>[,...] output=<folder> [key=value ...]

Reads a recording (raw Binance .gz, Bitstamp orders, or a LOBSTER message file), estimates volatility, arrival and fill
intensities with their intervals and the goodness of fit, clustering (Hawkes) and information (PIN, VPIN), sizes, spread
and depth, and writes a market that `bitquote train market=<market.yaml>` takes, with two pages of pictures beside it
(<market>.png, <market>_stylised.png) that show the simulated market next to the recording.

keys and their defaults:
  data=<recording>      required
  output=<market.yaml>  required
  tick=...              the exchange's tick, checked against the recording; inferred when left out
  step=...              price step of the simulation; about half of what the mid moves in a decision
  decision_interval=0.1 seconds
  maker_fee=...         fraction of the notional; Binance's without discounts, else 0. taker_fee=... likewise
  gap=...               seconds within which taker orders of one side count as one burst; decision_interval when left
                        out. With gap=0 each order counts, and a quote that rests is filled too often
  hawkes=true           taker orders excite each other as in the recording; false: they come at constant rates
  format=...            binance, bitstamp or lobster; told by the content when left out
  order_book=...        the order-book file beside a LOBSTER message file
  name=...              of the market; symbol and kind
  seed=0                of the simulations

Several recordings of one instrument, in the order of time, are walked forward: output= is then a new folder for a
market each, the quotes tuned on an earlier market are judged on every later one, and the table says what they lose to
quotes tuned there. train=true also trains a policy on each but the last; all words of `bitquote train` can be added.

examples:
  bitquote calibrate data=spot_btcusdt.gz output=my_market.yaml
  bitquote calibrate data=bitstamp.csv.xz decision_interval=10 output=illiquid.yaml
  bitquote calibrate data=monday.gz,tuesday.gz output=walk benchmark.paths=1000
""",
    "replay": """\
usage: bitquote replay data=<recording> [key=value ...]
       bitquote replay data=<recording> market=<market> [quoter=<name>[,<name> ...]] [market.gamma=... ...]
       bitquote replay data=<recording> run=<run directory> [quoter=<name>[,<name> ...]]

Sends a recording through the order book and reports every event: by what became of it, with the lines of those that
contradict the book, and how often the rebuilt best bid and offer are the recorded ones.

With a market or a run, closed forms and the run's policy also quote into the recording, in episodes of the market's
length: by its tick, order size, limits, fees, latencies and decision interval, with the recorded market for all others.
The market's tick must be a multiple of the recording's, and its order size one of the recording's lot.

keys and their defaults:
  data=<recording>      required; plain or compressed
  format=...            binance, bitstamp or lobster; told from the first line when left out
  order_book=<file>     LOBSTER's order-book file beside the message file data=
  market=...            order_book, btcusdt_spot, ..., or a path to your own .yaml; its other keys can be given too
  run=<run directory>   a trained policy, with its own market
  quoter=glft_tuned     closed forms, by their names in the benchmark; with run=, none but the policy
  queue_model=proportional   where no orders are known (binance): proportional, or conservative (only trades advance)
  latency=...           seconds from a decision to the exchange; the market's two when left out
  start=1.0             seconds after the first event at which the first episode begins
  output=<file.json>    also writes the figures

examples:
  bitquote replay data=orders.csv.xz
  bitquote replay data=spot_btcusdt.gz market=btcusdt_spot quoter=glft_tuned,symmetric output=quoted.json
  bitquote replay data=spot_btcusdt.gz run=runs/btcusdt_spot/20260101-120000-1
""",
    "export": """\
usage: bitquote export run=<run directory> output=<file> [target=safetensors|c]

Writes the trained policy of a run to a file of its own, after checking that it is whole. The file holds the weights,
the names, order and ranges of the observations, the action scale and the market; bitquote.ternary.load_policy reads
it without torch.

Beside it goes <file without its ending>.md, a model card: architecture, bits a weight, zeros, operations, bytes, the
market of the training, and the policy's row of the run's benchmark.json if there is one.

keys:
  run=<run directory>   required
  output=<file>         required
  target=safetensors    a .safetensors file; or c: a .c file, C99 without dependencies, of a ternary policy, whose
                        function <stem of output>_quote gives the same quotes to the last bit

examples:
  bitquote export run=runs/game/20260101-120000-1 output=policy.safetensors
  bitquote export run=runs/game/20260101-120000-1 output=quoter.c target=c
""",
    "sweep": """\
usage: bitquote sweep key=value[,value ...] [key=value[,value ...] ...]
       bitquote sweep trials=<number> key=interval(low,high) [key=choice(value,value,...) ...]
       bitquote sweep run=<sweep directory>     goes on where an interrupted sweep stopped

Trains every combination of the listed values, one run after the other, and leaves sweep.json and one run directory
each. The words are those of `bitquote train`.

With trials=, searches instead (optuna's TPE): policy, learner and the keys in them may be interval(low,high),
int(interval(low,high)), tag(log,interval(low,high)), range(start,stop,step), choice(a,b,...) or a,b,... Trials are
ranked on paths of a validation seed; those that fall behind the median are pruned. Only the best is judged on the
test seed, and its deflated Sharpe ratio knows of how many trials it is the best. Leaves sweep.png too.

keys:
  trials=<number>       how many to try, 1 to 1000
  output=<directory>    a new sweep directory; runs/sweep/<time>-<number> when left out

examples:
  bitquote sweep market=game seed=1,2,3,4,5
  bitquote sweep market=game learner=pathwise,ppo policy=ternary,fp32 output=runs/compare
  bitquote sweep trials=20 'learner.learning_rate=tag(log,interval(1e-3,3e-2))' 'policy.hidden=choice([32,32],[64,64])'
""",
    "kernels": """\
usage: bitquote kernels

Says whether the compiled policy takes AVX2 or the portable path on this machine, and why. Both give the same integers
and the same quotes. BITQUOTE_KERNELS=portable or BITQUOTE_KERNELS=avx2 in the environment decides.
""",
    "doctor": """\
usage: bitquote doctor

Prints the versions, the cores, the path of the compiled kernels, where numba keeps what it compiles, whether that
folder and the current one can be written and how much disk is free, whether Ray and a GPU are there, and a verdict.
What would break a run has its remedy after an arrow; the exit status is then 1, and 0 when all is well.
""",
}
