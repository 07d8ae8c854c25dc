#!/usr/bin/env bash
# The English study of results/english.md: eight objectives and one repair, 3 seeds, on wiki,
# fiction, dialogue and Brown. About 50 minutes on two cores.
#   bash benchmarks/english.sh [OUT] [more options of `lookaround compare`]
#   python -m benchmarks.studies lookaround-english/results.json --json results/data/english.json
# Reads $LOOKAROUND_DATA (default ../shared/data), which holds text/, classification/ and glue/.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//'; exit ;; esac
data=$(cd "${LOOKAROUND_DATA:-$(dirname "$0")/../../shared/data}" && pwd)
out=${1:-lookaround-english}; shift || true
mix=$(mktemp -d)/mix; mkdir "$mix"; trap 'rm -rf "$(dirname "$mix")"' EXIT
for file in wiki.train.txt.xz fiction.train.txt.xz dialogue.train.jsonl.xz brown.tsv.xz; do
  ln -s "$data/text/$file" "$mix/"
done
objectives="ar, mlm, mlm(rate=0.4), dar, vmlm, mdlm, ar + vmlm, 0.25*ar >> 0.75*mlm(rate=0.4)"
objectives+=", 0.7*mlm(rate=0.4) >> 0.3*vmlm(suffix=0.5, shift=0)"
lookaround=$(dirname "$0")/../.venv/bin/lookaround
"$lookaround" compare "$mix" --out "$out" --seeds 3 --budget 4e12flops \
  --objectives "$objectives" \
  --task "$data/classification/sentence_polarity/all.tsv.xz" \
  --task "$data/classification/snips/train.tsv.xz" \
  --task "$data/classification/banking77/train.tsv.xz" \
  --task "$data/glue/CoLA/train.tsv.xz" \
  --set model.context=64 --set train.batch=16 --set data.vocabulary=1024 \
  --set evaluate.probe_train=1500 --set evaluate.probe_test=1000 \
  --set evaluate.positions=128 "$@"
