"""Training data in the published shapes, of our own making: invented texts, tiny videos, pictures and sounds."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tests.conftest import write_clip
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.subtasks import NONE, SUBTASKS
from vispeak_node.model.tokens import ANSWER_TEXT, ANSWER_VISUAL, ANSWER_VOICE, PAD, REPLY_END, SEGMENT_END, Vocabulary

MARKERS = (PAD, REPLY_END, SEGMENT_END, ANSWER_TEXT, ANSWER_VOICE, ANSWER_VISUAL)
WORDS = ("what", "is", "it", "now", "a", "b", "c", "d", "e", "f", "stop", "hi", "bye", "fall", "wave", "cup", "yes")
LABELS = (NONE, *SUBTASKS)


def toy_vocabulary() -> Vocabulary:
    """One token a word, and one, `P:name`, for a whole system prompt, so that streams can be read."""
    prompts = [f"P:{name}" for name in SYSTEM_PROMPTS]
    words = [*MARKERS, *prompts, *WORDS, "?"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(text, f"P:{name}") for name, text in SYSTEM_PROMPTS.items()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    return Vocabulary(tokenizer)


def toy_config(event_labels: tuple[str, ...] = LABELS) -> ModelConfig:
    """Four tokens a picture of 56 pixels, twelve a second of sound."""
    return ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, image_size=56),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32),
        LanguageConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=1),
        pooling_size=1,
        event_labels=event_labels,
    )


def human(text, time=None):
    return {"from": "human", "value": text} | ({} if time is None else {"time": time})


def gpt(text, time=None, timespan=None):
    return {"from": "gpt", "value": text} | {k: v for k, v in (("time", time), ("timespan", timespan)) if v is not None}


def offline(video, question, answer):
    return {"video": video, "conversations": [human(f"<video>\n{question}"), gpt(answer)]}


def instruct_files() -> dict[str, tuple[dict, list]]:
    """The twelve files of ViSpeak-Instruct by name: what the registry says of each, and two samples of its shape."""
    wave, fall = gpt("Hello there!", 2.5, [1.0, 3.0]), gpt("Careful, the ladder slips!", 2.2, [1.0, 3.0])
    smoke, fire = gpt("Smoke!", 1.6, [0.2, 2.2]), gpt("Fire!", 3.4, [2.6, 3.5])
    bye = {**gpt("Bye!", 3.2, [2.0, 3.4]), "subtask": "visual_termination"}
    long = gpt("One two three " * 20, 0.6)
    asked = [human("Do you like me?", 0), gpt("I do.", 0.1)]
    files = {
        "social_i_qa_merged_4k": ("offline", "", [
            {"conversations": [human("Ann fell. How is she?"), gpt("Hurt."), human("And Bob?"), gpt("Calm.")]},
            {"conversations": [human("Who smiles?"), gpt("Nobody.")]},
        ]),
        "socialiq_2K": ("offline", "", [offline("a.mp4", "Kind?", "Yes."), offline("b.mp4", "Why?", "He\n\nhelps.")]),
        "intentqa_5k": ("offline", "", [offline("a.mp4", "Her wish?", "Tea."), offline("b.mp4", "Who?", "Ann.")]),
        "SMILE_1k": ("offline", "", [offline("b.mp4", "Funny?", "The hat."), offline("a.mp4", "Why?", "It flies.")]),
        "Anomaly_Warning_HIVUA_train": ("streaming", "anomaly_warning", [
            {"video": "a.mp4", "proactive": True, "n_frames": 40, "fps": 10.0, "conversations": [fall]},
            {"video": "b.mp4", "proactive": True, "conversations": [smoke, fire]},
        ]),
        "Anomaly_Warning_oops_train": ("streaming", "anomaly_warning", [
            {"video": "a.mp4", "proactive": True, "video_start_time": 0, "video_end_time": 4, "conversations": [fall]},
            {"video": "b.mp4", "proactive": True, "conversations": [human("Tell me when he falls.", 0.4), fall]},
        ]),
        "HumorQA_train_2k": ("streaming", "humor_reaction", [
            {"video": "a.mp4", "proactive": True, "fps": 10, "conversations": [gpt("A hat!", 3.2, [1.5, 3.5])]},
            {"video": "b.mp4", "proactive": True, "conversations": [gpt("Ha!", 2.0, [0.0, 2.4])]},
        ]),
        "socialiq_our_anno_1k": ("streaming", "gesture_understanding", [
            {"video": "a.mp4", "proactive": True, "conversations": [gpt("You nod.", 2.1, [1.0, 3.0])]},
            {"video": "b.mp4", "proactive": True, "conversations": [gpt("You shrug.", 2.1, [1.0, 3.0])]},
        ]),
        "Gesture_Understanding_trainv3_7k": ("audio_proactive", "gesture_understanding", [
            {"video": "a.mp4", "gesture": "heart", "conversations": [*asked, gpt("A heart!", 2.6, [1.0, 3.0])]},
            {"video": "b.mp4", "use_audio": True, "conversations": [*asked, gpt("Five!", 2.6, [1.0, 3.0])]},
        ]),
        "interruption_text_training_data": ("audio_proactive", "visual_interruption", [
            {"video": "a.mp4", "conversations": [human("Count.", 0.5), long, gpt("Stop.", 2.6, [1.5, 3.0])]},
            {"video": "b.mp4", "conversations": [human("Sing.", 0.5), long, gpt("Okay.", 2.6, [1.5, 3.0])]},
        ]),
        "reference_text_training_data": ("audio_proactive", "visual_reference", [
            {"video": "a.mp4", "conversations": [human("What is that?", 1.4), gpt("A cup.", 1.5)]},
            {"video": "b.mp4", "conversations": [human("Which one?", 2.4), gpt("The red one.", 2.5)]},
        ]),
        "wake_up_text_training_data_split": ("audio_proactive", "visual_wake_up", [
            {"video": "a.mp4", "conversations": [wave]},
            {"video": "b.mp4", "conversations": [*asked, bye]},
        ]),
    }  # fmt: skip
    return {
        name: (
            {"file": f"annotations/{name}.json", "kind": kind, "folders": {"video": "videos"}}
            | ({"subtask": subtask} if subtask else {})
            | ({"visual_proactive": False} if name.startswith("reference") else {}),
            samples,
        )
        for name, (kind, subtask, samples) in files.items()
    }


def write_set(folder: Path, files: dict[str, tuple[dict, list]]) -> Path:
    """Annotations, two videos (one without sound), pictures and sounds; returns the registry."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "videos").mkdir()
    write_clip(folder / "videos/a.mp4")
    write_clip(folder / "videos/b.mp4", sound=False)
    for name, (width, height) in {"wide.png": (112, 56), "square.png": (40, 40)}.items():
        Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / name)
    write_wave(folder / "speech.wav", 1.5)
    for entry, samples in files.values():
        (folder / entry["file"]).write_text(json.dumps(samples))
    registry = folder / "set.yaml"
    YAML(typ="safe").dump([entry for entry, _ in files.values()], registry)
    return registry


def write_wave(path: Path, seconds: float, rate: int = 8000, channels: int = 2) -> None:
    """A tone in the left channel; the right one is silent."""
    samples = np.zeros((int(seconds * rate), channels), np.int16)
    samples[:, 0] = 12_000 * np.sin(2 * np.pi * 300 * np.arange(len(samples)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
