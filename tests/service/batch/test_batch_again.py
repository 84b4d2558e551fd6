"""What a second run leaves: what a fresh run of the dataset as it is now would give."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.support.shards import encoded, write
from typer.testing import CliRunner

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import LogCall, ingest
from lumatile_service.batch.job_lock import JobRunningError, only_job
from lumatile_service.cli.app import app


def picture(number):
    return np.full((4, 4, 3), number, np.uint8)


def put(root, *numbers):
    root.mkdir(exist_ok=True)
    for number in numbers:
        Image.fromarray(picture(number)).save(root / f"img_{number:03d}.png")


def recording_of(store):
    return lt.open_store(store).recording()


def frames(store):
    """(entity, times, what is stored) of all frames, in no order."""
    recording = recording_of(store)
    return sorted(
        (entity, sorted((k, int(v)) for k, v in f.times.items() if not k.startswith("log_")), f.source().tobytes())
        for entity in recording.entities()
        for f in recording.frames(entity)
        if f.error is None
    )


def shown(store, entity, timeline, instants):
    """What holds at each instant."""
    found = (recording_of(store).latest_at(entity, at={timeline: instant}) for instant in instants)
    return [None if frame is None else int(frame.source().flat[0]) for frame in found]


def same_as_fresh(source, store, tmp_path, **options):
    """Run the job again, and compare with a new store."""
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    ingest(source, tmp_path / "fresh")
    summary = ingest(source, store, **options)
    assert frames(store) == frames(tmp_path / "fresh")
    assert verify(store).ok
    again = ingest(source, store, **options)
    assert (again.logged, again.moved, again.withdrawn, again.gone) == (0, 0, 0, 0)
    return summary


def test_files_that_are_added_in_between_get_their_numbers_and_the_others_theirs(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2, 4)
    ingest(root, store)
    put(root, 3)
    summary = same_as_fresh(root, store, tmp_path)
    assert (summary.logged, summary.moved, summary.withdrawn, summary.gone) == (1, 1, 1, 0)
    assert shown(store, "d", "image", range(4)) == [1, 2, 3, 4]


def test_values_of_deleted_files_stay_and_are_counted_until_they_are_pruned(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2, 3, 4)
    ingest(root, store)
    (root / "img_002.png").unlink()
    summary = ingest(root, store)
    assert (summary.logged, summary.moved, summary.withdrawn, summary.gone) == (0, 2, 2, 1)
    assert shown(store, "d", "image", range(5)) == [1, 3, 4, 4, 4]
    summary = same_as_fresh(root, store, tmp_path, prune=True)
    assert (summary.logged, summary.withdrawn, summary.gone) == (0, 1, 0)


def test_a_source_that_is_not_mounted_prunes_nothing(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2)
    ingest(root, store)
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    summary = ingest(root, store, format="images", prune=True)
    assert (summary.values, summary.withdrawn, summary.gone) == (0, 0, 2)
    assert shown(store, "d", "image", range(2)) == [1, 2]


def test_a_file_that_is_changed_and_reverted_shows_its_first_content(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2)
    ingest(root, store)
    Image.fromarray(picture(9)).save(root / "img_001.png")
    assert ingest(root, store).changed == 1
    assert shown(store, "d", "image", range(2)) == [9, 2]
    put(root, 1)
    summary = ingest(root, store)
    assert (summary.logged, summary.changed, summary.moved) == (1, 1, 0)
    assert shown(store, "d", "image", range(2)) == [1, 2]
    assert ingest(root, store).logged == 0


def test_a_value_that_comes_back_is_not_hidden_by_the_one_that_took_its_number(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1)
    ingest(root, store)
    (root / "img_001.png").unlink()
    put(root, 2)
    ingest(root, store)
    assert shown(store, "d", "image", [0]) == [2]
    (root / "img_002.png").unlink()
    put(root, 1)
    same_as_fresh(root, store, tmp_path)
    assert shown(store, "d", "image", [0]) == [1]


def test_late_shards_move_the_samples_after_them(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    root.mkdir()
    for shard in (0, 2):
        write(root / f"{shard}.tar", [(f"{shard}{i}.png", encoded(picture(10 * shard + i), "png")) for i in range(3)])
    ingest(root, store)
    write(root / "1.tar", [(f"1{i}.png", encoded(picture(10 + i), "png")) for i in range(3)])
    summary = same_as_fresh(root, store, tmp_path)
    assert (summary.logged, summary.moved, summary.withdrawn) == (3, 3, 3)
    assert shown(store, "image", "sample", range(9)) == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_values_of_a_file_that_cannot_be_read_now_stay(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    root.mkdir()
    write(root / "0.tar", [(f"{i}.png", encoded(picture(i), "png")) for i in range(3)])
    ingest(root, store)
    whole = (root / "0.tar").read_bytes()
    (root / "0.tar").write_bytes(b"nothing" * 100)
    broken = ingest(root, store, prune=True)
    assert (broken.withdrawn, broken.gone, sum(broken.errors.values())) == (0, 0, 1)
    assert shown(store, "image", "sample", range(3)) == [0, 1, 2]
    (root / "0.tar").write_bytes(whole)
    repaired = ingest(root, store)
    assert (repaired.logged, repaired.errors) == (0, {}), "the error row is superseded"


def test_repaired_files_are_no_errors_any_more(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2)
    (root / "img_001.png").write_bytes(b"\x89PNG nothing")
    run = CliRunner().invoke
    assert run(app, ["ingest", str(root), "--store", str(store)]).exit_code == 1
    assert run(app, ["ingest", str(root), "--store", str(store)]).exit_code == 1, "it is still broken"
    put(root, 1)
    done = run(app, ["ingest", str(root), "--store", str(store), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["errors"]) == (0, {})
    assert run(app, ["ingest", str(root), "--store", str(store)]).exit_code == 0
    assert shown(store, "d", "image", range(2)) == [1, 2]


def test_values_whose_entity_path_is_not_allowed_are_error_rows_in_each_run(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1)
    (root / "a\nb").mkdir()
    put(root / "a\nb", 2)
    for logged in (2, 0):
        summary = ingest(root, store)
        assert (summary.logged, sum(summary.errors.values()), summary.gone) == (logged, 1, 0)


def test_the_command_says_what_has_moved_and_what_is_gone(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2, 3)
    run = CliRunner().invoke
    run(app, ["ingest", str(root), "--store", str(store)])
    (root / "img_001.png").unlink()
    said = run(app, ["ingest", str(root), "--store", str(store)]).stdout
    assert "0 of 2 values logged, 0 were stored before, 0 had changed, 2 had moved" in said
    assert "2 frames were taken out" in said
    assert "1 stored values are not in the source any more; they stay: --prune takes them out" in said
    said = run(app, ["ingest", str(root), "--store", str(store), "--prune"]).stdout
    assert "1 frames were taken out" in said


def test_a_reader_leaves_what_another_one_has_logged(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 2)
    ingest(root, store)
    summary = ingest(root, store, reader=f"{__name__}:every_second")
    assert (summary.logged, summary.withdrawn) == (1, 0)
    assert recording_of(store).entities() == ["d", "second"]
    again = ingest(root, store, reader=f"{__name__}:every_second")
    assert (again.logged, again.stored_before) == (0, 1), "though its function sets the times itself"


def every_second(files):
    for path in files.under("", ".png")[1::2]:
        yield LogCall(
            entity_path="second",
            kind="image",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=log_at_seven,
        )


def log_at_seven(recording, entity_path, content):
    recording.set_time_sequence("number", 7)
    recording.log_image_file(entity_path, img_bytes=content)


def test_a_dataset_that_was_moved_is_not_logged_again(tmp_path):
    put(tmp_path / "d", 1, 2)
    store = tmp_path / "store"
    ingest(tmp_path / "d", store, recording_id="run")
    (tmp_path / "other").mkdir()
    (tmp_path / "d").rename(tmp_path / "other/d")
    put(tmp_path / "other/d", 3)
    summary = ingest(tmp_path / "other/d", store, recording_id="run")
    assert (summary.logged, summary.stored_before, summary.withdrawn) == (1, 2, 0)
    assert shown(store, "d", "image", range(3)) == [1, 2, 3]


def test_a_dataset_that_was_moved_is_pointed_to_its_recording(tmp_path):
    put(tmp_path / "d", 1, 2)
    first = ingest(tmp_path / "d", tmp_path / "store").recording_id
    (tmp_path / "other").mkdir()
    (tmp_path / "d").rename(tmp_path / "other/d")
    with pytest.warns(lt.LumatileWarning, match=f"other sources with the name d: {first}; if the source was moved"):
        ingest(tmp_path / "other/d", tmp_path / "store")


def test_errors_of_a_moved_dataset_do_not_count_for_ever(tmp_path):
    put(tmp_path / "d", 1, 2)
    (tmp_path / "d/img_001.png").write_bytes(b"\x89PNG nothing")
    assert ingest(tmp_path / "d", tmp_path / "store", recording_id="run").errors
    (tmp_path / "other").mkdir()
    (tmp_path / "d").rename(tmp_path / "other/d")
    assert sum(ingest(tmp_path / "other/d", tmp_path / "store", recording_id="run").errors.values()) == 1
    put(tmp_path / "other/d", 1)
    assert ingest(tmp_path / "other/d", tmp_path / "store", recording_id="run").errors == {}


def test_a_reader_with_uris_of_its_own_has_its_values_put_right_too(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    put(root, 1, 3)
    ingest(root, store, reader=f"{__name__}:of_a_database")
    put(root, 2)
    (root / "img_001.png").write_bytes(b"\x89PNG nothing")
    summary = ingest(root, store, reader=f"{__name__}:of_a_database")
    assert (summary.logged, summary.moved, summary.withdrawn, sum(summary.errors.values())) == (2, 1, 1, 1)
    assert shown(store, "a", "number", range(3)) == [1, 2, 3], "the error row hides nothing"


def of_a_database(files):
    for number, path in enumerate(files.under("", ".png")):
        yield LogCall(
            entity_path="a",
            kind="image",
            uri=f"database:{path}",
            read=lambda path=path: files.read(path),
            log=log_file,
            sequences={"number": number},
        )


def log_file(recording, entity_path, content):
    recording.log_image_file(entity_path, img_bytes=content)


def test_two_jobs_of_one_source_at_once_one_says_so_and_ends(tmp_path):
    put(tmp_path / "d", 1, 2)
    url = (tmp_path / "d").as_uri()
    with only_job(tmp_path / "store", "run", url):
        with pytest.raises(JobRunningError, match=f"another job is logging {url} into the recording 'run'"):
            ingest(tmp_path / "d", tmp_path / "store", recording_id="run")
        ingest(tmp_path / "d", tmp_path / "store", recording_id="other")
    assert ingest(tmp_path / "d", tmp_path / "store", recording_id="run").logged == 2
    assert sorted(path.name for path in (tmp_path / "store/run").iterdir()) == ["frames", "tiles"]


def test_a_job_that_ends_early_releases_the_source_and_leaves_no_folder(tmp_path):
    put(tmp_path / "d", 1)
    with pytest.raises(RuntimeError), only_job(tmp_path / "store", "run", "x"):
        raise RuntimeError
    assert not (tmp_path / "store").exists()
    with only_job(tmp_path / "store", "run", "x"), only_job(tmp_path / "store", "run", "y"):
        pass
