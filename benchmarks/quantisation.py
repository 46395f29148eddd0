"""Quantised weights: bytes, speed of prefill and of decoding, and whether the same decisions come out.

    python benchmarks/quantisation.py [--device cuda] [--write [FILE.md]]

Speed is measured on random weights (on CUDA of the released size, on the CPU a 14th of it: two of 28 layers), all kinds
interleaved: the packed layers alone (on CUDA from a CUDA graph: the weights are timed and not the launches), and a
whole pass with attention, launched from Python. Prefill is a silent second, which reads no `lm_head`; decoding is one
row through everything. Decisions are those of a checkpoint over a video. CPU times are thread CPU time of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import add_write, foot, publish
from stopwatch import copy_bandwidth, interleaved
from torch import Tensor, nn

from vispeak_node.commands.clip import Clip
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.cache import GrowingCache
from vispeak_node.runtime.outputs import Output, ReplyFinished, Score
from vispeak_node.runtime.quantise import WEIGHTS, QuantisedReport, check_fp8, quantise
from vispeak_node.runtime.quantised_linear import QuantisedLinear
from vispeak_node.runtime.session import Session

TINY = Path(__file__).parent.parent / "models/vispeak-tiny"
SEGMENT = 78  # positions of a released model's second: 65 of the frame, 13 of the sound
DTYPE = torch.bfloat16


def random_model(hidden: int, layers: int, vocabulary: int, device: str) -> ViSpeakModel:
    """A language model with the released one's proportions; encoders as small as possible."""
    config = ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        LanguageConfig(vocabulary, hidden, hidden * 37 // 7, layers, hidden // 128, max(1, hidden // 896)),
    )
    torch.manual_seed(0)
    torch.set_default_dtype(DTYPE)
    try:
        with torch.device(device):
            return ViSpeakModel(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def layers_alone(model: ViSpeakModel, rows: int, device: str) -> Callable[[], object]:
    """All layers that quantising packs, each on an input of its own; the output head only with one row."""
    kinds = (nn.Linear, QuantisedLinear)
    linears = [module for module in model.model.layers.modules() if isinstance(module, kinds)]
    linears += [model.lm_head] if rows == 1 else []
    widths = {linear.in_features for linear in linears}
    inputs = {width: torch.randn(rows, width, device=device).to(DTYPE) for width in sorted(widths)}

    def run() -> None:
        for linear in linears:
            linear(inputs[linear.in_features])

    return run if device == "cpu" else _graph(run)


def _graph(work: Callable[[], object]) -> Callable[[], object]:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def whole_pass(model: ViSpeakModel, rows: int, context: int, device: str) -> Callable[[], object]:
    """A pass over `rows` positions after `context` others; with one row, the next token too."""
    hidden = model.config.language.hidden_size
    cache = GrowingCache(model.config.language.num_layers)
    model.forward_embeds(torch.randn(1, context, hidden, device=device).to(DTYPE), 0, cache)
    embeds_BTD = torch.randn(1, rows, hidden, device=device).to(DTYPE)

    def run() -> Tensor:
        cache.truncate(context)
        # all positions of the last layer too: in a small stack, leaving them out would flatter
        hidden_BTD = model.forward_embeds(embeds_BTD, context, cache)
        return model.lm_head(hidden_BTD[0]).argmax() if rows == 1 else hidden_BTD

    return run


def linear_bytes(part: nn.Module) -> int:
    """What the linear layers of a part take, packed or not."""
    linears = [module for module in part.modules() if isinstance(module, nn.Linear | QuantisedLinear)]
    return sum(t.nbytes for linear in linears for t in (*linear.parameters(), *linear.buffers()))


def speed(arguments: argparse.Namespace, kinds: list[str]) -> list[str]:
    """Bytes and times of each kind, as lines of a report."""
    device, rounds = arguments.device, arguments.rounds
    models: dict[str, ViSpeakModel] = {}
    reports: dict[str, QuantisedReport] = {}
    seconds: dict[str, float] = {}
    for kind in kinds:
        models[kind] = random_model(arguments.hidden, arguments.layers, arguments.vocabulary, device)
        begin = time.perf_counter()
        reports[kind] = quantise(models[kind], kind)
        seconds[kind] = time.perf_counter() - begin
    alone = {
        rows: interleaved({k: layers_alone(m, rows, device) for k, m in models.items()}, device, rounds)
        for rows in (SEGMENT, 1)
    }
    whole = {
        rows: interleaved(
            {k: whole_pass(m, rows, arguments.context, device) for k, m in models.items()}, device, rounds
        )
        for rows in (SEGMENT, 1)
    }
    language = models[""].config.language
    lines = [
        f"## Bytes and speed: random weights, {language.num_layers} layers x {language.hidden_size}, vocabulary "
        f"{language.vocab_size}, {str(DTYPE).removeprefix('torch.')}",
        "",
        f"Prefill: {SEGMENT} rows, without `lm_head`; decoding: 1 row and `lm_head`; a whole pass reads "
        f"{arguments.context} cached positions. x: speed against the first line.",
        "",
        "| weights | decoder, MB | of bf16 | with lm_head | whole model, MB | packing, s | prefill, layers ms | x | "
        "decoding, layers ms | x | GB/s | prefill, pass ms | x | decoding, pass ms | x |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    sizes = {kind: [linear_bytes(part) for part in (m.model.layers, m.lm_head)] for kind, m in models.items()}
    for kind, report in reports.items():
        decoder, both = sizes[kind][0], sum(sizes[kind])
        columns = [f"| {kind or 'bf16'} | {decoder / 1e6:.1f} | {decoder / sizes[''][0]:.3f}"]
        columns += [f"{both / sum(sizes['']):.3f}", f"{report.model_bytes_after / 1e6:.1f}"]
        columns.append(f"{seconds[kind]:.1f}" if kind else "-")
        for times in (alone, whole):
            for rows in (SEGMENT, 1):
                columns += [f"{times[rows][kind]:.2f}", f"{times[rows][''] / times[rows][kind]:.2f}"]
                if rows == 1 and times is alone:
                    columns.append(f"{both / times[rows][kind] / 1e6:.0f}")
        lines.append(" | ".join(columns) + " |")
    if device != "cpu":
        lines += [
            "",
            f"A copy on this GPU in the same run: {copy_bandwidth(device):.0f} GB/s (read and write counted).",
        ]
    forms = {kind: next(iter(report.lines())) for kind, report in reports.items() if kind}
    return [*lines, "", *(f"- {line}" for line in forms.values())]


def torchao_arm(arguments: argparse.Namespace) -> list[str]:
    """One layer by torchao's own tensors, in eager mode, beside torch's product and ours; or what it answered."""
    try:
        import torchao  # noqa: PLC0415 - only a comparison, and not a dependency
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_  # noqa: PLC0415
    except ImportError:
        return []
    wide, narrow = arguments.hidden * 37 // 7, arguments.hidden
    configs: dict[str, Callable[[], object]] = {"torchao int8": lambda: Int8WeightOnlyConfig(set_inductor_config=False)}
    for form in ("plain", "plain_int32", "tile_packed_to_4d", "opaque"):
        configs[f"torchao int4 {form}"] = lambda form=form: Int4WeightOnlyConfig(
            group_size=128, int4_packing_format=form, set_inductor_config=False
        )
    inputs = {rows: torch.randn(rows, narrow, device=arguments.device).to(DTYPE) for rows in (SEGMENT, 1)}
    layers: dict[str, nn.Module] = {"bf16": nn.Linear(narrow, wide, bias=False, device=arguments.device, dtype=DTYPE)}
    answers: dict[str, str] = {}
    for kind in ("int8", "int4"):
        model = random_model(arguments.hidden, 1, 64, arguments.device)
        quantise(model, kind)
        layers[f"ours {kind}"] = model.model.layers[0].mlp.up_proj
    for name, config in configs.items():
        linear = nn.Linear(narrow, wide, bias=False, device=arguments.device, dtype=DTYPE)
        try:
            quantize_(linear, config())
            linear(inputs[1])
            layers[name] = linear
        except (AssertionError, ImportError, NotImplementedError, RuntimeError, ValueError) as error:
            answers[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    times = {}
    for rows, x in inputs.items():
        works = {name: (lambda layer=layer, x=x: layer(x)) for name, layer in layers.items()}
        times[rows] = interleaved(works, arguments.device, arguments.rounds)
    return [
        "",
        f"## One layer, {narrow} to {wide}, against torchao {torchao.__version__} (eager)",
        "",
        f"| | {SEGMENT} rows, ms | 1 row, ms |",
        "|---|---|---|",
        *(f"| {name} | {times[SEGMENT][name]:.2f} | {times[1][name]:.2f} |" for name in layers),
        *(f"| {name} | {answer} | |" for name, answer in answers.items()),
    ]


def decisions(arguments: argparse.Namespace, kinds: list[str]) -> list[str]:
    """Scores and replies over a video, against the same session in float32."""
    reference: list[Output] | None = None
    lines = [
        "",
        f"## Decisions: {arguments.model.name} over {arguments.video.name}, against float32",
        "",
        "| type | weights | packed layers of that type's | scores | same decision | largest difference | mean | "
        "replies, same words |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dtype in (torch.float32, DTYPE):
        for kind in kinds:
            model = load_model(arguments.model, arguments.device, dtype)
            report = quantise(model, kind)
            outputs = _watch(Session(model, Vocabulary.from_folder(arguments.model)), arguments.video)
            reference = reference or outputs
            name = str(dtype).removeprefix("torch.")
            lines.append(f"| {name} | {kind or '-'} | {report.ratio:.3f} | {compare(reference, outputs)} |")
    return lines


def _watch(session: Session, video: Path) -> list[Output]:
    outputs = [output for event in Clip(video).events() for output in session.push(event)]
    return outputs + session.finish()


def compare(reference: list[Output], outputs: list[Output]) -> str:
    """Columns of the table of decisions."""
    wanted, found = ([o for o in arm if isinstance(o, Score)] for arm in (reference, outputs))
    said = [[o.text for o in arm if isinstance(o, ReplyFinished)] for arm in (reference, outputs)]
    differences = [abs(a.score - b.score) for a, b in zip(wanted, found, strict=True)]
    same = sum(a.fired == b.fired for a, b in zip(wanted, found, strict=True))
    words = sum(a == b for a, b in zip(*said, strict=False))
    return (
        f"{len(wanted)} | {same} of {len(wanted)} | {max(differences):.4f} | {statistics.mean(differences):.4f} | "
        f"{words} of {max(map(len, said))}"
    )


def main() -> int:
    """Prints the report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hidden", type=int, help="width, a multiple of 896 (default: 3584)")
    parser.add_argument("--layers", type=int, help="default: 28 on CUDA, 2 on the CPU")
    parser.add_argument("--vocabulary", type=int, help="default: 151665 on CUDA, a 14th of it on the CPU")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on the CPU)")
    parser.add_argument("--model", type=Path, default=TINY, help="checkpoint for the decisions")
    parser.add_argument("--video", type=Path, default=TINY / "demo.mp4")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = arguments.device == "cpu"
    torch.set_num_threads(1)
    for name, value in zip(
        ("hidden", "layers", "vocabulary", "context"),
        (3584, 2, 10833, 390) if cpu else (3584, 28, 151665, 4700),
        strict=True,
    ):
        setattr(arguments, name, getattr(arguments, name) or value)
    kinds, notes = ["", *WEIGHTS], [""]
    try:
        check_fp8(torch.device(arguments.device))
    except ValueError as error:
        kinds.remove("fp8")
        notes += [f"Left out: {error}."]
    with torch.inference_mode():
        lines = speed(arguments, kinds) + torchao_arm(arguments)
    lines += decisions(arguments, kinds)
    clock = "one thread, thread CPU time: only ratios carry over" if cpu else "GPU time by events"
    notes += foot(
        arguments.device,
        "triton",
        "torchao",
        remark=f"medians of {arguments.rounds} interleaved rounds; {clock}",
    )
    publish("quantisation", ["# Quantised weights", "", *lines, *notes], arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
