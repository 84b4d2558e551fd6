"""A bucket's verbs, and what its errors become: the one file that knows the client library, obstore.

The library retries by itself what a server answers with 5xx or does not answer, with growing pauses.
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
"""An object larger than this is sent in parts of this size."""

PARTS = 4
"""So many are under way at once."""

REQUEST_SECONDS = 30
"""Longest that one request may take."""

RETRIES = 8
RETRY_SECONDS = 30
"""How often, and how long, a request is tried again."""

COALESCE_BYTES = 64 << 10
"""Ranges no farther apart than this are fetched as one."""

MESSAGE = 300
"""Longest text of a server's that an error shows."""

_used_in: int | None = None
"""The process that the library works in: a forked child's calls would wait forever for threads it has not."""


class Upload:
    """An object that is being sent; it appears when it is finished, whole, or never."""

    def __init__(self, client: ObjectClient, key: str, writer: WritableFile) -> None:
        """Made by `ObjectClient.upload`."""
        self._client, self._key, self._writer = client, key, writer

    def write(self, data: memoryview) -> None:
        """Send more; the memory is the library's until it is sent. Raises OSError, of an earlier part too."""
        with self._client.errors(self._key):
            self._writer.write(data)

    def finish(self) -> None:
        """Send the rest; the object appears. Raises OSError."""
        with self._client.errors(self._key):
            self._writer.close()


class ObjectClient:
    """The objects whose names begin with a URL. Whatever fails raises StoreError, or what a method says."""

    def __init__(self, url: str) -> None:
        """`url`: as the library takes it, s3://bucket/prefix; so are settings of the environment: AWS_* and others."""
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
        """Write an object at once; `new`: raises FileExistsError where it exists."""
        with self.errors(key):
            self._library.put(
                self._store,
                key,
                memoryview(content).cast("B"),
                mode="create" if new else "overwrite",
                use_multipart=False,
            )

    def upload(self, key: str) -> Upload:
        """Write an object part by part. If it is not finished, the parts are the bucket's to clean up."""
        with self.errors(key):
            writer = self._library.open_writer(self._store, key, buffer_size=PART_BYTES, max_concurrency=PARTS)
        return Upload(self, key, writer)

    def get(self, key: str) -> bytes:
        """A whole object. Raises FileNotFoundError."""
        with self.errors(key):
            return bytes(self._library.get(self._store, key).bytes())

    def tail(self, key: str, nbytes: int) -> tuple[bytes, int]:
        """The last bytes of an object, and its size. Raises FileNotFoundError."""
        with self.errors(key):
            got = self._library.get(self._store, key, options={"range": {"suffix": nbytes}})
            return bytes(got.bytes()), int(got.meta["size"])

    def ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Some ranges (start, stop) of an object, several at once; shorter where it ends. Raises FileNotFoundError."""
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        with self.errors(key):
            got = self._library.get_ranges(self._store, key, starts=starts, ends=stops, coalesce=COALESCE_BYTES)
        return [memoryview(part).cast("B") for part in got]

    def listing(self, prefix: str, *, after: str | None = None) -> Iterator[tuple[str, int]]:
        """(key, size) of the objects under `prefix/`, those after the key `after` alone; a thousand a request."""
        with self.errors(prefix):
            for chunk in self._library.list(self._store, prefix or None, offset=after, chunk_size=1000):
                yield from ((entry["path"], entry["size"]) for entry in chunk)

    def folders(self) -> list[str]:
        """What comes before the first slash in keys, sorted."""
        with self.errors(""):
            return sorted(self._library.list_with_delimiter(self._store)["common_prefixes"])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; it is no error where there are none."""
        if keys:
            with self.errors(keys[0]), suppress(FileNotFoundError):
                self._library.delete(self._store, list(keys))

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """The library's errors become StoreError, or FileNotFoundError and FileExistsError of an object `key`."""
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
            raise StoreDeniedError(f"{where}: the store denies it: {_said(e)}") from e
        except FileNotFoundError as e:
            if "NoSuchBucket" in str(e):
                raise StoreError(f"{self.url}: {_said(e)}") from e
            raise FileNotFoundError(f"{where} does not exist") from e
        except exceptions.BaseError as e:
            if "169.254.169.254" in str(e):  # where it looks for an instance's role when it has been given nothing
                raise StoreDeniedError(
                    f"{self.url}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (a profile of the "
                    "AWS command line is not read: `aws configure export-credentials --format env` prints its own)"
                ) from e
            if re.search("40[13] (Forbidden|Unauthorized)", str(e)):  # of a listing, the library does not tell
                raise StoreDeniedError(f"{where}: the store denies it: {_said(e)}") from e
            raise StoreError(f"{where}: {_said(e)}") from e


def _said(error: Exception) -> str:
    """What a server, or the library, says, on one short line."""
    text = str(error).partition("\n\nDebug source")[0]
    answer = re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", text)
    text = f"{answer[2].rstrip('.')} ({answer[1]})" if answer else " ".join(text.split())
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]}..."
