"""Checkpoints: bit for bit through each format, read back by the package that owns it."""

import json
import os
import pickle
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from symjax.checkpoints import load, put, save
from symjax.checkpoints._put import TiedApart

safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra checkpoints")
h5py = pytest.importorskip("h5py", reason="needs the extra checkpoints")
ocp = pytest.importorskip("orbax.checkpoint", reason="needs the extra checkpoints")
msgpack = pytest.importorskip("flax.serialization", reason="needs the extra flax")


def arrays(*, empty=True, narrow=True):
    """Arrays of all kinds, not in the order of their names; NaN with a payload among them."""
    draw = np.random.default_rng(0)
    odd = np.array([0x7FC01234, 0x80000000, 1, 0x7F800000], np.uint32).view(np.float32)
    found = {
        "z/weight": draw.standard_normal((2, 3)).astype(np.float32).T,
        "a/scalar": np.asarray(np.float64(np.pi)),
        "m/odd": odd,
        "b/half": draw.standard_normal(4).astype(np.float16),
        "b/flags": np.array([True, False]),
        "k/steps": np.asarray(np.int64(2**40)),
        "file": np.arange(5, dtype=np.uint8),
    }
    if narrow:
        found["a/brain"] = draw.standard_normal((3, 2)).astype(ml_dtypes.bfloat16)
    if empty:
        found["e/none"] = np.zeros((0, 3), np.float32)
    return found


def same(found, wanted):
    assert set(found) == set(wanted)
    for name, x in wanted.items():
        assert found[name].shape == x.shape, name
        assert found[name].tobytes() == x.tobytes(), name
        assert found[name].dtype in (x.dtype, np.dtype(f"V{x.dtype.itemsize}")), name


def nested(tree, before=""):
    """The leaves of nested dictionaries, by the package's own tree."""
    for key, x in tree.items():
        yield from nested(x, f"{before}{key}/") if isinstance(x, dict) else [(before + key, x)]


def read_h5(path):
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda name, x: names.append(name) if hasattr(x, "dtype") else None)
        return {name: file[name][()] for name in names}


def read_orbax(path):
    with ocp.PyTreeCheckpointer() as orbax:
        tree = orbax.metadata(path).item_metadata.tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return dict(nested(orbax.restore(path, restore_args=how)))


