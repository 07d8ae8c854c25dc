"""A record of results/data from the results.json of a study.

    python -m benchmarks.studies lookaround-english/results.json --json results/data/english.json
    python -m benchmarks.studies full/results.json --json results/data/synthetic.json --figures docs/img
    python -m benchmarks.studies lookaround-compare/results.json --json results/data/stdlib.json \\
        --tradeoff docs/img/tradeoff.svg

Seconds. The study itself is run by the command that its results.json holds. A comparison gives the
rows `scores` (the whole budget), `ladder` (every rung) and `claims` (the paper's two claims as
paired differences, where its objectives were compared); a synthetic study gives `runs`.
"""
