#!/bin/sh
# Audit a checkpoint and let a policy decide about it. For any CI: the exit status is the verdict's.
#
#   MEMAUDIT_URL=https://memaudit.example MEMAUDIT_API_KEY=mak_… ./gate.sh MODEL TEXTS POLICY [OPTION…]
#
# MODEL is a directory that the service's workers can read, a hub repository org/name@revision or an id mdl_…;
# TEXTS a .jsonl, .csv or .parquet file; POLICY the id of a policy, pol_…; OPTIONs are those of `memaudit audit`.
# 0: pass. 1: fail, or no verdict at all. 2: inconclusive, as too few texts decide nothing.
set -eu
model=$1 texts=$2 policy=$3
shift 3

memaudit audit --model "$model" --texts "$texts" --metrics nl,extraction "$@" --json >audit.json || exit 1

python3 - "$policy" audit.json <<'END'
import json
import sys

from memaudit import Client

policy, report = sys.argv[1:]
with open(report) as file, Client() as client:
    gate = client.gates.create(policy=policy, audit=json.load(file)["id"])
    gate = client.gates.wait(gate.id)
for rule in gate.rules:
    print(f"{rule.outcome}: {rule.statement}")
print(f"gate {gate.id}: {gate.outcome or gate.status}")
sys.exit({"pass": 0, "inconclusive": 2}.get(gate.outcome, 1))
END
