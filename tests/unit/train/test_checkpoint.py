"""Checkpoints on disk: names that vouch for the content, the newest whole one, nothing executed."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import foreign, saved

from rkkd_cli.errors import RunError
from rkkd_cli.train.checkpoint import CheckpointStore, is_intact

State = dict[str, Any]


def state_of(number: int, size: int = 8) -> State:
    return {"number": number, "weights": torch.full((size,), float(number)), "text": "α"}


def filled(folder: Path, count: int) -> CheckpointStore:
    store = CheckpointStore(folder)
    for number in range(1, count + 1):
        store.save(state_of(number))
    return store


def loaded_number(store: CheckpointStore) -> int:
    loaded = store.load()
    assert loaded is not None
    assert torch.equal(loaded.state["weights"], state_of(loaded.state["number"])["weights"])
    return int(loaded.state["number"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_name_is_the_number_and_the_hash_of_the_content(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "a" / "b")
    for number in (1, 2, 3):
        path = store.save(state_of(number))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name == f"{number:06d}-{digest}.pt"
        assert is_intact(path)
        assert store.paths()[-1] == path


def test_the_newest_two_are_kept_and_nothing_else(tmp_path: Path) -> None:
    store, paths = CheckpointStore(tmp_path), []
    for number in range(1, 6):
        paths.append(store.save(state_of(number)))
        assert store.paths() == paths[-2:]
        assert names(tmp_path) == [path.name for path in paths[-2:]]
        assert loaded_number(store) == number


def test_the_order_is_that_of_the_numbers_beyond_six_digits_too(tmp_path: Path) -> None:
    content = saved(state_of(1))
    foreign(tmp_path, content, number=999_999)
    path = CheckpointStore(tmp_path).save(state_of(2))
    assert path.name.startswith("1000000-")
    assert loaded_number(CheckpointStore(tmp_path)) == 2
    assert CheckpointStore(tmp_path).save(state_of(3)).name.startswith("1000001-")
    assert loaded_number(CheckpointStore(tmp_path)) == 3


def test_where_there_never_was_one_there_is_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "none")
    assert (store.load(), store.paths(), store.pinned("kd")) == (None, [], None)
    store.pin("kd")
    assert not store.folder.exists()
    store.remove()
    foreign(tmp_path, b"").rename(tmp_path / "notes.pt")
    assert CheckpointStore(tmp_path).load() is None


CONTENT = saved(state_of(2))
DAMAGES = st.one_of(
    st.integers(0, len(CONTENT) - 1).map(lambda length: CONTENT[:length]),
    st.integers(0, 8 * len(CONTENT) - 1).map(
        lambda bit: (
            CONTENT[: bit // 8]
            + bytes([CONTENT[bit // 8] ^ 1 << bit % 8])
            + CONTENT[bit // 8 + 1 :]
        )
    ),
    st.binary(min_size=1, max_size=9).map(lambda more: CONTENT + more),
    st.integers(1, len(CONTENT) - 1).map(lambda n: CONTENT[:n] + bytes(len(CONTENT) - n)),
)


@given(DAMAGES)
@settings(max_examples=100)
def test_any_damage_of_the_newest_is_noticed_and_the_previous_one_is_used(damaged: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder), 2)
        newest = store.paths()[-1]
        whole = newest.read_bytes()
        assert len(whole) == len(CONTENT)
        if damaged == whole:  # zeros that were there before
            return
        newest.write_bytes(damaged)
        loaded = store.load()
        assert loaded is not None
        assert loaded.state["number"] == 1
        assert loaded.damaged == (newest,)


def test_a_whole_file_under_the_name_of_another_is_noticed(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    older, newest = store.paths()
    newest.write_bytes(older.read_bytes())
    loaded = store.load()
    assert loaded is not None
    assert (loaded.state["number"], loaded.path, loaded.damaged) == (1, older, (newest,))


def test_where_all_are_damaged_each_is_named_and_a_way_out(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    for path in store.paths():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"every checkpoint .* is damaged .*remove the folder") as no:
        store.load()
    assert all(path.name in str(no.value) for path in store.paths())
    assert str(tmp_path) in str(no.value)


def test_going_on_after_damage_numbers_on_and_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    store.paths()[-1].write_bytes(b"torn")
    assert loaded_number(store) == 1
    assert store.save(state_of(3)).name.startswith("000002-")
    assert loaded_number(store) == 3


def test_a_failed_write_leaves_everything_as_it_was_and_names_the_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store = filled(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"000003-[0-9a-f]{64}\.pt"):
            store.save(state_of(3, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert loaded_number(store) == 2
    assert store.save(state_of(3)).name.startswith("000003-")


WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from rkkd_cli.train.checkpoint import CheckpointStore, is_intact
store, killed, leftovers = CheckpointStore(Path(sys.argv[1])), 0, 0
while killed < 15 or not leftovers:
    killed += 1
    begun = store.load()
    number = begun.state["number"] if begun else 0
    ends = os.pipe()
    writer = os.fork()
    if writer == 0:
        signal.alarm(60)
        while True:
            number += 1
            store.save({"number": number, "weights": torch.full((400_000,), float(number))})
            os.write(ends[1], number.to_bytes(4, "big"))
    os.close(ends[1])
    promised = int.from_bytes(os.read(ends[0], 4), "big")
    time.sleep(random.random() * 0.03)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    while more := os.read(ends[0], 4):
        promised = int.from_bytes(more, "big")
    os.close(ends[0])
    leftovers += any(store.folder.glob(".*"))
    loaded = store.load()
    assert loaded.damaged == () and all(map(is_intact, store.paths())), loaded.damaged
    assert loaded.state["number"] in (promised, promised + 1), (loaded.state["number"], promised)
    assert bool((loaded.state["weights"] == loaded.state["number"]).all())
    assert not any(store.folder.glob(".*")), "leftovers"
    assert len(store.paths()) <= 3, store.paths()
print(leftovers)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no fork")
def test_a_writer_killed_at_any_moment_leaves_what_it_had_saved(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WRITERS, str(tmp_path / "checkpoints")]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}  # threads do not outlive a fork
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some were killed while they wrote


def test_what_a_killed_writer_left_goes_and_what_others_wrote_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    (tmp_path / f".{store.paths()[0].name}-k3_zq81a.rkkd-part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert loaded_number(store) == 1
    assert names(tmp_path) == sorted([store.paths()[0].name, "notes.txt"])


@pytest.mark.parametrize("label", ["kd", "a.b+c=d-e_f", "0", "x" * 64, "kd-" + 64 * "0"])
def test_a_kept_checkpoint_outlives_the_others_and_is_the_newest_of_its_moment(
    label: str, tmp_path: Path
) -> None:
    store = filled(tmp_path, 3)
    content = store.paths()[-1].read_bytes()
    store.pin(label)
    kept = store.pinned(label)
    assert kept is not None
    for number in range(4, 8):
        store.save(state_of(number))
        store.pin(label)
    assert store.pinned(label) == kept
    assert kept.read_bytes() == content
    assert is_intact(kept)
    assert [name for name in names(tmp_path) if name.startswith("kept")] == [kept.name]
    assert len(store.paths()) == 2
    assert loaded_number(store) == 7


def test_labels_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    labels = ("kd-rank", "kd", "kd-rank-2", "rank")
    for number, label in enumerate(labels, 2):
        assert store.pinned(label) is None
        store.pin(label)
        store.save(state_of(number))
    kept = [store.pinned(label) for label in labels]
    numbers = [torch.load(path, weights_only=True)["number"] for path in kept if path]
    assert numbers == [1, 2, 3, 4]


def test_removing_takes_the_folder_and_leaves_its_surroundings(tmp_path: Path) -> None:
    store = filled(tmp_path / "training", 2)
    (tmp_path / "weights.pt").write_bytes(b"kept")
    store.remove()
    assert names(tmp_path) == ["weights.pt"]
    assert store.load() is None
    store.save(state_of(1))
    assert loaded_number(store) == 1
