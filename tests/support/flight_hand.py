"""A Flight client by hand, which sends a server what it likes."""

import contextlib
import json
import time
from dataclasses import asdict

import pyarrow as pa
from pyarrow import flight
from tests.support.flight_service import image

import lumatile as lt
from lumatile.format.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.sink.memory import VALUES
from lumatile.wire.acknowledgements import Acknowledgement
from lumatile.wire.encoding import encode


class Hand:
    """A client by hand: it sends what it likes."""

    def __init__(self, url, command=None, recording="run"):
        settings = RecordingSettings(application_id="flight", recording_id=recording)
        command = json.dumps({"settings": asdict(settings)}).encode() if command is None else command
        self.client = flight.connect(url)
        self.writer, self.reader = self.client.do_exchange(flight.FlightDescriptor.for_command(command))

    def send(self, batches, schema=LOG):
        self.writer.begin(schema)
        for batch in batches:
            self.writer.write_batch(batch)

    def answers(self):
        """All messages until the end of the stream."""
        return [Acknowledgement.decode(chunk.app_metadata.to_pybytes()) for chunk in self.reader]

    def durable(self, count):
        """Wait until so many values are."""
        keys = set()
        for chunk in self.reader:
            for producer, first, last in Acknowledgement.decode(chunk.app_metadata.to_pybytes()).durable:
                keys.update((producer, seq) for seq in range(first, last + 1))
            if len(keys) >= count:
                return keys
        raise AssertionError(f"{len(keys)} of {count} are durable")

    def end(self):
        """Nothing more comes; give what is answered."""
        self.writer.done_writing()
        return self.answers()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.cancel()
        with contextlib.suppress(Exception):
            self.writer.close()
        self.client.close()


def logged(count, log=None):
    """Values as a recording makes them: images that the oracle knows, or what `log` logs."""
    name = f"by hand {time.monotonic_ns()}"
    recording = lt.new_recording("flight", "run", sink=f"memory://{name}")
    for i in range(count):
        recording.set_time_sequence("i", i)
        recording.log_image("w/0", image(0, i))
    if log is not None:
        log(recording)
    recording.disconnect()
    return list(VALUES.pop(name))


def changed(**columns):
    """A batch of one value, with other columns."""
    batch = next(encode(logged(1)))
    arrays = [pa.array([columns[f.name]], f.type) if f.name in columns else batch[f.name] for f in LOG]
    return pa.record_batch(arrays, schema=LOG)