FORMATS = {
    "x.safetensors": (arrays(), safetensors.load_file),
    "x.npz": (arrays(), lambda path: dict(np.load(path))),
    "x.msgpack": (arrays(), lambda path: dict(nested(msgpack.msgpack_restore(path.read_bytes())))),
    "x.weights.h5": (arrays(narrow=False), read_h5),
    "orbax": (arrays(empty=False), read_orbax),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_array_survives_bit_for_bit(tmp_path, name):
    wanted, own = FORMATS[name]
    save(tmp_path / name, wanted)
    same(load(tmp_path / name), wanted)
    same({k: np.asarray(x) for k, x in own(tmp_path / name).items()}, wanted)
    # a part of it moved, the rest as it was
    moved = {"z/weight": jnp.asarray(wanted["z/weight"]) + 1}
    again = name.replace("x", "y", 1) if "." in name else "other"
    save(tmp_path / again, moved, like=tmp_path / name)
    same(own(tmp_path / again), wanted | {"z/weight": np.asarray(moved["z/weight"], order="C")})
    assert list(load(tmp_path / again)) == list(load(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == sorted([name, again])


def test_metadata_and_what_a_file_has_beside_its_arrays_are_kept(tmp_path):
    words = {"format": "pt", "note": "ünï"}
    safetensors.save_file({"w": np.ones(3)}, tmp_path / "a.safetensors", words)
    save(tmp_path / "b.safetensors", {"w": np.zeros(3)}, like=tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "b.safetensors", "np") as file:
        assert file.metadata() == words
    np.savez_compressed(tmp_path / "a.npz", w=np.ones(3))
    save(tmp_path / "b.npz", {"w": np.zeros(3)}, like=tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz") as file:
        assert file.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/w", data=np.ones(3), compression="gzip").attrs["unit"] = "mm"
        file["g/name"] = "words"
        file.attrs["keras_version"] = "3"
    save(tmp_path / "b.h5", {"g/w": np.zeros(3)}, like=tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert (file["g/w"].compression, file["g/w"].attrs["unit"]) == ("gzip", "mm")
        assert (file["g/name"][()], file.attrs["keras_version"]) == (b"words", "3")
        assert not file["g/w"][()].any()
    (tmp_path / "a.msgpack").write_bytes(
        msgpack.msgpack_serialize({"step": 3, "p": {"w": np.ones(3)}, "l": [np.ones(2)]})
    )
    save(tmp_path / "b.msgpack", {"p": {"w": np.zeros(3)}}, like=tmp_path / "a.msgpack")
    restored = msgpack.msgpack_restore((tmp_path / "b.msgpack").read_bytes())
    assert restored["step"] == 3
    assert restored["l"][0].all()
    assert not restored["p"]["w"].any()


def test_narrow_numbers_that_numpy_does_not_name(tmp_path):
    wanted = {k: np.arange(4).astype(getattr(ml_dtypes, k)) for k in ("float8_e4m3fn", "bfloat16")}
    save(tmp_path / "a.safetensors", wanted)
    found = load(tmp_path / "a.safetensors")
    assert {k: x.dtype.name for k, x in found.items()} == {k: k for k in wanted}
    with pytest.raises(ValueError, match="which Flax writes and does not read"):
        save(tmp_path / "a.msgpack", wanted)
    save(tmp_path / "a.npz", {"w": wanted["bfloat16"]})
    filled = put({"w": jnp.zeros(4, jnp.bfloat16)}, load(tmp_path / "a.npz"))
    np.testing.assert_array_equal(filled["w"], wanted["bfloat16"])


def sharded(folder):
    """A folder as Hugging Face has it: two shards, an index, and files that are no weights."""
    folder.mkdir()
    words = {"format": "pt"}
    safetensors.save_file({"b": np.ones(3, np.float32)}, folder / "model-1.safetensors", words)
    safetensors.save_file({"a": np.ones(2, np.float32)}, folder / "model-2.safetensors", words)
    where = {"a": "model-2.safetensors", "b": "model-1.safetensors"}
    index = {"metadata": {"total_size": 20}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    (folder / "tf_model.h5").write_text("stale")
    return folder


def test_shards_and_folders(tmp_path):
    old = sharded(tmp_path / "old")
    assert list(load(old)) == ["a", "b"]
    save(tmp_path / "new", {"b": np.zeros(3, np.float32)}, like=old)
    assert sorted(os.listdir(tmp_path / "new")) == sorted({*os.listdir(old)} - {"tf_model.h5"})
    found = load(tmp_path / "new" / "model.safetensors.index.json")
    assert [x.tolist() for x in found.values()] == [[1, 1], [0, 0, 0]]
    save(tmp_path / "one.safetensors", {"b": np.zeros(3, np.float32)}, like=old)
    same(load(tmp_path / "one.safetensors"), found)
    (old / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names the shard model-2\.safetensors, which does not"):
        load(old)
    (old / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    with pytest.raises(ValueError, match="outside of its own folder"):
        load(old)
    (old / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="is no index of shards"):
        load(old)


def test_a_tied_array_that_is_stored_twice_stays_tied(tmp_path):
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(tmp_path / "a.npz", {"wte": w, "head": w, "ones": np.ones(2), "scale": np.ones(2)})
    save(tmp_path / "b.npz", {"wte": w + 1, "ones": np.zeros(2)}, like=tmp_path / "a.npz")
    found = load(tmp_path / "b.npz")
    np.testing.assert_array_equal(found["head"], w + 1)
    np.testing.assert_array_equal(found["scale"], np.ones(2))  # equal to `ones` by accident


@pytest.mark.parametrize("name", FORMATS)
def test_half_a_file_is_told_in_one_line(tmp_path, name):
    save(tmp_path / name, FORMATS[name][0])
    path = tmp_path / name
    if path.is_dir():
        path = max((x for x in path.rglob("*") if x.is_file()), key=lambda x: x.stat().st_size)
        (tmp_path / name / "_METADATA").write_text("{")
    whole = path.read_bytes()
    for size in (0, 20, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is no whole"):
            load(tmp_path / name)


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    x = {"w": np.ones(3)}
    save(tmp_path / "a.npz", x)
    for path, said in [
        ("a.npz", "`path` exists"),
        ("no/a.npz", "in a folder that does not exist"),
        ("a.gguf", "which is only read"),
        ("a.txt", "must end in one of .safetensors, .npz"),
    ]:
        with pytest.raises(ValueError, match=said):
            save(tmp_path / path, x)
    for new, said in [
        ({"v": np.ones(3)}, r"lacks 1 of 1 arrays: 'v'"),
        ({"w": np.ones(2)}, r"float64\[2\] for 'w', where `like` has float64\[3\]"),
        ({"w": np.ones(3, np.float16)}, r"float16\[3\] for 'w', where `like`"),
        ({"w": 3.0}, "must hold arrays, got float"),
    ]:
        with pytest.raises(ValueError, match=said):
            save(tmp_path / "b.npz", new, like=tmp_path / "a.npz")
    with pytest.raises(ValueError, match="must be of the format of `like`"):
        save(tmp_path / "b.safetensors", x, like=tmp_path / "a.npz")
    with pytest.raises(ValueError, match="does not fit into safetensors"):
        save(tmp_path / "b.safetensors", {"w": np.ones(2, np.complex128)})

    def stop(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", stop)
    with pytest.raises(ValueError, match=r"cannot be written: .*: No space left"):
        save(tmp_path / "b.npz", x)
    assert os.listdir(tmp_path) == ["a.npz"]


class Trap:
    """What an attacker pickles: it makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_never_executed(tmp_path):
    trap = Trap(tmp_path / "sprung")
    np.savez(tmp_path / "a.npz", w=np.array([trap], dtype=object))
    with pytest.raises(ValueError, match=r"is no whole \.npz of arrays"):
        load(tmp_path / "a.npz")
    for name in ("b.npz", "b.safetensors", "b.msgpack", "b.h5", "b.gguf"):
        (tmp_path / name).write_bytes(pickle.dumps(trap))
        with pytest.raises(ValueError, match="`path` is no"):
            load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_put_pairs_names_and_refuses_what_differs():
    params = {"a": {"w": jnp.zeros((2, 3))}, "b": jnp.zeros(2)}
    new = {"a/w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
    assert put(params, new)["a"]["w"].sum() == 6
    for rename in (lambda k: k.replace("/", "."), lambda k: f"model.{k.replace('/', '.')}"):
        assert put(params, {rename(k): x for k, x in new.items()})["b"].sum() == 2
    below = {"model": params}
    assert put(below, new)["model"]["b"].sum() == 2
    count = {"count": np.asarray(3)}
    assert put(params, new | count)["b"].sum() == 2
    for wrong, said in [
        ({"a/v": new["a/w"], "b": new["b"]}, r"lacks 1 of 2 arrays: 'a/w' \(nearest: 'a/v'\)"),
        (new | {"a/w": new["a/w"].T}, r"float32\[3,2\] for 'a/w', where .* float32\[2,3\]"),
        (new | {"b": new["b"].astype(np.float16)}, r"float16\[2\] for 'b'"),
        (new | {"mean": np.ones(2)}, "has 1 arrays that no leaf of `params` takes: 'mean'"),
        ({f"{p}.{k}": x for p in "xy" for k, x in new.items()}, "more than once"),
        (3, "must be a dictionary of arrays"),
    ]:
        with pytest.raises(ValueError, match=said):
            put(params, wrong)


def test_a_leaf_under_two_names():
    params, w = {"wte": jnp.zeros(3)}, np.arange(3, dtype=np.float32)
    for held in ({"wte": w}, {"head": w}, {"wte": w, "head": w}):
        np.testing.assert_array_equal(put(params, held, tied={"head": "wte"})["wte"], w)
    with pytest.raises(TiedApart, match="'wte' and 'head', which are one parameter") as caught:
        put(params, {"wte": w, "head": w + 1}, tied={"head": "wte"})
    assert caught.value.names == ("wte", "head")


def test_gguf_is_read_with_what_is_quantised_as_numbers(tmp_path):
    gguf = pytest.importorskip("gguf", reason="needs the extra checkpoints")
    w = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("plain.weight", w)
    writer.add_tensor("half.weight", w.astype(np.float16))
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("eighth.weight", gguf.quants.quantize(w, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = load(tmp_path / "a.gguf")
    assert list(found) == ["plain.weight", "half.weight", "eighth.weight"]
    np.testing.assert_array_equal(found["plain.weight"], w)
    np.testing.assert_array_equal(found["half.weight"], w.astype(np.float16))
    # rounded to 255 steps of the largest of each 32 entries, with a scale in float16
    largest = np.abs(w.reshape(2, 2, 32)).max(-1, keepdims=True)
    step = np.broadcast_to(largest / 127, (2, 2, 32)).reshape(w.shape)
    assert np.all(np.abs(found["eighth.weight"] - w) <= step * (0.5 + 127 * 2.0**-11 * 1.01))
    whole = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "b.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no whole file of GGUF"):
        load(tmp_path / "b.gguf")


def test_a_missing_package_is_named_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(ImportError, match=r"h5py: pip install 'symjax-symmetry\[checkpoints\]'"):
        load(tmp_path / "a.h5")
