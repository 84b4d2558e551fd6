"""Requests to a bucket, and the translation of their errors: the one file that knows the client library, obstore.

The library itself retries requests that a server answers with 5xx or does not answer, with growing pauses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lumatile.errors import StoreDeniedError, StoreError

if TYPE_CHECKING:
    from obstore import WritableFile

PART_BYTES = 8 << 20
"""An object that is larger than this is sent in parts of this size."""

PARTS = 4
"""The number of parts that are sent at once."""

REQUEST_SECONDS = 30
"""The longest time that one request may take."""

RETRIES = 8
RETRY_SECONDS = 30
"""The most times that a request is tried again, and the most seconds."""

COALESCE_BYTES = 64 << 10
"""Ranges that are at most this far apart are fetched as one."""

MESSAGE = 300
"""The longest text of a server that an error shows."""

_used_in: int | None = None
"""The process that the library works in: in a forked child calls would wait forever, for threads that it lacks."""


class Upload:
    """An object that is being sent: it appears whole when it is finished, or never."""

    def __init__(self, client: ObjectClient, key: str, writer: WritableFile) -> None:
        """Wrap the library's writer; `ObjectClient.upload` does this."""
        self._client, self._key, self._writer = client, key, writer

    def write(self, data: memoryview) -> None:
        """Send more. `data` must not change until it is sent. Raises OSError, also of an earlier part."""
        with self._client.errors(self._key):
            self._writer.write(data)

    def finish(self) -> None:
        """Send the rest, so that the object appears. Raises OSError."""
        with self._client.errors(self._key):
            self._writer.close()


class ObjectClient:
    """The objects whose names begin with a URL. A failure raises StoreError, or the error that a method names."""

    def __init__(self, url: str) -> None:
        """Connect to `url`, s3://bucket/prefix for example; the library reads the environment, AWS_* and others."""
        global _used_in  # noqa: PLW0603 - there is one library in a process
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as e:
            raise StoreError(f"{url} needs the package {e.name}: pip install 'lumatile[s3]'") from e
        self.url = url.rstrip("/")
        _used_in = _used_in or os.getpid()
        self._library = obstore
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        with self.errors(""):
            self._store: Any = from_url(
                self.url,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "timeout": timedelta(seconds=REQUEST_SECONDS),
                },
                retry_config={
                    "max_retries": RETRIES,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
                },
            )

    def put(self, key: str, content: Any, *, new: bool = False) -> None:
        """Write an object in one request. `new`: raise FileExistsError where it exists."""
        with self.errors(key):
            self._library.put(
                self._store,
                key,
                memoryview(content).cast("B"),
                mode="create" if new else "overwrite",
                use_multipart=False,
            )

    def upload(self, key: str) -> Upload:
        """Begin to write an object part by part. If it is not finished, the bucket has to clean up the parts."""
        with self.errors(key):
            writer = self._library.open_writer(self._store, key, buffer_size=PART_BYTES, max_concurrency=PARTS)
        return Upload(self, key, writer)

    def get(self, key: str) -> bytes:
        """Read a whole object. Raises FileNotFoundError."""
        with self.errors(key):
            return bytes(self._library.get(self._store, key).bytes())

    def tail(self, key: str, nbytes: int) -> tuple[bytes, int]:
        """Read the last bytes of an object, and its size. Raises FileNotFoundError."""
        with self.errors(key):
            got = self._library.get(self._store, key, options={"range": {"suffix": nbytes}})
            return bytes(got.bytes()), int(got.meta["size"])

    def ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Read ranges (start, stop) of an object, several at once; shorter where it ends. Raises FileNotFoundError."""
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        with self.errors(key):
            got = self._library.get_ranges(self._store, key, starts=starts, ends=stops, coalesce=COALESCE_BYTES)
        return [memoryview(part).cast("B") for part in got]

    def listing(self, prefix: str, *, after: str | None = None) -> Iterator[tuple[str, int]]:
        """Yield (key, size) of the objects under `prefix/`, only those after the key `after`; a thousand a request."""
        with self.errors(prefix):
            for chunk in self._library.list(self._store, prefix or None, offset=after, chunk_size=1000):
                yield from ((entry["path"], entry["size"]) for entry in chunk)

    def folders(self) -> list[str]:
        """Return the parts of keys before the first slash, each once, sorted."""
        with self.errors(""):
            return sorted(self._library.list_with_delimiter(self._store)["common_prefixes"])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        if keys:
            with self.errors(keys[0]), suppress(FileNotFoundError):
                self._library.delete(self._store, list(keys))

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Turn the library's errors into StoreError, or FileNotFoundError and FileExistsError of the object `key`."""
        from obstore import exceptions

        if _used_in != os.getpid():
            raise StoreError(
                f"{self.url}: a process that was forked from one that used an object store cannot use one: spawn it"
            )
        where = f"{self.url}/{key}"
        try:
            yield
        except exceptions.AlreadyExistsError as e:
            raise FileExistsError(f"{where} exists already") from e
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as e:
            raise StoreDeniedError(f"{where}: access denied: {_said(e)}") from e
        except FileNotFoundError as e:
            if "NoSuchBucket" in str(e):
                raise StoreError(f"{self.url}: {_said(e)}") from e
            raise FileNotFoundError(f"{where} does not exist") from e
        except exceptions.BaseError as e:
            if "169.254.169.254" in str(e):  # where it looks for an instance's role when it has no credentials
                raise StoreDeniedError(
                    f"{self.url}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (a profile of the "
                    "AWS command line is not read: `aws configure export-credentials --format env` prints its own)"
                ) from e
            if re.search("40[13] (Forbidden|Unauthorized)", str(e)):  # the library does not tell for a listing
                raise StoreDeniedError(f"{where}: access denied: {_said(e)}") from e
            raise StoreError(f"{where}: {_said(e)}") from e


def _said(error: Exception) -> str:
    """Return the message of a server, or of the library, on one short line."""
    text = str(error).partition("\n\nDebug source")[0]
    answer = re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", text)
    text = f"{answer[2].rstrip('.')} ({answer[1]})" if answer else " ".join(text.split())
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]}..."
