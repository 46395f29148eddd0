"""Bags: others read what is written, what is recorded is played, and a bag is as good as the file it was made of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tests.ros.domains import fresh_domain
from vispeak_node.cli import main
from vispeak_node.ros.bag import BagReader, BagWriter, read_bag
from vispeak_node.ros.messages import Anomaly, AudioDataStamped, AudioInfo, Bool, Gesture, Header, Image, String, Time
from vispeak_node.ros.raw import RawNode, definition_of, kind_of
from vispeak_node.ros.schema import decode, encode, type_hash
from vispeak_node.ros.sound import from_samples, info_of
from vispeak_node.ros.topics import Delivery, TopicNames
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import ImageEvent, SoundEvent
from vispeak_node.stream.files import read_file
from vispeak_node.stream.items import FrameItem, SoundItem
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig
from vispeak_node.stream.sound import to_mono

NAMES = TopicNames()
SECOND = 1_000_000_000


def strings(path, count=5, step=SECOND // 100):
    with BagWriter(path) as bag:
        bag.add("/t/text", String)
        for number in range(count):
            bag.write("/t/text", SECOND + number * step, encode(String(f"message {number}")))
    return path


def refuse(capsys, *argv):
    assert main([str(word) for word in argv]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line


def test_mcap_itself_reads_what_was_written(tmp_path):
    reader = pytest.importorskip("mcap.reader")
    messages = [
        ("/a", Anomaly(Header(Time(3, 4), "cam"), "1", 1, "fall", "It fell \u2603", 0.5, Time(3, 0), True)),
        ("/i", Image(Header(Time(5, 6), "cam"), 2, 3, "rgb8", 0, 9, np.arange(18, dtype=np.uint8))),
        ("/a", Anomaly(Header(Time(7, 8), "cam"), "1", 0, "fall", "", 0.5, Time(3, 0), False)),
    ]
    with BagWriter(tmp_path / "bag") as bag:
        bag.add("/a", Anomaly)
        bag.add("/i", Image)
        for stamp, (topic, message) in enumerate(messages, 17):
            bag.write(topic, stamp, encode(message))
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        found = list(reader.make_reader(file, validate_crcs=True).iter_messages())
    kinds = {"/a": Anomaly, "/i": Image}
    for stamp, ((topic, message), (schema, channel, record)) in enumerate(zip(messages, found, strict=True), 17):
        assert (channel.topic, record.log_time, record.publish_time) == (topic, stamp, stamp)
        assert (schema.name, schema.encoding, channel.message_encoding) == (kinds[topic].NAME, "ros2msg", "cdr")
        assert record.data == encode(message)
        # the definition alone gives the type that ROS 2 announces
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(schema.data.decode(), schema.name))
        assert store.hash_rihs01(schema.name) == type_hash(kinds[topic])


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_bags_of_others_in_both_storages(tmp_path, storage):
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / "bag", version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for number in range(3):
            writer.write(connection, number, encode(String(str(number))))
    with BagReader(tmp_path / "bag") as bag:
        (topic,) = bag.select()
        assert (topic.name, topic.count, topic.kind(), bag.count) == ("/text", 3, String, 3)
        assert [decode(String, data).data for _, _, data in bag.messages([topic])] == ["0", "1", "2"]
    (single,) = [path for path in (tmp_path / "bag").iterdir() if path.suffix != ".yaml"]
    with BagReader(single) as bag:
        assert bag.select()[0].kind() is String


def test_a_killed_recorder_leaves_a_bag_without_metadata(tmp_path):
    strings(tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "bag") as bag:
        assert bag.count == 5


def test_info(tmp_path, capsys):
    assert main(["bag", "info", str(strings(tmp_path / "bag"))]) == 0
    assert "5  /t/text  std_msgs/msg/String" in capsys.readouterr().out


# --- types


def test_a_type_is_ours_by_its_hash_not_by_its_name():
    from vispeak_node.ros.standard import AudioStamped

    assert kind_of("std_msgs/String") is String
    assert kind_of(AudioStamped.NAME, definition_of(AudioStamped)[0]) is AudioStamped


def test_types_of_a_release_and_of_a_bag():
    twist = kind_of("geometry_msgs/msg/Twist")
    assert type_hash(twist) == get_typestore(Stores.ROS2_JAZZY).hash_rihs01("geometry_msgs/msg/Twist")
    assert twist is kind_of("geometry_msgs/Twist")
    own = kind_of("my_msgs/msg/Mine", "string<=8 name\nuint64[3] numbers\nfloat64[<=4] some\nchar c\n")
    assert own.NAME == "my_msgs/msg/Mine"


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("nowhere_msgs/msg/Nothing", ""),
        ("x", ""),
        ("a/msg/B:\n import os", "int32 x\n"),
        ("my_msgs/msg/Mine", "this is no definition !"),
        ("my_msgs/msg/Mine", "other_msgs/Missing x\n"),
        ("my_msgs/msg/Mine", "int32 x\n" + "=" * 80 + "\nMSG: a/B(object):\n  import os\nint32 y\n"),
    ],
)
def test_types_that_make_no_sense(name, definition):
    with pytest.raises(ValueError, match=r"type|definition") as caught:
        kind_of(name, definition)
    assert "\n" not in str(caught.value)


# --- bad input


def test_bad_bags_are_one_line(tmp_path, capsys):
    good = strings(tmp_path / "good")
    assert "no such" in refuse(capsys, "bag", "info", tmp_path / "none")
    text = tmp_path / "text.txt"
    text.write_text("hello")
    assert "not a bag" in refuse(capsys, "bag", "play", text)
    empty = tmp_path / "empty.mcap"
    empty.touch()
    assert "empty" in refuse(capsys, "bag", "info", empty)
    noise = tmp_path / "noise.db3"
    noise.write_bytes(bytes(range(256)) * 20)
    assert "noise.db3" in refuse(capsys, "bag", "info", noise)
    (tmp_path / "folder").mkdir()
    assert "not a bag" in refuse(capsys, "bag", "info", tmp_path / "folder")
    assert "no topic /nothing" in refuse(capsys, "bag", "play", good, "--topics", "/nothing")
    assert "--rate" in refuse(capsys, "bag", "play", good, "--rate", "0")
    assert "exists already" in refuse(capsys, "bag", "record", good, "--topics", "/t/text:std_msgs/String")
    assert "its type is not known" in refuse(capsys, "bag", "record", tmp_path / "new", "--topics", "/t/text")
    assert "nowhere_msgs" in refuse(capsys, "bag", "record", tmp_path / "new", "--topics", "/t:nowhere_msgs/X")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_bags_are_one_line(tmp_path, capsys, part):
    file = strings(tmp_path / "bag", 200) / "bag.mcap"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])
    assert "bag" in refuse(capsys, "bag", "info", tmp_path / "bag")


def test_a_type_that_nobody_knows(tmp_path, capsys):
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg("int32 x\n", "gone_msgs/msg/Gone"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/gone", "gone_msgs/msg/Gone", typestore=store)
        writer.write(connection, 1, b"\0\1\0\0\1\0\0\0")
    import sqlite3

    database = sqlite3.connect(tmp_path / "bag" / "bag.db3")  # as older releases wrote it: without definitions
    with database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    line = refuse(capsys, "bag", "play", tmp_path / "bag")
    assert "/gone" in line and "gone_msgs/msg/Gone is unknown" in line


# --- over DDS


@pytest.fixture
def environment(monkeypatch):
    domain = fresh_domain()
    ours = {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return os.environ | ours


def start(environment, *argv):
    command = [sys.executable, "-m", "vispeak_node", *(str(word) for word in argv)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.01)


def padded(data):
    """As DDS delivers it: a whole number of four bytes."""
    return data + bytes(-len(data) % 4)


def test_a_recording_is_played_as_it_was(tmp_path, environment):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    texts = [
        encode(String(f"message {number} \u2603")) for number in range(8)
    ]  # no more than a reader keeps, so none is lost however slow it is
    wave = encode(Gesture(Header(Time(1, 2), "cam"), 6, "wave", 0.5, ""))
    words = [NAMES.response_text, NAMES.gesture, NAMES.anomaly_active]
    with RawNode("sender") as node:
        node.advertise(NAMES.response_text, String)
        node.advertise(NAMES.gesture, Gesture)
        node.advertise(NAMES.anomaly_active, Bool, Delivery.LATCHED)
        node.publish(NAMES.anomaly_active, Bool(True))
        with start(environment, "bag", "record", tmp_path / "bag", "--topics", *words) as recorder:
            assert recorder.stdout.readline().startswith("recording 3 topics")
            for topic in (NAMES.response_text, NAMES.gesture, NAMES.anomaly_active):
                assert node.wait_for_subscribers(topic, 20)
            for data in texts:
                node.publish_raw(NAMES.response_text, String, data)
            node.publish_raw(NAMES.gesture, Gesture, wave)
            for topic in (NAMES.response_text, NAMES.gesture, NAMES.anomaly_active):
                assert node.wait_for_acknowledgement(topic, 10)
            recorder.terminate()
            assert recorder.wait(20) == 0
            assert recorder.stdout.read() == "recorded 10 messages\n"
    heard = {NAMES.response_text: [], NAMES.gesture: [], NAMES.anomaly_active: []}
    with RawNode("receiver") as receiver:
        receiver.subscribe_raw(NAMES.response_text, String, heard[NAMES.response_text].append, Delivery.RELIABLE)
        receiver.subscribe_raw(NAMES.gesture, Gesture, heard[NAMES.gesture].append, Delivery.RELIABLE)
        receiver.subscribe_raw(NAMES.anomaly_active, Bool, heard[NAMES.anomaly_active].append, Delivery.LATCHED)
        receiver.start()
        with start(environment, "bag", "play", tmp_path / "bag") as player:
            wait(lambda: len(heard[NAMES.response_text]) == 8 and heard[NAMES.gesture] and heard[NAMES.anomaly_active])
            assert player.wait(20) == 0
    assert heard[NAMES.response_text] == [padded(data) for data in texts]
    assert heard[NAMES.gesture] == [padded(wave)] and heard[NAMES.anomaly_active] == [padded(encode(Bool(True)))]


def test_a_type_that_only_the_bag_knows_is_played(tmp_path, environment):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    definition = "std_msgs/Header header\nuint64[2] numbers\nmy_msgs/Inner[] inner\n"
    definition += "=" * 80 + "\nMSG: my_msgs/Inner\nstring<=8 name\nint8[<=4] some\n"
    definition += "=" * 80 + "\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    definition += "=" * 80 + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    kind = kind_of("my_msgs/msg/Mine", definition)
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, "my_msgs/msg/Mine"))
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](1, 2)
    inner = types["my_msgs/msg/Inner"]("name", np.arange(3, dtype=np.int8))
    header = types["std_msgs/msg/Header"](stamp, "cam")
    message = types["my_msgs/msg/Mine"](header, np.array([2**60, 7], np.uint64), [inner, inner])
    data = bytes(store.serialize_cdr(message, "my_msgs/msg/Mine"))
    with BagWriter(tmp_path / "bag") as bag:
        bag.add("/mine", kind)
        bag.write("/mine", 5, data)
    heard = []
    with RawNode("receiver") as node:
        node.subscribe_raw("/mine", kind, heard.append, Delivery.RELIABLE)
        node.start()
        with start(environment, "bag", "play", tmp_path / "bag", "--topics", "/mine") as player:
            wait(lambda: heard == [padded(data)])
            assert player.wait(20) == 0


def test_a_loop_ends_when_asked(tmp_path, environment):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    heard = []
    with RawNode("receiver") as node:
        node.subscribe_raw("/t/text", String, heard.append, Delivery.RELIABLE)
        node.start()
        with start(environment, "bag", "play", strings(tmp_path / "bag", 3), "--loop") as player:
            wait(lambda: len(heard) >= 8)
            player.terminate()
            assert player.wait(20) == 0


# --- as a camera and a microphone


def write_clip(path, clip, start=0):
    """A file's pictures and sound as a camera and a microphone would have been recorded."""
    with BagWriter(path) as bag:
        for topic, kind in ((NAMES.image, Image), (NAMES.audio, AudioDataStamped), (NAMES.audio_info, AudioInfo)):
            bag.add(topic, kind)
        told = False
        for item in read_file(clip):
            header = Header(Time.from_ns(start + item.stamp), "cam")
            if isinstance(item, FrameItem):
                picture = item.image()
                height, width = picture.shape[:2]
                message = Image(header, height, width, "rgb8", 0, 3 * width, picture.reshape(-1))
                bag.write(NAMES.image, start + item.stamp, encode(message))
            else:
                mono = to_mono(item.samples, item.sample_rate)
                bag.write(NAMES.audio, start + item.stamp, encode(from_samples(header, mono)))
                if not told:  # after the first sound: the reader must look ahead
                    bag.write(NAMES.audio_info, start + item.stamp, encode(info_of(item.sample_rate)))
                told = True
    return path


