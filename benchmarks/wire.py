"""What reaches a line when everything is killed: decisions of `adaptclip detect` by command, folder, webhook and MQTT
(mosquitto), while the program, the receiver of the webhook and the broker are killed again and again.

    python benchmarks/wire.py [--decisions 1000] [--kills 5] [--model FOLDER]

Needs `mosquitto`. A small model takes less time: what is tested is the wire.
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

# names that a shell, an option parser or a template would take for something else
ODD = ["{}; touch owned", "{} 'single' \"double\"", "{}\nanother line", "-rf {}", "$(touch owned) {}", "{} {{score}}"]
COMMAND = """import os, sys
opened = os.open("command.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
assert os.path.isfile(sys.argv[1]) and float(sys.argv[2]) >= 0
os.write(opened, sys.stdin.buffer.readline())
"""
HOOK = """import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
opened = os.open("webhook.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        os.write(opened, self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SUBSCRIBER = """import os, sys, time
from paho.mqtt import client
opened = os.open("mqtt.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
listener = client.Client(client.CallbackAPIVersion.VERSION2, "listener", clean_session=False)
listener.on_connect = lambda client, *_: client.subscribe("line/1", 1)
listener.on_message = lambda _, __, message: os.write(opened, message.payload + b"\\n")
listener.reconnect_delay_set(1, 1)
while True:
    try:
        listener.connect("127.0.0.1", int(sys.argv[1]))
        break
    except OSError:
        time.sleep(0.1)
listener.loop_forever()
"""
# a broker that keeps its subscribers and messages over a kill
BROKER = """user root
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 100000
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", help="folder or Hub id; the embedded one by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_photos(args.decisions)
        start = time.perf_counter()
        killed = run_and_kill(args)
        rows = read_lines("out/results.jsonl")
        print(f"{len(rows)} rows, {time.perf_counter() - start:.0f} s; killed: {killed}")
        for name in ("command", "webhook", "mqtt"):
            tell(name, rows, [body["path"] for body in read_lines(f"{name}.jsonl")])
        tell("folder", rows, sorted_photos(rows))
        print(f"something ran in a shell: {any(Path().rglob('owned'))}")


def make_photos(count: int):
    Path("line").mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        name = ODD[index // 10 % len(ODD)].format(index) if index % 10 == 0 else str(index)
        Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(Path("line", f"{name}.png"))


def run_and_kill(args) -> dict[str, int]:
    """Starts all, kills one after the other as decisions arrive, and waits for the end of the run."""
    for name, text in (("command.py", COMMAND), ("hook.py", HOOK), ("subscriber.py", SUBSCRIBER)):
        Path(name).write_text(text)
    hook_port, broker_port = free_port(), free_port()
    Path("broker.conf").write_text(BROKER.format(port=broker_port, folder=Path.cwd()))
    detect = [sys.executable, "-m", "adaptclip_hf.cli", "detect", "line", "--threshold", "0", "--output", "out"]
    detect += ["--no-heatmaps", "--quiet", *(["--model", args.model] if args.model else [])]
    detect += ["--on-anomalous", f"{sys.executable} -S -E command.py {{path}} {{score}}", "--sort-into", "sorted"]
    detect += ["--webhook", f"http://127.0.0.1:{hook_port}/", "--mqtt", f"mqtt://127.0.0.1:{broker_port}/line/1"]
    commands = {
        "broker": ["mosquitto", "-c", "broker.conf"],
        "receiver": [sys.executable, "hook.py", str(hook_port)],
        "program": detect,
    }
    running = {name: start(command) for name, command in commands.items()}
    subscriber = start([sys.executable, "subscriber.py", str(broker_port)])
    victims = [name for _ in range(args.kills) for name in commands]
    killed = dict.fromkeys(commands, 0)
    while running["program"].poll() is None:
        time.sleep(0.02)
        done = count_lines("out/results.jsonl")
        if (number := sum(killed.values())) < len(victims) and done > args.decisions * (number + 1) / (
            len(victims) + 1
        ):
            victim = victims[number]
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            killed[victim] += 1
            time.sleep(0.5)
            running[victim] = start(commands[victim])
    print(f"the program ended with status {running.pop('program').wait()}")
    time.sleep(3)  # for the subscriber
    for process in (*running.values(), subscriber):
        process.kill()
        process.wait()
    return killed


def start(command: list[str]) -> subprocess.Popen:
    with Path("log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def count_lines(file: str) -> int:
    return Path(file).read_bytes().count(b"\n") if Path(file).is_file() else 0


def read_lines(file: str) -> list[dict]:
    return [json.loads(line) for line in Path(file).read_bytes().splitlines()]


def sorted_photos(rows: list[dict]) -> list[str]:
    """The paths of the photos that were sorted, in the order of their copies."""
    path_of = {hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest(): row["path"] for row in rows}
    copies = sorted(Path("sorted/anomalous").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return [path_of[hashlib.sha256(file.read_bytes()).hexdigest()] for file in copies]


def tell(name: str, rows: list[dict], paths: list[str]):
    first = list(dict.fromkeys(paths))
    expected = [row["path"] for row in rows]
    lost, repeated = len(set(expected) - set(first)), len(paths) - len(first)
    print(
        f"{name}: {len(first)} decisions, {lost} lost, in order: {first == expected}, {repeated} repeated", flush=True
    )


if __name__ == "__main__":
    main()
