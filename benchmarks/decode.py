"""Words per second, and how much of the memory's speed that is: bfloat16 and quantised weights, and the eager way.

    python benchmarks/decode.py [--rounds 20] [--tokens 64] [--size full] [--write [FILE.md]]

A session on random weights is made to speak at every frame and speaks on over silent positions; what is timed is the
speaking alone. The bytes of a token are those of the decoder's layers, `lm_head`, the gate, and the cached keys and
values. The copy is measured in the same run. The eager arm is the published decoding: a pass a token on a cache that
grows by concatenation. On CUDA the other ways through the layers (no kernels, no graphs) are arms too.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from quantisation import linear_bytes
from report import add_write, foot, publish, table
from segment_latency import WAYS, Published, open_session
from silent_second import ConcatenatingCache
from sizes import Seconds, add_size, describe, random_model, vocabulary
from stopwatch import copy_bandwidth, latency

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.outputs import ReplyFinished
from vispeak_node.runtime.quantise import WEIGHTS, check_fp8, quantise

EAGER = "eager, concatenating"


class Speaker:
    """A session that speaks when it is told to."""

    def __init__(self, model: ViSpeakModel, context: int, tokens: int, settings: dict[str, str] | None = None) -> None:
        self._stream, self._device = Seconds(), str(model.device)
        self._session = open_session(
            model, context, self._stream, threshold=1e-9, first_score_is_zero=False, refractory=0.0, speak_ahead=0,
            finish_padding=tokens, max_reply_tokens=2 * tokens + 2, **(settings or {}),
        )  # fmt: skip
        self.num_positions = self._session.num_positions

    def speak(self) -> float:
        """Milliseconds a token."""
        self._session.push(self._stream.next()[0])
        spoken: list[ReplyFinished] = []

        def finish() -> None:
            spoken.extend(output for output in self._session.finish() if isinstance(output, ReplyFinished))

        took = latency(finish, self._device)
        (reply,) = spoken
        return took / max(1, len(reply.token_ids) - 1)  # the marker that begins it was chosen before


class Eager:
    """The published decoding."""

    def __init__(self, model: ViSpeakModel, context: int, tokens: int) -> None:
        self._model, self._context, self._tokens = model, context, tokens
        self._base = Published(model, context)._cache
        self._pad_1D = model.embed(torch.tensor([vocabulary().pad], device=model.device))

    def speak(self) -> float:
        """Milliseconds a token."""
        return latency(self._speak, str(self._model.device)) / self._tokens

    def _speak(self) -> None:
        cache: ConcatenatingCache = self._base.fork()
        agent_1D = self._pad_1D
        for index in range(self._tokens):
            embeds = self._model.combine(agent_1D, self._pad_1D)[None]
            hidden = self._model.forward_embeds(embeds, self._context + index, cache)
            self._model.informative(hidden[0, 0]).sigmoid()
            agent_1D = self._model.embed(self._model.lm_head(hidden[0]).argmax(-1))
            agent_1D[0, 0].item()  # the published loop looks at every token


def bytes_read(model: ViSpeakModel, positions: int) -> int:
    """What one token reads."""
    language = model.config.language
    parts = [model.model.layers, model.lm_head] + ([model.model.combination] if model.model.combination else [])
    width = language.num_layers * language.num_kv_heads * language.head_dim
    return sum(linear_bytes(part) for part in parts) + 2 * positions * width * model.dtype.itemsize


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--rounds", type=int, help="replies of each arm (default: 20 on CUDA, 5 on a CPU)")
    parser.add_argument("--tokens", type=int, default=64, help="of a reply")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on a CPU)")
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=["int8", "int4", "fp8"])
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    context, notes = arguments.context or (390 if cpu else 4700), []
    with torch.inference_mode():
        plain = random_model(arguments)
        models = {"as loaded": plain}
        for kind in arguments.weights:
            try:
                if kind == "fp8":
                    check_fp8(torch.device(arguments.device))
            except ValueError as error:
                notes += ["", f"Left out: {error}."]
                continue
            models[kind] = random_model(arguments)
            quantise(models[kind], kind)
        arms: dict[str, Speaker | Eager] = {
            name: Speaker(model, context, arguments.tokens) for name, model in models.items()
        }
        if not cpu:
            ways = {name: settings for name, settings in WAYS.items() if settings}
            arms |= {name: Speaker(plain, context, arguments.tokens, settings) for name, settings in ways.items()}
        arms[EAGER] = Eager(plain, arms["as loaded"].num_positions, arguments.tokens)  # type: ignore[union-attr]
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(-1, arguments.rounds or (5 if cpu else 20)):
            for name, arm in arms.items():
                took = arm.speak()
                if number >= 0:  # the first warms up
                    times[name].append(took)
        bandwidth = copy_bandwidth(arguments.device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = []
    for name, took in medians.items():
        size = bytes_read(models.get(name, plain), context)
        speed = size / took / 1e6
        against = (f"{medians['as loaded'] / took:.2f}", f"{medians[EAGER] / took:.2f}")
        rows.append((name, f"{1e3 / took:.1f}", f"{took:.2f}", f"{size / 1e9:.3f}", f"{speed:.1f}",
                     f"{speed / bandwidth:.0%}", *against))  # fmt: skip
    header = ("weights", "tok/s", "ms a token", "GB a token", "GB/s", "of the copy", "x as loaded", "x eager")
    lines = [
        "# Decoding",
        "",
        f"{describe(plain, arguments)} About {context} cached positions, replies of {arguments.tokens} tokens.",
        "",
        *table(header, rows),
        "",
        f"A copy in the same run: {bandwidth:.1f} GB/s, read and write counted.",
        *notes,
        *foot(arguments.device, "triton", remark="thread CPU time of one thread" if cpu else "wall clock"),
    ]
    publish("decode", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
