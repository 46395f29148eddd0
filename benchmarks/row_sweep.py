"""Passes by their number of rows: which sizes are worth a graph of their own.

    python benchmarks/row_sweep.py [--rows 1 16 64 65 72 78 80 96 128] [--size full] [--write [FILE.md]]

Random weights over a full cache; on CUDA each pass is a graph that is replayed, on a CPU a static pass. A graph may
serve every shorter request, padded, so a size pays where the next larger one takes markedly longer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial

import torch
from report import add_write, foot, publish, table
from sizes import add_size, describe, random_model
from stopwatch import samples

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.fused_layers import fused_layers
from vispeak_node.runtime.graphs import GraphedPass, StaticPass
from vispeak_node.runtime.ring import Budget, Part, RingCache, Unit


def passes(model: ViSpeakModel, sizes: list[int], context: int, kernels: str) -> dict[str, StaticPass]:
    """One pass of each size over one ring."""
    ring = RingCache(model.config.language, Budget(1, context, 1, 0, context + 2), model.dtype, model.device)
    ring.place([(Unit(Part.WINDOW), context)])
    fused = fused_layers(model, ring, kernels)
    if model.device.type != "cuda":
        made = [StaticPass(model, ring, size, fused) for size in sizes]
    else:
        pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        made = [GraphedPass(model, ring, size, fused, pool, stream) for size in sizes]
    for static in made:
        static._positions_C.copy_(ring.positions)
        static._positions_T.fill_(context)  # every row sees all of the cache
    return {str(static.size): static for static in made}


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 8, 16, 32, 48, 64, 65, 72, 78, 80, 96, 112, 128])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--kernels", choices=("auto", "never"), default="auto")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on a CPU)")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    context = arguments.context or (390 if cpu else 4700)
    with torch.inference_mode():
        model = random_model(arguments)
        made = passes(model, sorted(arguments.rows), context, arguments.kernels)
        works = {name: partial(static._compute) for name, static in made.items()}
        times = samples(works, arguments.device, arguments.rounds)
    medians = {int(name): statistics.median(values) for name, values in times.items()}
    rows = [(size, f"{took:.3f}", f"{took / size:.4f}") for size, took in medians.items()]
    fused = next(iter(made.values()))._fused is not None
    lines = [
        "# Passes by their number of rows",
        "",
        f"{describe(model, arguments)} {context} cached positions; "
        f"{'kernels' if fused else 'torch layers'}, {'static' if cpu else 'graphs'}.",
        "",
        *table(("rows", "p50, ms", "ms a row"), rows),
        *foot(arguments.device, "triton", remark="thread CPU time of one thread" if cpu else "GPU time by events"),
    ]
    publish("row-sweep", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
