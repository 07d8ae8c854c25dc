#!/usr/bin/env bash
# What every protocol sees of five objectives on the English mix:
# 3 seeds at 4e12 FLOPs and one at 2e13. Some three hours on two cores.
#   bash benchmarks/evaluation.sh [OUT] [more options of `lookaround compare`]
#   python -m benchmarks.studies OUT/4e12/results.json --json results/data/evaluation.json
#   python -m benchmarks.studies OUT/2e13/results.json --json results/data/evaluation-2e13.json
# Reads $LOOKAROUND_DATA (default ../shared/data): text/, classification/, glue/, tokens/, pairs/.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//'; exit ;; esac
data=$(cd "${LOOKAROUND_DATA:-$(dirname "$0")/../../shared/data}" && pwd)
out=${1:-lookaround-evaluation}; shift || true
mix=$(mktemp -d)/mix; mkdir "$mix"; trap 'rm -rf "$(dirname "$mix")"' EXIT
for file in wiki.train.txt.xz fiction.train.txt.xz dialogue.train.jsonl.xz brown.tsv.xz; do
  ln -s "$data/text/$file" "$mix/"
done
lookaround=${LOOKAROUND:-$(dirname "$0")/../.venv/bin/lookaround}
study() { # folder, seeds, budget, rungs
  $lookaround compare "$mix" --out "$1" --seeds "$2" --budget "$3" \
    --objectives "ar, mlm(rate=0.4), dar, vmlm, ar + vmlm" \
    --protocols "probe, tokens, finetune, pairs, order, bits_per_byte" \
    --task "$data/tokens/ewt.train.conllu.xz:upos" \
    --task "$data/tokens/ewt.train.conllu.xz:deprel" \
    --task "$data/tokens/conll2000.train.txt.xz" \
    --task "$data/tokens/snips_slots.train.jsonl.xz" \
    --task "$data/classification/snips/train.tsv.xz" \
    --task "$data/glue/SST-2" \
    --task "$data/pairs/blimp.jsonl.xz" \
    --set model.context=64 --set train.batch=16 --set data.vocabulary=1024 \
    --set "compare.ladder=$4" --set evaluate.positions=128 --set evaluate.pairs=20 \
    --set evaluate.samples=0 "${@:5}"
}
mkdir -p "$out"
study "$out/4e12" 3 4e12flops "[0.5,1]" "$@"
study "$out/2e13" 1 2e13flops "[0.2,0.5,1]" "$@"
