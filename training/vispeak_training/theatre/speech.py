"""Spoken questions, by espeak-ng where that program is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave

import numpy as np
import soxr
from numpy.typing import NDArray

PROGRAM = "espeak-ng"
VOICES = ("en-us", "en-gb", "en-us+f2", "en-gb+m3")
HELD_OUT_VOICES = ("en-gb-scotland", "en-us+f4")
SAMPLE_RATE = 16_000  # Hz
_SECONDS = 30  # no sentence takes longer


def speech_error() -> str | None:
    """Why nothing can be spoken on this machine, or None."""
    return (
        None if shutil.which(PROGRAM) else f"no spoken questions without {PROGRAM}: install it, or leave out --speech"
    )


def speak(text: str, rng: np.random.Generator, held_out: bool = False) -> NDArray[np.float32]:
    """One sentence in a voice drawn at random; float32 [n] at 16 kHz, loudest sample 0.6.

    Raises:
        ValueError: the program is absent, or it could not say this.
    """
    error = speech_error()
    if error:
        raise ValueError(error)
    voice = str(rng.choice(HELD_OUT_VOICES if held_out else VOICES))
    pace, pitch = int(rng.integers(145, 190)), int(rng.integers(30, 70))
    command = [PROGRAM, "-v", voice, "-s", str(pace), "-p", str(pitch), "--stdout", "--", text]
    result = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    if result.returncode or not result.stdout:
        raise ValueError(f"{PROGRAM} could not speak {text!r}: {result.stderr.decode(errors='replace').strip()}")
    with wave.open(io.BytesIO(result.stdout)) as file:
        rate = file.getframerate()
        # written to a pipe, the header does not know the length
        samples = np.frombuffer(file.readframes(rate * _SECONDS), np.int16).astype(np.float32)
    loudest = max(1.0, float(np.abs(samples).max(initial=0)))
    return soxr.resample(samples * (0.6 / loudest), rate, SAMPLE_RATE).astype(np.float32)
