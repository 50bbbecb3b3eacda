"""Photos of a camera or a video, as files that `adaptclip detect --watch` scores."""

import errno
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf.camera import capture, http_trigger, photos
from adaptclip_hf.camera.http_trigger import posted
from adaptclip_hf.camera.source import PASSWORD, Source, lasting_pictures
from adaptclip_hf.camera.triggers import Every, Still
from adaptclip_hf.cli import main
from adaptclip_hf.passed_over import PassedOver
from adaptclip_hf.runs.watching import FolderWatch

av = pytest.importorskip("av")
RATE, WIDTH, HEIGHT = 10, 160, 120


def write_video(file, pictures):
    """Greys of 0 to 255, or arrays (height, width), as a video of `RATE` pictures a second."""
    with av.open(str(file), "w") as video:
        stream = video.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 4_000_000
        stream.codec_context.time_base = Fraction(1, RATE)
        for number, picture in enumerate(pictures):
            grey = np.broadcast_to(np.asarray(picture, np.uint8), (HEIGHT, WIDTH))
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, -1), format="rgb24")
            frame.pts = number
            video.mux(stream.encode(frame))
        video.mux(stream.encode(None))
    return file


def square(left, brightness=60, seed=None):
    picture = np.full((HEIGHT, WIDTH), brightness, np.float32)
    picture[40:70, left : left + 30] += 120
    if seed is not None:
        picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return picture.clip(0, 255)


def greys_of(folder):
    return [round(float(np.asarray(Image.open(each)).mean())) for each in sorted(folder.iterdir())]


def test_every_so_many_seconds_of_a_video(tmp_path, capsys):
    video = write_video(tmp_path / "day 'one'.mp4", [100 + 4 * number for number in range(25)])
    assert main(["capture", str(video), str(tmp_path / "line"), "--every", "0.6", "--quiet"]) == 0
    assert greys_of(tmp_path / "line") == pytest.approx([100, 124, 148, 172, 196], abs=3)  # at 0, 0.6, ..., 2.4 s
    assert f"5 photos of 25 pictures: {tmp_path / 'line'}" in capsys.readouterr().out
    names = [each.name for each in sorted((tmp_path / "line").iterdir())]
    assert all(re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{3}}Z-00000{n}\.jpg", name) for n, name in enumerate(names, 1))


def test_so_many_photos_are_enough(tmp_path):
    video = write_video(tmp_path / "a.mp4", [100] * 10)
    assert main(["capture", str(video), str(tmp_path / "good"), "--every", "0.1", "--photos", "3", "--quiet"]) == 0
    assert len(list((tmp_path / "good").iterdir())) == 3


def test_pictures_that_do_not_come_are_not_made_up_for():
    every = Every(1.0)
    assert [at for at in (5.0, 5.5, 6.04, 7.0, 9.9, 10.0, 10.9, 11.0) if every.asks(None, at)] == [
        5.0,
        6.04,
        7.0,
        9.9,
        10.9,
    ]


@pytest.mark.parametrize("noise", [False, True])
def test_one_photo_each_time_that_motion_has_stopped(tmp_path, noise):
    ways = [0] * 8 + list(range(0, 60, 5)) + [60] * 20 + list(range(60, 20, -5)) + [20] * 12 + [25, 35, 45]
    shown = [square(left, seed=number if noise else None) for number, left in enumerate(ways)]
    video = write_video(tmp_path / "parts.mp4", shown)
    assert main(["capture", str(video), str(tmp_path / "line"), "--trigger", "still", "--quiet"]) == 0
    greys = [np.asarray(Image.open(each).convert("L")) for each in sorted((tmp_path / "line").iterdir())]
    assert [np.flatnonzero(grey[45:65].mean(0) > 120)[0] for grey in greys] == pytest.approx([60, 20], abs=1)


