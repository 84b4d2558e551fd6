"""Downloads Pillow's source distribution, with pip's own settings: `python pillow_sdist.py VERSION DIRECTORY`.

`pip download` would run the package's build backend; this only finds the file in the index, and gets it.
Exits 2, with the reason, where the index cannot be reached.
"""

import hashlib
import sys
from pathlib import Path


def main(version, directory):
    """The exit code."""
    from pip._internal.commands import create_command
    from pip._vendor.packaging.specifiers import SpecifierSet

    command = create_command("download")
    options, _ = command.parse_args(["--no-binary=:all:", "--no-deps", "--retries=1", "--timeout=30", "pillow"])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        found = finder.find_best_candidate("pillow", SpecifierSet(f"=={version}")).best_candidate
        if found is None:
            sys.stderr.write(f"no index that pip knows has the source of Pillow {version}" + "\n")
            return 2
        try:
            answer = session.get(found.link.url_without_fragment)
            answer.raise_for_status()
        except OSError as e:
            sys.stderr.write(f"the source of Pillow {version} cannot be had: {type(e).__name__}" + "\n")
            return 2
        content = answer.content
    if found.link.hash_name and hashlib.new(found.link.hash_name, content).hexdigest() != found.link.hash:
        sys.stderr.write(f"{found.link.filename} has another hash than the index says" + "\n")
        return 1
    made = Path(directory, found.link.filename + ".part")
    made.write_bytes(content)
    made.rename(made.with_suffix(""))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