def events_of(items):
    segmenter = Segmenter(SegmenterConfig(has_sound=True))
    events = [event for item in items for event in segmenter.push(item)]
    return [*events, *segmenter.flush()]


@pytest.mark.parametrize("begin", [0, 1_800_000_000 * SECOND])
def test_a_bag_gives_the_events_of_the_file_it_was_made_of(tmp_path, begin):
    clip = default_model_dir() / "demo.mp4"
    mine = events_of(read_bag(write_clip(tmp_path / "bag", clip, begin)))
    theirs = events_of(read_file(clip))
    assert [(type(event), event.stamp - begin) for event in mine] == [(type(event), event.stamp) for event in theirs]
    assert any(isinstance(event, ImageEvent) for event in mine) and any(isinstance(event, SoundEvent) for event in mine)
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(one, ImageEvent):
            assert one.frame_stamp - begin == other.frame_stamp
            assert np.array_equal(one.image, other.image)
        elif isinstance(one, SoundEvent):
            assert np.abs(one.samples - other.samples).max() <= 0.51 / 32768  # 16 bits instead of floats


def test_a_bag_without_sound_or_with_damaged_pictures(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add("/cam", Image)
        bag.add("/text", String)
        pixels = np.zeros(12, np.uint8)
        bag.write("/cam", 77, encode(Image(Header(Time(), ""), 2, 2, "rgb8", 0, 6, pixels)))
        bag.write("/cam", 78, b"\0\1\0\0\1")
    items = list(read_bag(tmp_path / "bag", "/cam"))
    assert [item.stamp for item in items] == [77] and not any(isinstance(item, SoundItem) for item in items)
    assert "1 messages cannot be used" in caplog.text
    with pytest.raises(ValueError, match="neither /other nor /audio"):
        list(read_bag(tmp_path / "bag", "/other"))
    with pytest.raises(ValueError, match="neither pictures nor sound"):
        list(read_bag(tmp_path / "bag", "/text"))


def test_a_moved_bag_is_still_a_bag(tmp_path):
    strings(tmp_path / "bag")
    shutil.move(tmp_path / "bag", tmp_path / "other")
    with BagReader(tmp_path / "other") as bag:
        assert bag.count == 5


def in_16_bits(path):
    """A file's items, with sound as a microphone sends it."""
    for item in read_file(path):
        if not isinstance(item, SoundItem):
            yield item
            continue
        pcm = from_samples(Header(Time(), ""), to_mono(item.samples, item.sample_rate)).audio.data
        yield SoundItem(item.stamp, pcm.view("<i2"), item.sample_rate)


def test_watching_a_bag_is_watching_the_file_it_was_made_of(tmp_path, capsys, monkeypatch):
    """The same words; with the file's sound in 16 bits, as a bag has it, the same scores too."""
    clip = default_model_dir() / "demo.mp4"
    bag = write_clip(tmp_path / "bag", clip, 1_800_000_000 * SECOND)
    said, scores = [], []
    for path, read in ((clip, read_file), (clip, in_16_bits), (bag, read_file), (bag / "bag.mcap", read_file)):
        monkeypatch.setattr("vispeak_node.commands.clip.read_file", read)
        assert main(["watch", str(path), "--json", "--ask", "3.2:What do you see?"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        replies = [line for line in lines if line["event"] == "reply_finished"]
        said.append([(line["start"], line["end"], line["trigger"], line["text"]) for line in replies])
        scores.append([line["score"] for line in lines if line["event"] == "score"])
    assert said[0] == said[1] == said[2] == said[3] and len(said[0]) == 3
    assert scores[0] and scores[1] == scores[2] == scores[3]
