"""Numbered reports through the channels' own transports, each sent until its transport has confirmed it.

What a load has in ``confirmed`` was promised to its sender: each of those ids must have its one outcome.
Senders repeat what was not confirmed, so a repetition is a duplicate, never a second report.
"""

import contextlib
import csv
import json
import os
import random
import subprocess
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.faults.harness import RECOVERY_LIMIT_S, Stack

STREETS = ("林山寨街道", "经八路街道", "北林路街道", "东大街街道", "花园口镇")
MATTERS = ("路面塌陷", "路面积水", "暴露垃圾", "占道经营", "井盖缺失", "路灯不亮", "施工噪音扰民")
METRICS = ("water_level", "ponding", "shed_smoke", "lift_trapped", "manhole_tilt")

REFUSED = (400, 401, 403, 404, 413, 415, 422)


def row(native_id: str, rng: random.Random) -> dict[str, str]:
    """One hotline report in the columns of the call centre's export."""
    street, matter = rng.choice(STREETS), rng.choice(MATTERS)
    return {
        "留言编号": native_id,
        "留言用户": f"U{rng.randrange(10**6):06d}",
        "留言主题": f"{street}{matter}",
        "留言时间": "2026/3/1 8:15:00",
        "留言详情": f"{street}{rng.randrange(1, 200)}号附近{matter}，请尽快处理。",
    }


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    """A call-centre export; whole or not there."""
    draft = path.with_suffix(".part")
    with draft.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


class Load(threading.Thread):
    """Sends until told to stop."""

    channel: str

    def __init__(self, stack: Stack, seed: int) -> None:
        super().__init__(daemon=True, name=type(self).__name__)
        self.stack, self.rng = stack, random.Random(seed)
        self.confirmed: list[str] = []
        self.error = ""
        self.end = threading.Event()

    def run(self) -> None:
        """Thread body; an error that no fault explains ends the load and is told."""
        try:
            number = 0
            while not self.end.is_set() and not self.error:
                number = self.send(number)
        except Exception as error:
            self.error = f"{self.name}: {error!r}"
        finally:
            self.close()

    def finish(self) -> None:
        """Stop after what is at hand is confirmed; wait for that."""
        self.end.set()
        self.join(3 * RECOVERY_LIMIT_S)
        if self.is_alive():
            self.error = self.error or f"{self.name}: what was at hand was not confirmed in time"

    @abstractmethod
    def send(self, number: int) -> int:
        """Send from this number on until it is confirmed; the next number."""

    def close(self) -> None:
        """Release connections."""


class Push(Load):
    """Arrays over HTTP, each repeated until it is answered 202."""

    channel = "hotline12345"

    def __init__(self, stack: Stack, seed: int, rate: float = 500.0, batch: int = 50) -> None:
        """``rate``: reports a second, as far as they are taken; what was missed is not made good."""
        super().__init__(stack, seed)
        self.batch, self.gap_s, self.due = batch, batch / rate, time.monotonic()
        keys = json.loads((stack.home / "keys.json").read_text(encoding="utf-8"))
        self.client = httpx.Client(
            base_url=stack.url,
            headers={"X-API-Key": keys[self.channel]},
            timeout=15,
            trust_env=False,
        )
        self.former: list[dict[str, str]] = []

    def send(self, number: int) -> int:
        batch = [row(f"H{number + i:07d}", self.rng) for i in range(self.batch)]
        self.push(batch)
        self.former = batch
        now = time.monotonic()
        self.due = max(self.due + self.gap_s, now)
        self.end.wait(self.due - now)
        return number + self.batch

    def push(self, batch: list[dict[str, str]]) -> None:
        """From any thread: until it is confirmed, or an error is set."""
        end = time.monotonic() + 3 * RECOVERY_LIMIT_S
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                answer = self.client.post(f"/channels/{self.channel}/reports", json=batch)
                if answer.status_code == httpx.codes.ACCEPTED:
                    self.confirmed.extend(report["留言编号"] for report in batch)
                    return
                if answer.status_code in REFUSED:
                    self.error = f"push refused: {answer.status_code} {answer.text[:300]}"
                    return
            time.sleep(0.1)
        self.error = "a batch was not confirmed in three times the recovery limit"

    def close(self) -> None:
        self.client.close()


