#!/usr/bin/env bash
# What every protocol sees of five objectives on the English mix:
# 3 seeds at 4e12 FLOPs and one at 2e13. Some three hours on two cores.
#   bash benchmarks/evaluation.sh [OUT] [4e12 | 2e13 | 5e13 | topics] [more options of `compare`]
# 5e13: four objectives at one rate, 3 seeds, without fine-tuning; topics: far targets, 3 seeds at
# 2e13. Some three hours and one on two cores, minutes on a GPU with `--jobs 12` under its
# multi-process service.
#   python -m benchmarks.studies OUT/4e12/results.json --json results/data/evaluation.json
#   python -m benchmarks.studies OUT/2e13/results.json --json results/data/evaluation-2e13.json
# Reads $LOOKAROUND_DATA (default ../shared/data): text/, classification/, glue/, tokens/, pairs/.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//'; exit ;; esac
data=$(cd "${LOOKAROUND_DATA:-$(dirname "$0")/../../shared/data}" && pwd)
out=${1:-lookaround-evaluation}; shift || true
case "${1:-}" in 4e12 | 2e13 | 5e13 | topics) which=$1; shift ;; *) which="4e12 2e13" ;; esac
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
topics() { # folder
  $lookaround compare "$mix" --out "$1" --seeds 3 --budget 2e13flops \
    --objectives "ar, dar, dar(horizon=64, share=1)" --protocols "probe, bits_per_byte" \
    --task "$data/classification/banking77/train.tsv.xz" \
    --task "$data/classification/clinc150/train.tsv.xz" \
    --task "$data/classification/snips/train.tsv.xz" --task "$data/text/brown.tsv.xz" \
    --set model.context=64 --set model.precision=fp32 --set train.batch=32 \
    --set data.vocabulary=1024 --set "compare.ladder=[0.2,1]" --set "compare.lr_factors=[2]" \
    --set evaluate.positions=32 --set evaluate.samples=0 --set forecast.enabled=false "${@:2}"
}
mkdir -p "$out"
for name in $which; do
  case $name in
    4e12) study "$out/4e12" 3 4e12flops "[0.5,1]" "$@" ;;
    2e13) study "$out/2e13" 1 2e13flops "[0.2,0.5,1]" "$@" ;;
    5e13) study "$out/5e13" 3 5e13flops "[0.08,0.4,1]" \
      --objectives "ar, dar, mlm(rate=0.4), ar + vmlm" --set model.precision=fp32 \
      --protocols "probe, tokens, pairs, order, bits_per_byte, misalignment" \
      --set "compare.lr_factors=[2]" "$@" ;;
    topics) topics "$out/topics" "$@" ;;
  esac
done
