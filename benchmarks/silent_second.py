"""A silent second, its sound and frame read in one pass, or in one each, against the published way: one a position.

    python benchmarks/silent_second.py [--write [FILE.md]]

The published way runs both heads at every position. All arms run the same weights on the same embeddings, one thread,
interleaved, and are timed in thread CPU time. Run it on an otherwise idle machine all the same: a busy neighbour on the
same core slows the arms unequally. The encoders are the same for all and are left out. The loop's cache grows by
concatenation, as in the published code.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import torch
from report import add_write, foot, publish, table
from stopwatch import ratio
from torch import Tensor

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.cache import GrowingCache

CONTEXT = 390  # positions before the measured second: a prompt and a few seconds
TINY = Path(__file__).parent.parent / "models/vispeak-tiny"


class ConcatenatingCache:
    """The published code's cache: every position makes new tensors."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self._layers:
            old = self._layers[layer]
            keys, values = torch.cat([old[0], keys], 2), torch.cat([old[1], values], 2)
        self._layers[layer] = keys, values
        return keys, values

    def fork(self) -> ConcatenatingCache:
        """Another one that holds the same so far; nothing is copied."""
        other = ConcatenatingCache()
        other._layers = dict(self._layers)
        return other


Cache: TypeAlias = GrowingCache | ConcatenatingCache


def random_model(hidden: int, layers: int) -> ViSpeakModel:
    """A language model of a size, with encoders as small as possible; pooling as in the released models."""
    torch.manual_seed(0)
    config = ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        LanguageConfig(
            round(12 * hidden * layers * 0.083), hidden, 4 * hidden, layers, hidden // 64, hidden // 128 or 1
        ),
    )
    return ViSpeakModel(config).eval().requires_grad_(False)


def measure(model: ViSpeakModel, rounds: int) -> dict[str, float]:
    """Seconds of CPU for each way, and how far their scores are apart."""
    config = model.config
    positions = config.tokens_per_image + 1 + config.tokens_per_second + 1
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(CONTEXT + positions, config.language.hidden_size, generator=generator).to(model.dtype) * 0.5
    pad = model.embed(torch.zeros(1, dtype=torch.long)).expand(positions, -1)
    sound = config.tokens_per_second + 1
    arms: dict[str, tuple[Callable[[], Cache], Callable[[Cache], float]]] = {
        "once": (partial(GrowingCache, config.language.num_layers), partial(_passes, model, rows, pad, ())),
        "twice": (partial(GrowingCache, config.language.num_layers), partial(_passes, model, rows, pad, (sound,))),
        "loop": (ConcatenatingCache, lambda cache: published_loop(model, rows[CONTEXT:], pad, cache, CONTEXT)),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    difference = 0.0
    for _ in range(rounds):
        scores = []
        for name, (make, read) in arms.items():
            cache = make()
            model.forward_embeds(rows[None, :CONTEXT], 0, cache)
            begin = time.thread_time()
            scores.append(read(cache))
            times[name].append(time.thread_time() - begin)
        difference = max(difference, max(scores) - min(scores))
    language = sum(p.numel() for p in model.model.layers.parameters())
    return {
        "positions": positions,
        "million": language / 1e6,
        **{name: statistics.median(values) * 1e3 for name, values in times.items()},
        "ratio": ratio(times["loop"], times["once"]),
        "difference": difference,
    }


def _passes(model: ViSpeakModel, rows: Tensor, pad: Tensor, cuts: Sequence[int], cache: Cache) -> float:
    """The second in one pass, or in several that begin at these rows; what the informative head says to the frame."""
    hidden = rows[:0]
    for begin, end in pairwise((0, *cuts, len(pad))):
        embeds = model.combine(pad[begin:end], rows[CONTEXT + begin : CONTEXT + end])[None]
        hidden = model.forward_embeds(embeds, CONTEXT + begin, cache, wanted=2)[0]  # as the session reads it
    return float(model.informative(hidden[0]).sigmoid())


def published_loop(model: ViSpeakModel, user_TD: Tensor, pad_TD: Tensor, cache: Cache, start: int) -> float:
    """The published algorithm over a silent second: one pass and both heads at every position.

    Args:
        model: any.
        user_TD: rows of the user stream, a frame and its end marker last.
        pad_TD: the pad token's embedding, once for every row.
        cache: holds the positions before.
        start: position of the first row.

    Returns:
        The frame's score.
    """
    score = 0.0
    for index in range(len(pad_TD)):
        embeds = model.combine(pad_TD[:1], user_TD[index : index + 1])[None]
        hidden = model.forward_embeds(embeds, start + index, cache)
        model.lm_head(hidden[0]).argmax()
        informative = model.informative(hidden[0, 0]).sigmoid()
        if index == len(pad_TD) - 2:
            score = float(informative)
    return score


def main() -> int:
    """Prints a table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    add_write(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {"vispeak-tiny": load_model(TINY)} if (TINY / "model.safetensors").is_file() else {}
    for dtype in (torch.float32, torch.bfloat16):  # bfloat16 is closer to what released models run in
        name = str(dtype).removeprefix("torch.")
        models |= {
            f"random, 4 M, {name}": random_model(256, 4).to(dtype),
            f"random, 24 M, {name}": random_model(512, 6).to(dtype),
        }
    header = (
        "model",
        "in layers",
        "positions a second",
        "loop, CPU ms",
        "a pass each, CPU ms",
        "one pass, CPU ms",
        "loop / one pass",
        "score differs by",
    )
    rows = []
    with torch.inference_mode():
        for name, model in models.items():
            found = measure(model, arguments.rounds)
            took = (f"{found['loop']:.1f}", f"{found['twice']:.2f}", f"{found['once']:.2f}", f"{found['ratio']:.1f}x")
            size = (f"{found['million']:.1f} M", f"{found['positions']:.0f}")
            rows.append((name, *size, *took, f"{found['difference']:.1e}"))
    lines = [
        "# A silent second: one pass against one pass per position",
        "",
        *table(header, rows),
        *foot("cpu", remark="one thread, thread CPU time, interleaved, medians: only the ratios carry over"),
        "In float32 the one pass is bound by this core's arithmetic, the loop by its overhead;",
        "bfloat16 takes the first bound away.",
        "The language models of the random rows have a vocabulary whose share of the weights is the 7 B model's.",
    ]
    publish("silent-second", lines, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