class Drop(Load):
    """Files that another system leaves in the channel's folder."""

    channel = "hotline12345"

    def __init__(self, stack: Stack, seed: int, rows: int = 200, pause_s: float = 2.0) -> None:
        super().__init__(stack, seed)
        self.folder = stack.home / "drop" / self.channel
        self.rows, self.pause_s = rows, pause_s

    def send(self, number: int) -> int:
        rows = [row(f"D{number + i:07d}", self.rng) for i in range(self.rows)]
        try:
            write_csv(self.folder / f"drop-{number:07d}.csv", rows)
        except OSError:
            self.end.wait(1.0)
            return number
        self.confirmed.extend(r["留言编号"] for r in rows)
        self.end.wait(self.pause_s)
        return number + self.rows


class Device(Load):
    """Sensors over MQTT, QoS 1: confirmed is what the broker has acknowledged."""

    channel = "iot"

    def __init__(self, stack: Stack, seed: int, batch: int = 20, pause_s: float = 0.4) -> None:
        super().__init__(stack, seed)
        self.batch, self.pause_s = batch, pause_s
        self.client: mqtt.Client | None = None

    def send(self, number: int) -> int:
        alarms = [self._alarm(number + i) for i in range(self.batch)]
        while not self._published(alarms):
            if self.end.wait(0.5) and self.error:
                return number
        self.confirmed.extend(f"{a['device_id']}/{a['seq']}" for a in alarms)
        self.end.wait(self.pause_s)
        return number + self.batch

    def _alarm(self, number: int) -> dict[str, Any]:
        metric = self.rng.choice(METRICS)
        return {
            "device_id": f"T{number % 97:03d}",
            "seq": number,
            "ts": "2026-03-01T08:15:00+08:00",
            "station": self.rng.choice(STREETS),
            "metric": metric,
            "value": self.rng.randrange(100),
            "unit": "",
            "message": f"{metric} 告警",
            "lng": 113.6 + self.rng.random() / 10,
            "lat": 34.7 + self.rng.random() / 10,
            "state": "alarm",
        }

    def _published(self, alarms: list[dict[str, Any]]) -> bool:
        try:
            if self.client is None:
                self.client = mqtt.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
                self.client.connect("127.0.0.1", self.stack.port + 8)
                self.client.loop_start()
            sent = [
                self.client.publish(
                    f"city/iot/{a['device_id']}/alarm", json.dumps(a, ensure_ascii=False), qos=1
                )
                for a in alarms
            ]
            for one in sent:
                one.wait_for_publish(5.0)
            if all(one.is_published() for one in sent):
                return True
        except (OSError, ValueError, RuntimeError):
            pass
        self.close()
        return False

    def close(self) -> None:
        if self.client is not None:
            self.client.loop_stop()
            with contextlib.suppress(OSError, ValueError):
                self.client.disconnect()
            self.client = None


class Replay(Load):
    """Files at full speed by ``quanyu replay``, started again when it dies, as an operator would.

    The next file begins only when what was sent before has nearly all its outcomes: a run of faults is no
    test of how large a backlog may become.
    """

    channel = "hotline12345"

    def __init__(
        self,
        stack: Stack,
        seed: int,
        env: dict[str, str],
        backlog: Callable[[], int],
        rows: int = 20_000,
    ) -> None:
        super().__init__(stack, seed)
        self.env, self.backlog, self.rows = {**stack.env, **env}, backlog, rows
        self.process: subprocess.Popen[bytes] | None = None

    def send(self, number: int) -> int:
        while self.backlog() > self.rows:
            if self.end.wait(0.5):
                return number
        source = self.stack.home / f"export-{number:08d}.csv"
        rows = [row(f"F{number + i:08d}", self.rng) for i in range(self.rows)]
        write_csv(source, rows)
        command = self.stack.command("replay", str(source), "--channel", self.channel)
        end = time.monotonic() + 4 * RECOVERY_LIMIT_S
        while time.monotonic() < end:
            with (self.stack.home / "replay.log").open("ab") as log:
                self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
            if self.process.wait() == 0:
                self.confirmed.extend(r["留言编号"] for r in rows)
                source.unlink()
                return number + self.rows
            # The broker was away for longer than the replay waits: it says so, exits 2 and resumes.
            time.sleep(0.3)
        self.error = f"a replay did not finish, see {self.stack.home}/replay.log"
        return number

    def kill(self, number: int) -> bool:
        """Send the process a signal; False when none runs now."""
        process = self.process
        if process is None or process.poll() is not None:
            return False
        os.kill(process.pid, number)
        return True
