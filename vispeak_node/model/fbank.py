"""Kaldi mel features, as the audio encoder was trained on them."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.config import AudioConfig

SAMPLE_RATE = 16_000  # Hz
_FULL_SCALE = 32768.0  # Kaldi works on the range of 16-bit integers


def fbank(samples: NDArray[np.float32], config: AudioConfig, dither: float = 0.0) -> NDArray[np.float32]:
    """Log mel features.

    Args:
        samples: mono [n] in [-1, 1] at 16 kHz.
        config: bins and frame sizes.
        dither: the published encoder uses 1.0, which makes features random; 0 makes them repeatable.

    Returns:
        float32 [frames, bins]; one second is 98 frames.

    Raises:
        ValueError: not mono float samples, not finite, or shorter than one frame.
    """
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ValueError(f"sound must be mono float32, not {samples.dtype} of shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("sound holds values that are not finite")
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = dither
    options.frame_opts.frame_length_ms = config.frame_length_ms
    options.frame_opts.frame_shift_ms = config.frame_shift_ms
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = config.num_mel_bins
    options.energy_floor = 0.0
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(SAMPLE_RATE, samples * _FULL_SCALE)
    extractor.input_finished()
    if not extractor.num_frames_ready:
        raise ValueError(f"sound of {len(samples)} samples is shorter than one frame")
    return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)]).astype(np.float32)
