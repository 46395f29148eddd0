"""The full-size vision encoder with random weights, to an ONNX graph and an engine: time, size, memory, fidelity.

    PYTHONPATH=export python benchmarks/export_encoders.py [--precision fp16] [--write [FILE.md]]

The dimensions are InternViT-300M's at 448 px, pooling 2, and a projector to Qwen2.5-7B's width. The checkpoint is made
on the spot and holds nothing else. Each step is a process of its own, the command that a person would run. Needs 5 GB
of disk in the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import add_write, foot, publish, table
from safetensors.torch import save_file

from vispeak_export.graphs import build_graph
from vispeak_node.model.checkpoint import config_to_dict
from vispeak_node.model.config import LanguageConfig, ModelConfig


def write_checkpoint(folder: Path, dtype: torch.dtype = torch.float16) -> int:
    """A vision encoder of the released size and nothing else; returns its number of weights."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    config = ModelConfig(language=LanguageConfig(num_layers=1))
    graph = build_graph(config, "vision")
    state = {f"model.{name}": tensor.to(dtype) for name, tensor in graph.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_to_dict(config)))
    return sum(tensor.numel() for tensor in state.values())


def run_step(*words: str) -> dict[str, float | str]:
    """One `vispeak-export` command: what it said, its wall seconds, and its peak of memory in GB."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vispeak_export.cli", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"vispeak-export {' '.join(words)}: {done.stdout}{done.stderr}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9  # of the greatest child so far
    return {"said": done.stdout.strip(), "seconds": time.perf_counter() - begin, "peak": peak}


def main() -> int:
    """Prints a table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8", "fp8"), default="fp16")
    parser.add_argument("--inputs", type=int, default=2)
    add_write(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model, out = Path(place) / "full", Path(place) / "engines"
        weights = write_checkpoint(model)
        common = ("--model", str(model), "--out", str(out), "--part", "vision")
        onnx = run_step("onnx", *common, "--precision", arguments.precision, "--inputs", str(arguments.inputs))
        engine = run_step("engine", *common)
        graph, plan = (json.loads((out / f"vision.{kind}.json").read_text()) for kind in ("onnx", "engine"))
        sizes = {path.name: path.stat().st_size / 1e6 for path in out.iterdir()}
    found = graph["validation"]
    rows = [
        ("ONNX graph and data, MB", f"{sizes['vision.onnx'] + sizes['vision.onnx.data']:.0f}"),
        ("written in, s", f"{graph['build_seconds']:.1f}"),
        ("cosine with torch float32, least of all tokens", f"{found['cosine_min']:.7f}"),
        ("largest difference", f"{found['max_abs']:.2g}"),
        ("not finite", f"{found['num_not_finite']}"),
        ("the whole `onnx` step with validation, s", f"{onnx['seconds']:.1f}"),
        (f"engine ({plan['kind']}), MB", f"{sizes['vision.engine']:.0f}"),
        ("built in, s", f"{plan['build_seconds']:.1f}"),
        ("the whole `engine` step, s", f"{engine['seconds']:.1f}"),
        ("greatest peak of memory of the two, GB", f"{max(float(onnx['peak']), float(engine['peak'])):.1f}"),
    ]
    lines = [
        "# The full-size vision encoder as an ONNX graph and an engine",
        "",
        f"InternViT-300M at 448 px, pooling 2, projector to 3584: {weights / 1e6:.0f} M random weights, "
        f"{arguments.precision}; uint8 frames in, 64 embeddings a frame out; batches of 1 to {plan['max_batch']}.",
        "",
        *table(("what", "value"), rows),
        *foot("cpu", "onnx", "onnxscript", "onnxruntime", "tensorrt-rtx", "tensorrt", "nvidia-modelopt",
              remark=f"GPU of the engine: {plan['gpu']}; seconds are wall clock; started with PYTHONPATH=export"),
        f"The engine's own validation: {plan['validation']['status']}.",
    ]  # fmt: skip
    publish(f"export-{arguments.precision}", lines, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
