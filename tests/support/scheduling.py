"""Which tests pytest-xdist keeps in one process: those of a file that shares a fixture, so that it is made once."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]


@cache
def _shares(file):
    return 'scope="module"' in (ROOT / file).read_text("utf-8")


class FilesThatShare(LoadScopeScheduling):
    """Hand out whole files whose fixtures have the scope of a module, the largest first, then single tests."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return file if _shares(file) else nodeid