def test_light_that_flickers_is_no_motion(tmp_path):
    video = write_video(
        tmp_path / "light.mp4", [square(50, brightness=60 + 30 * (number // 4 % 2)) for number in range(40)]
    )
    still = Still()
    assert not any(still.asks(*picture) for picture in Source(str(video)).pictures())


def test_a_stream_that_breaks_off_is_tried_again():
    class Camera:
        shown, is_live = "rtsp://camera/1", True
        days = [["a", "b"], OSError("rtsp://camera/1 cannot be opened: no route"), OSError("later"), ["c"]]

        def pictures(self):
            day = self.days.pop(0)
            if isinstance(day, OSError):
                raise day
            yield from ((each, 0.0) for each in day)

    said, rests = [], []
    pictures = lasting_pictures(Camera(), said.append, rests.append)
    assert [next(pictures)[0] for _ in range(3)] == ["a", "b", "c"]
    assert rests == [0.5, 1, 2]  # told once, and when it is back
    assert said == ["rtsp://camera/1 has ended; it is tried again", "rtsp://camera/1 is back"]
    Camera.days = [OSError("rtsp://camera/1 cannot be opened: no route")]
    with pytest.raises(OSError, match="no route"):  # a camera that never showed anything is a wrong address
        next(lasting_pictures(Camera(), said.append, rests.append))


def post(address, **headers):
    request = urllib.request.Request(address, b"now", headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_post_takes_a_photo(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", [100] * 5)
    is_over = threading.Event()

    def pictures():
        while not is_over.wait(0.01):
            yield next(Source(str(video)).pictures())

    with posted("127.0.0.1", 0) as (trigger, address):
        running = threading.Thread(target=lambda: list(capture(pictures(), trigger, tmp_path / "line")))
        running.start()
        try:
            answers = [post(address) for _ in range(2)]
            assert post(address, Origin="http://elsewhere")[0] == post(address, Host="elsewhere.net")[0] == 403
        finally:
            is_over.set()
            running.join()
        assert [status for status, _ in answers] == [200, 200]
        names = sorted(each.name for each in (tmp_path / "line").iterdir())
        assert [answer["photo"] for _, answer in answers] == names  # each is there when it is told
        monkeypatch.setattr(http_trigger, "PATIENCE", 0.05)
        status, answer = post(address)
        assert status == 503 and "no picture" in answer["error"] and not trigger.asks(None, 0.0)
    with pytest.raises(OSError, match=r"--port 192\.0\.2\.1:80 cannot be served"), posted("192.0.2.1", 80):
        pass


def test_the_password_is_in_the_address_alone(monkeypatch):
    monkeypatch.setenv(PASSWORD, "p@ss/w:rd")
    source = Source("rtsp://line@10.0.0.7:8554/stream?channel=1")
    assert source._address == "rtsp://line:p%40ss%2Fw%3Ard@10.0.0.7:8554/stream?channel=1"
    assert source.shown == "rtsp://10.0.0.7:8554/stream" and source.is_live
    assert Source("rtsps://[fe80::1]/s")._address == "rtsps://[fe80::1]/s"  # without a user no password
    monkeypatch.delenv(PASSWORD)
    source = Source("rtsp://line:secret@127.0.0.1:9/s")
    assert source._address == "rtsp://line:secret@127.0.0.1:9/s"
    with pytest.raises(OSError, match="cannot be opened: Connection refused") as raised:
        next(source.pictures())
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.mp4", "nowhere.mp4 cannot be opened: No such file or directory"),
        ("noise.mp4", "noise.mp4 cannot be opened: Invalid data"),
        ("list.m3u8", "list.m3u8 "),
        ("sound.wav", "sound.wav shows no pictures"),
        ("987", "/dev/video987 cannot be opened: No such file or directory"),
        ("http://10.0.0.7/", "http:// is no address of a camera: expected a number"),
        ("rtsp://host:port/", "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_had_is_told_in_one_line(source, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(1, 100)) * 20)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with av.open("sound.wav", "w") as sound:
        stream = sound.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        sound.mux(stream.encode(frame))
    assert main(["capture", source, "line", "--every", "1", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "one of the arguments --every --trigger is required"),
        (["--every", "0"], "expected a number above 0"),
        (["--every", "1", "--port", "8200"], "--port belongs to --trigger http"),
        (["--trigger", "http"], "a.mp4 is a file"),
    ],
)
def test_a_wrong_call(more, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["capture", "a.mp4", "line", *more])
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_without_the_library_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["capture", "0", str(tmp_path / "line"), "--every", "1"]) == 1
    assert "pip install 'adaptclip-hf[video]'" in capsys.readouterr().err and not (tmp_path / "line").exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_photo(tmp_path, monkeypatch, capsys):
    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    video = write_video(tmp_path / "a.mp4", [100] * 3)
    monkeypatch.setattr(photos, "write_whole", full)
    assert main(["capture", str(video), str(tmp_path / "line"), "--every", "1", "--quiet"]) == 1
    assert "No space left on device" in capsys.readouterr().err and not list((tmp_path / "line").iterdir())


def test_ctrl_c_ends_a_camera_well(tmp_path, monkeypatch, capsys):
    video = write_video(tmp_path / "a.mp4", [100] * 3)
    picture = next(Source(str(video)).pictures())

    def stopped(source):
        yield picture
        raise KeyboardInterrupt

    monkeypatch.setattr(Source, "pictures", stopped)
    assert main(["capture", "0", str(tmp_path / "line"), "--every", "1", "--quiet"]) == 0
    assert "1 photos of 1 pictures" in capsys.readouterr().out
    assert main(["capture", str(video), str(tmp_path / "line"), "--every", "1", "--quiet"]) == 130


def test_a_watching_run_gets_each_photo_once_and_nothing_else(tmp_path):
    video, line = write_video(tmp_path / "a.mp4", [100 + number for number in range(20)]), tmp_path / "line"
    line.mkdir()
    passed_over = PassedOver()
    watched = FolderWatch(line, lambda path: False, passed_over=passed_over).complete_images()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(lambda: list(filter(None, capture(Source(str(video)).pictures(), Every(0.1), line))))
        seen: list[Path] = []
        while len(seen) < 20:
            seen += next(watched)
    assert sorted(seen) == written.result() and not passed_over.counts


def test_a_capture_needs_no_model(tmp_path):
    code = """
import sys
sys.argv = ["adaptclip"]
from adaptclip_hf.cli import main
assert main(["capture", "nowhere.mp4", "line", "--every", "1"]) == 1
assert not {"torch", "transformers", "scipy", "pandas"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
