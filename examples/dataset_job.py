"""Log a folder of image files, log it again after it has grown, and export what is stored.

On the command line it is `lumatile ingest photos --store runs` and `lumatile export runs RECORDING exported ...`.
"""

from pathlib import Path

from PIL import Image
from skimage import data

from lumatile_service.batch import ingest
from lumatile_service.export import export

photos = Path("photos")
album = photos / "album"
album.mkdir(parents=True)
for name in ("astronaut", "chelsea", "coffee"):
    Image.fromarray(getattr(data, name)()).save(album / f"{name}.png")

first = ingest(photos, "runs", tile_format="srgb8")
print(f"{first.logged} of {first.values} files were logged to recording {first.recording_id}")

Image.fromarray(data.rocket()).save(album / "rocket.jpg")
(album / "torn.png").write_bytes((album / "coffee.png").read_bytes()[:5000])

second = ingest(photos, "runs", tile_format="srgb8")  # the same recording: its id comes from the folder
print(f"{second.logged} of {second.values} files were new; {second.stored_before} were stored before")
for reason, count in second.errors.items():  # a file that cannot be decoded does not end the job
    print(f"{count} error row: {reason}, for example {second.examples[reason]}")

exported = export("runs", second.recording_id, "exported", format="images")
print(f"{exported.frames} frames were exported; left out: {dict(exported.left_out)}")
