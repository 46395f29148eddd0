"""Text to ids and back, and the markers that give the two streams their structure.

Marker ids come from the tokenizer, never from literals, so that a small tokenizer works like Qwen2.5's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

SEGMENT_END = ">Note"  # closes every segment of the user stream; an ordinary vocabulary entry
PAD = "<|endoftext|>"  # silence in the agent stream, filler in the user stream
REPLY_END = "<|im_end|>"
ANSWER_TEXT = "☜"  # a reply to a typed question begins so
ANSWER_VOICE = "☞"  # a reply to a spoken question
ANSWER_VISUAL = "☟"  # a reply that nobody asked for

IMAGE_ID, AUDIO_ID, VIDEO_AUDIO_ID = -200, -500, -600  # placeholders for embeddings in published id arrays
_PLACEHOLDERS = {"<image>": IMAGE_ID, "<audio>": AUDIO_ID, "<video_audio>": VIDEO_AUDIO_ID}
_SPLIT = re.compile(f"(<audio>|<image>|<video_audio>|{SEGMENT_END})")
_MAX_TOKENIZER_BYTES = 64 * 2**20


class Vocabulary:
    """A tokenizer with the markers looked up once.

    Raises:
        ValueError: the folder has no readable tokenizer.json, or a marker is not one token in it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.segment_end = self._single(SEGMENT_END)
        self.pad = self._single(PAD)
        self.reply_end = self._single(REPLY_END)
        self.answer_text = self._single(ANSWER_TEXT)
        self.answer_voice = self._single(ANSWER_VOICE)
        self.answer_visual = self._single(ANSWER_VISUAL)
        self.starts = frozenset({self.answer_text, self.answer_voice, self.answer_visual})
        self.silences = frozenset({self.pad, self.reply_end})  # predictions that begin no answer
        self.markers = self.starts | {self.segment_end, self.pad, self.reply_end}

    @classmethod
    def from_folder(cls, folder: Path) -> Vocabulary:
        """Reads tokenizer.json of a checkpoint folder."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{folder}: tokenizer.json is missing")
        if path.stat().st_size > _MAX_TOKENIZER_BYTES:
            raise ValueError(f"{path}: larger than {_MAX_TOKENIZER_BYTES} bytes, which no tokenizer is")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ValueError(f"{path}: not a readable tokenizer: {error}") from error
        return cls(tokenizer)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def _single(self, marker: str) -> int:
        ids = self._tokenizer.encode(marker, add_special_tokens=False).ids
        if len(ids) != 1:
            raise ValueError(f"tokenizer.json: the marker {marker!r} is {len(ids)} tokens; it must be one")
        return int(ids[0])

    def encode(self, text: str) -> list[int]:
        """Ids of trusted text, in which special tokens mean themselves."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_stream(self, text: str, num_image: int, num_audio: int = 12) -> list[int]:
        """Ids of a published stream string: markers are split off first, placeholders become runs of negative ids."""
        ids: list[int] = []
        for piece in _SPLIT.split(text):
            if piece == SEGMENT_END:
                ids.append(self.segment_end)
            elif piece in _PLACEHOLDERS:
                ids += [_PLACEHOLDERS[piece]] * (num_image if piece == "<image>" else num_audio)
            elif piece:
                ids += self.encode(piece)
        return ids

    def encode_user_text(self, text: str) -> list[int]:
        """Ids of what a user typed; nothing in it can act as a marker, a placeholder or a special token."""
        return [token for token in self.encode(neutralise(text)) if token not in self.markers]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without markers."""
        return self._tokenizer.decode([i for i in ids if i not in self.markers], skip_special_tokens=True)


def neutralise(text: str) -> str:
    """User text with everything that the tokenizer or a stream builder would take for structure broken apart."""
    text = re.sub(r"<(?=\||image>|audio>|video>|video_audio>)", "< ", text)
    text = re.sub(r">(?=Note)", "> ", text)
    return re.sub(f"[{ANSWER_TEXT}{ANSWER_VOICE}{ANSWER_VISUAL}]", " ", text)


class TextStream:
    """Turns ids into text as they come, holding back bytes that are not a whole character yet."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._held.append(token)
        text = self._vocabulary.decode(self._held)
        # a character has at most four bytes, so a run of four tokens that decodes to no character never will
        if text.endswith("\ufffd") and len(self._held) < 4:
            return ""
        self._held.clear()
        return text

    def flush(self) -> str:
        """What is still held, for the end of a reply; an incomplete character is dropped."""
        text = self._vocabulary.decode(self._held).rstrip("\ufffd")
        self._held.clear()
        return text
