"""The encoders through every back end, at batches of 1 to 8: torch, torch from a CUDA graph, ONNX Runtime, TensorRT.

    PYTHONPATH=export python benchmarks/encoders.py [--size full] [--precision fp16] [--rounds 50] [--write [FILE.md]]
    PYTHONPATH=export python benchmarks/encoders.py --engines ENGINES --model DIR   # of a checkpoint, exported before

Without `--engines` a checkpoint of random encoders is written to a temporary folder and exported there, which takes
minutes at full size. All arms take turns on the same inputs. What an arm answered that could not run is in the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from report import add_write, foot, publish, table
from safetensors.torch import save_file
from sizes import SIZES, TINY
from stopwatch import percentile, samples
from torch import Tensor

from vispeak_export.engine import choose_toolkit
from vispeak_export.graphs import EncoderGraph, build_graph, load_graph
from vispeak_export.inputs import frames, seconds_of_sound
from vispeak_export.steps import ExportConfig, export_engine, export_onnx
from vispeak_node.model.checkpoint import config_to_dict, inspect_checkpoint
from vispeak_node.model.config import LanguageConfig, ModelConfig
from vispeak_node.runtime.onnx_backend import OnnxBackend
from vispeak_node.runtime.sidecar import encoder_path, read_sidecar
from vispeak_node.runtime.tensorrt_backend import TensorRTBackend

Run = Callable[[Tensor], object]


def write_encoders(folder: Path, size: str) -> None:
    """A checkpoint of both encoders with random weights, and nothing else."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    whole = SIZES[size]
    hidden = whole.language.hidden_size
    config = ModelConfig(whole.vision, whole.audio, LanguageConfig(64, hidden, num_layers=1, num_heads=hidden // 64,
                                                                   num_kv_heads=hidden // 128))  # fmt: skip
    state: dict[str, Tensor] = {}
    for part in ("vision", "audio"):
        tensors = build_graph(config, part).state_dict()
        state |= {f"model.{name}": tensor.half() for name, tensor in tensors.items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_to_dict(config)))


def export(folder: Path, out: Path, part: str, precision: str) -> list[tuple[str, str]]:
    """Graph and engine; what was answered where one could not be made."""
    config = ExportConfig(folder, out, precision, num_inputs=2)
    answers = []
    for name, step in (("onnx", export_onnx), ("tensorrt", export_engine)):
        try:
            step(config, part)
        except ValueError as error:
            answers.append((name, f"{error}"))
    return answers


def arms(folder: Path, engines: Path, part: str, device: torch.device) -> tuple[dict[str, Run], list[tuple[str, str]]]:
    """What can run here, and what the others answered."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    graph = load_graph(folder, part)
    graph.set_precision("fp32" if device.type == "cpu" else "bf16")
    graph = graph.to(device)
    found: dict[str, Run] = {f"torch, eager, {str(dtype).removeprefix('torch.')}": lambda x: graph(x.to(device))}
    answers: list[tuple[str, str]] = []
    if device.type == "cuda":
        found["torch, CUDA graph"] = CudaGraphs(graph, device).run
        compiled = torch.compile(graph, dynamic=False)
        found["torch.compile"] = lambda x: compiled(x.to(device))
    for kind, backend in (("onnx", OnnxBackend), ("tensorrt", TensorRTBackend)):
        file = encoder_path(engines, part, kind)
        if not file.is_file():
            continue
        try:
            sidecar = read_sidecar(file)
            made = backend(file, sidecar, device, dtype)
            found[made.name] = made.run
        except (ValueError, RuntimeError) as error:
            answers.append((kind, str(error).splitlines()[0]))
    return found, answers


class CudaGraphs:
    """A graph of CUDA launches for every batch that comes."""

    def __init__(self, graph: EncoderGraph, device: torch.device) -> None:
        self._graph, self._device = graph, device
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]] = {}

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        if len(inputs) not in self._recorded:
            self._record(inputs)
        recorded, place, outputs = self._recorded[len(inputs)]
        place.copy_(inputs, non_blocking=True)
        recorded.replay()
        return outputs

    def _record(self, inputs: Tensor) -> None:
        place = inputs.to(self._device)
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                self._graph(place)
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            outputs = self._graph(place)
        self._recorded[len(inputs)] = recorded, place, outputs


def measure(runs: dict[str, Run], inputs: Tensor, arguments: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """Rows of a table; a run that fails is taken out and named."""
    failed: list[str] = []
    rows: dict[str, list[str]] = {name: [name] for name in runs}
    for batch in arguments.batches:
        piece = inputs[:batch]
        for name in list(runs):
            try:
                runs[name](piece)
            except RuntimeError as error:
                failed.append(f"{name}, batch {batch}: {str(error).splitlines()[0]}")
                del runs[name], rows[name]
        works = {name: partial(run, piece) for name, run in runs.items()}
        for name, times in samples(works, arguments.device, arguments.rounds).items():
            rows[name].append(f"{statistics.median(times):.2f} / {percentile(times, 0.99):.2f}")
    return list(rows.values()), failed


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("tiny", *SIZES), help="tiny: the shipped checkpoint (default: full on CUDA)")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8", "fp8"), help="of what is exported")
    parser.add_argument("--parts", nargs="+", choices=("vision", "audio"), default=["vision", "audio"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--model", type=Path, help="a checkpoint, with --engines")
    parser.add_argument("--engines", type=Path, help="folder of its exported encoders")
    add_write(parser)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1 if device.type == "cpu" else torch.get_num_threads())
    size = arguments.size or ("full" if device.type == "cuda" else "tiny")
    precision = arguments.precision or ("fp16" if device.type == "cuda" else "fp32")
    lines = ["# The encoders by back end"]
    with tempfile.TemporaryDirectory() as place:
        folder, engines = arguments.model or TINY, arguments.engines or Path(place) / "engines"
        if arguments.model is None and size != "tiny":
            folder = Path(place) / "model"
            write_encoders(folder, size)
        config = inspect_checkpoint(folder).config
        for part in arguments.parts:
            answers = [] if arguments.engines else export(folder, engines, part, precision)
            make = frames if part == "vision" else seconds_of_sound
            inputs = make(config, max(2, *arguments.batches), None)
            with torch.inference_mode():
                runs, refused = arms(folder, engines, part, device)
                rows, failed = measure(runs, inputs, arguments)
            header = ("back end", *(f"batch {batch}, ms p50 / p99" for batch in arguments.batches))
            lines += ["", f"## {part}, {size}, exported in {precision}", "", *table(header, rows), ""]
            lines += [f"- {name}: {answer}" for name, answer in answers + refused] + [f"- {line}" for line in failed]
    try:
        lines += ["", f"Engines by {choose_toolkit().kind}."]
    except ValueError as error:
        lines += ["", f"No engines: {error}."]
    clock = "thread CPU time of one thread" if device.type == "cpu" else "GPU time by events, inputs copied in"
    lines += foot(arguments.device, "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", remark=clock)
    publish("encoders", [line.replace(place, "TMP") for line in lines], arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
