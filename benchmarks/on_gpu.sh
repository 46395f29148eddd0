#!/usr/bin/env bash
# The tests and benchmarks that need a GPU, what matters most first; each report is written when it is there.
#   benchmarks/on_gpu.sh FOLDER [SECONDS]      SECONDS: for each (default 150); PYTHON=... picks the interpreter
set -u
cd "$(dirname "$0")/.."
folder=${1:?"usage: benchmarks/on_gpu.sh FOLDER [SECONDS]"} limit=${2:-150} python=${PYTHON:-python3}
export PYTHONPATH=$PWD:$PWD/training:$PWD/export${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$folder"

# name, then the command's words
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    timeout "$limit" "$python" "$@" >"$folder/$name.log" 2>&1 || status=$?
    echo "== $name: exit $status after $((SECONDS - begin)) s"
    [[ $status == 0 ]] || tail -n 5 "$folder/$name.log"
}

"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null || { echo "$python has no torch that sees a GPU" >&2; exit 2; }
step tests -m pytest -q -p no:cacheprovider tests/runtime -k "gpu or cuda or graphs or interpreted"
for name in segment_latency decode kernels row_sweep steady multi_session end_to_end quantisation encoders; do
    step "$name" "benchmarks/$name.py" --write "$folder/$name.md"
done
