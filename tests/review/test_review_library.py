"""Which originals, results and sidecars a review takes for one another's."""

import json

import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines import manifest
from dp3_jax.review import library
from tests import data_makers


def photo(path, seed=0):
    data_makers.write(path, data_makers.encoded(data_makers.photo(seed, (32, 24))))
    return path


def found(path, originals=None):
    return {
        item.name: (item.source and item.source.name, item.result.name, bool(item.problem))
        for item in library.find(path, originals)
    }


def test_results_beside_their_originals(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "a_anonymized.jpg")
    photo(tmp_path / "b.jpg")  # not anonymized yet
    assert found(tmp_path) == {
        "a_anonymized.jpg": ("a.jpg", "a_anonymized.jpg", False),
        "b_anonymized.jpg": ("b.jpg", "b_anonymized.jpg", False),
    }
    assert found(tmp_path / "a_anonymized.jpg") == {
        "a_anonymized.jpg": ("a.jpg", "a_anonymized.jpg", False)
    }


def with_manifest(tmp_path):
    source, target = (
        photo(tmp_path / "raw" / "x" / "a.jpg"),
        photo(tmp_path / "out" / "x" / "a.jpg"),
    )
    opened = manifest.Manifest(tmp_path / "out.manifest.jsonl")
    prints = {"input": vars(manifest.print_of(source)), "output": vars(manifest.print_of(target))}
    opened.add(source, target, "settings", {**prints, "error": ""})
    opened.close()
    return source, target


@pytest.mark.parametrize("folder", ["raw", "out"])
def test_a_manifest_says_what_belongs_together_from_either_side(tmp_path, folder):
    source, target = with_manifest(tmp_path)
    (item,) = library.find(tmp_path / folder)
    assert (item.source, item.result) == (source, target) and not item.problem


def test_a_corrected_result_stays_when_the_command_that_made_it_is_run_again(tmp_path):
    source, target = with_manifest(tmp_path)
    (item,) = library.find(tmp_path / "out")
    photo(target, seed=9)
    item.manifest.rewrite(source, target, target.read_bytes())
    again = manifest.Manifest(tmp_path / "out.manifest.jsonl")
    assert again.done(source, target, "settings")["reviewed"] is True
    again.close()


def test_originals_that_are_named_have_the_places_of_their_results(tmp_path):
    photo(tmp_path / "raw" / "x" / "a.jpg")
    photo(tmp_path / "out" / "x" / "a.jpg")
    assert found(tmp_path / "out", tmp_path / "raw") == {"x/a.jpg": ("a.jpg", "a.jpg", False)}


def test_results_alone_can_be_looked_at_and_say_what_is_missing(tmp_path):
    photo(tmp_path / "a_anonymized.jpg")
    (item,) = library.find(tmp_path)
    assert item.source is None and "--originals" in item.problem


def test_what_was_anonymized_in_place_has_no_original(tmp_path):
    path = photo(tmp_path / "in" / "a.jpg")
    line = {"format": manifest.FORMAT, "source": "in/a.jpg", "target": "in/a.jpg", "error": ""}
    (tmp_path / "in.manifest.jsonl").write_text(json.dumps(line) + "\n")
    (item,) = library.find(path.parent)
    assert item.source is None and "in place" in item.problem


def test_a_sidecar_stands_for_its_result(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "a_anonymized.jpg")
    path = tmp_path / "a_anonymized.jpg.faces.json"
    path.write_text("{}")
    (item,) = library.find(path)
    assert item.sidecar == path and item.source.name == "a.jpg"


def test_ids_stay_the_same_when_the_folder_is_moved(tmp_path):
    photo(tmp_path / "one" / "a.jpg")
    before = [item.id for item in library.find(tmp_path / "one")]
    (tmp_path / "one").rename(tmp_path / "two")
    assert [item.id for item in library.find(tmp_path / "two")] == before


def test_nothing_to_review_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no photo or video"):
        library.find(tmp_path)
    with pytest.raises(UserError, match="there is no"):
        library.find(tmp_path / "missing")
