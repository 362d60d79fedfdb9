#!/bin/sh
# Audit a checkpoint and let a policy decide about it. For any CI: the exit status is the verdict's.
#
#   MEMAUDIT_URL=https://memaudit.example MEMAUDIT_API_KEY=mak_… ./gate.sh MODEL TEXTS POLICY [OPTION…]
#
# MODEL is a directory that the service's workers can read, a hub repository org/name@revision or an id mdl_…;
# TEXTS a .jsonl, .csv or .parquet file; POLICY an id pol_… or a file like policy.json; OPTIONs are those of
# `memaudit audit`. What was found stays in audit.json and gate.json.
#
# 0: pass. 1: fail. 2: inconclusive, as too few texts decide nothing. 3: the service cannot be reached.
# 4: no decision, for another reason.
set -eu
model=$1 texts=$2 policy=$3
shift 3

status=0
memaudit audit --model "$model" --texts "$texts" --metrics nl,extraction "$@" --json >audit.json || status=$?
case $status in
0) ;;
3) exit 3 ;;
*) exit 4 ;;
esac

audit=$(python3 -c 'import json; print(json.load(open("audit.json"))["id"])')
memaudit gate --policy "$policy" --audit "$audit" --json >gate.json || status=$?
case $status in
0 | 1 | 2) ;;
3) exit 3 ;;
*) exit 4 ;;
esac

python3 -c 'import json
for rule in json.load(open("gate.json"))["rules"]:
    print(rule["outcome"] + ": " + rule["statement"])' || status=4
exit "$status"
