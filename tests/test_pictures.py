"""Pictures as tokens: readers, codec, split, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from lookaround.data import patches
from lookaround.data.codecs import load_codec
from lookaround.data.patches import CODEBOOK_FILE, PatchCodec, fitted
from lookaround.data.picture_files import read_pictures
from lookaround.data.pictures import Pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare_pictures
from lookaround.data.source import read_source
from lookaround.settings import read_settings
from lookaround.support.errors import UserError


def noise(count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def write_png(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folder_of(root: Path, pixels: np.ndarray, labels: list[str], part: str = "") -> Path:
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        write_png(root / part / label / f"{number}.png", picture)
    return root


# ---------------------------------------------------------------------------------------- readers


def test_the_digits_are_embedded_and_lossless() -> None:
    digits = read_pictures("digits")
    assert digits.pixels.shape == (1797, 8, 8)
    assert len(digits.classes) == 10
    codec = fitted(digits.pixels, 1, None, seed=0, name="digits")
    assert (len(codec.codebook), codec.length, codec.lost) == (17, 65, 0)
    assert all(
        np.array_equal(codec.decode(ids), picture)
        for ids, picture in zip(codec.encode(digits.pixels[:50]), digits.pixels, strict=False)
    )


def test_a_folder_of_classes(tmp_path: Path) -> None:
    pixels = noise(6)
    folder_of(tmp_path / "own", pixels, ["b", "a", "b", "a", "a", "b"])
    (tmp_path / "own" / "notes.txt").write_text("x")
    found = read_pictures(tmp_path / "own")
    assert found.classes == ("a", "b")
    assert sorted(found.labels.tolist()) == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]
    assert {p.tobytes() for p in found.pixels} == {p.tobytes() for p in pixels}
    assert found.notes == ("files that are no pictures by their names left out: 1 .txt",)
    assert set(found.part.tolist()) == {-1}


def test_train_and_test_folders_and_pictures_that_stand_in_both(tmp_path: Path) -> None:
    train, test = noise(8), noise(4, seed=1)
    test[0] = train[0]  # it stays a test picture
    folder_of(tmp_path, train, ["a", "b"] * 4, "train")
    folder_of(tmp_path, test, ["a", "b"] * 2, "test")
    found = read_pictures(tmp_path)
    parts = found.split(validation=0.2)
    assert len(found.pixels) == 11
    assert found.notes == ("pictures left out: 1 equal to another one",)
    assert {found.pixels[i].tobytes() for i in parts["test"]} == {p.tobytes() for p in test}
    assert not {*parts["train"].tolist()} & {*parts["test"].tolist()}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
def test_pictures_without_classes(tmp_path: Path, ending: str) -> None:
    for number, picture in enumerate(noise(5, (16, 16))):
        write_png(tmp_path / f"{number}{ending}", picture)
    found = read_pictures(tmp_path)
    assert (found.labels, found.classes) == (None, ())
    assert found.task(found.split()) is None


def test_colour_is_read_as_grey_and_said(tmp_path: Path) -> None:
    colour = noise(3, (8, 8, 3))
    for number, picture in enumerate(colour):
        write_png(tmp_path / "a" / f"{number}.png", picture)
    grey = Image.fromarray(noise(1)[0]).convert("RGB")  # in colour by its mode alone
    grey.save(tmp_path / "a" / "grey.png")
    found = read_pictures(tmp_path)
    assert found.notes[0] == "3 pictures in colour read as grey levels"
    luma = np.rint(colour @ np.array([0.299, 0.587, 0.114]))
    by_key = {p.tobytes(): p for p in found.pixels}
    for picture in luma:
        nearest = min(by_key.values(), key=lambda p: np.abs(p - picture).max())
        assert np.abs(nearest - picture).max() <= 1
    assert noise(1)[0].tobytes() in by_key


def test_transparent_parts_stand_on_white_and_cameras_are_turned(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    clear[:4, :, 3] = 255  # the upper half is black, the lower one transparent
    write_png(tmp_path / "a.png", clear)
    found = read_pictures(tmp_path).pixels[0]
    assert (found[:4].max(), found[4:].min()) == (0, 255)
    turned = Image.fromarray(noise(1, (8, 4))[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    (tmp_path / "camera").mkdir()
    turned.save(tmp_path / "camera" / "b.png", exif=exif)
    assert read_pictures(tmp_path / "camera").pixels.shape == (1, 4, 8)


def test_arrays_beside_their_labels(tmp_path: Path) -> None:
    pixels, labels = noise(10), np.arange(10) % 3
    np.save(tmp_path / "IMAGES.npy", pixels)
    np.save(tmp_path / "LABELS.npy", labels)
    found = read_pictures(str(tmp_path / "IMAGES.npy"))
    assert np.array_equal(found.pixels, pixels)
    assert np.array_equal(found.labels, labels)  # type: ignore[arg-type]
    assert read_pictures(tmp_path).fingerprint == read_pictures(tmp_path).fingerprint
    np.save(tmp_path / "t10k_images.npy", noise(4, seed=5))
    np.save(tmp_path / "t10k_labels.npy", np.zeros(4, dtype=int))
    both = read_pictures(tmp_path)
    assert np.bincount(both.part + 1).tolist() == [10, 0, 0, 4]  # what is not named is trained on


@pytest.mark.parametrize(
    ("array", "same"),
    [
        (noise(4)[..., None], noise(4)),
        (noise(4).astype(np.int64), noise(4)),
        (noise(4) / 255, noise(4)),
        (noise(4) > 127, (noise(4) > 127) * 255),
    ],
)
def test_arrays_of_other_types(array: np.ndarray, same: np.ndarray) -> None:
    assert np.array_equal(read_pictures(array).pixels, same)


def test_datasets_with_an_image_column(tmp_path: Path) -> None:
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["zero", "one"])}
    )
    rows = {"picture": [Image.fromarray(p) for p in noise(6)], "kind": [0, 1] * 3}
    data = datasets.Dataset.from_dict(rows, features=features)
    found = read_pictures(
        datasets.DatasetDict(train=data.select(range(4)), test=data.select([4, 5]))
    )
    assert (found.classes, np.bincount(found.part).tolist()) == (("zero", "one"), [4, 0, 2])
    assert np.array_equal(found.pixels, noise(6))
    data.save_to_disk(str(tmp_path / "saved"))
    assert np.array_equal(read_pictures([str(tmp_path / "saved")]).pixels, noise(6))
    for kept in (
        data.with_format("torch"),
        data.with_format("numpy", columns=["kind"]),
        data.with_transform(lambda rows: {"picture": rows["picture"]}),
        data.cast_column("picture", datasets.Image(decode=False)),
    ):
        assert np.array_equal(read_pictures(kept).pixels, noise(6))
    with pytest.raises(UserError, match="no column of images; it has 'kind'"):
        read_pictures(data.remove_columns("picture"))


def of_classes(pixels: np.ndarray, labels: list[Any], names: list[str]) -> datasets.Dataset:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    rows = {"image": [Image.fromarray(p) for p in pixels], "label": labels}
    return datasets.Dataset.from_dict(rows, features=features)


def test_saved_splits_have_their_classes_by_name(tmp_path: Path) -> None:
    saved = tmp_path / "own"
    datasets.DatasetDict(
        train=of_classes(noise(4), [0, 1, 0, 1], ["cat", "dog"]),
        test=of_classes(noise(3, seed=1), [0, 1, -1], ["dog", "cat"]),
        more=of_classes(noise(2, seed=2), [0, 1], ["dog", "cat"]),
    ).save_to_disk(str(saved))
    found = read_pictures(saved)
    assert found.labels is not None
    told = [found.classes[label] for label in found.labels]
    assert told == ["cat", "dog", "cat", "dog", "dog", "cat"]
    assert found.notes == ("split 'more' left out", "rows without a picture or a label left out: 1")
    plain = of_classes(noise(6), [0, 1] * 3, ["a", "b"])
    plain = plain.cast_column("label", datasets.Value("int8"))
    for part, some in (("train", range(2, 6)), ("test", range(2))):
        plain.select(some).to_parquet(tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet")
    cloned = read_pictures(tmp_path / "hub")
    assert (cloned.classes, sorted(cloned.part.tolist())) == (("0", "1"), [0] * 4 + [2] * 2)
    blind = plain.select(range(2)).map(lambda row: {"label": -1})
    hidden = read_pictures(datasets.DatasetDict(train=plain.select(range(2, 6)), test=blind))
    assert (hidden.classes, hidden.part.tolist()) == (("0", "1"), [0] * 4)


def test_a_class_that_has_no_name_is_refused() -> None:
    data = of_classes(noise(4), [0, 1, 0, 1], ["a", "b"])
    fewer = data.features.copy()
    fewer["label"] = datasets.ClassLabel(names=["a"])
    info = datasets.DatasetInfo(features=fewer)
    table = data.data.table.replace_schema_metadata(None)
    with pytest.raises(UserError, match="row 1 has the class 1 in column 'label', which names 1"):
        read_pictures(datasets.Dataset(table, info=info))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: datasets.DatasetDict(), "no pictures in it"),
        (
            lambda: datasets.DatasetDict(
                train=of_classes(noise(2), [0, 1], ["a", "b"]),
                test=of_classes(noise(2), [0, 1], ["a", "b"]).remove_columns("label"),
            ),
            "its split 'test' has no column of labels 'label'",
        ),
        (
            lambda: of_classes(noise(2), [-1, -1], ["a", "b"]),
            r"no pictures in it \(2 rows lack a picture or a label\)",
        ),
        (lambda: [noise(1)[0], noise(1, (4, 4))[0]], "images: no array can be made of them"),
        (lambda: (noise(2), [[0], [1, 2]]), "labels: no array can be made of them"),
        (lambda: ["a", "b"], "images: 2 names, must be one"),
        (
            lambda: datasets.DatasetDict(
                train=of_classes(noise(2), [0, 1], ["a", "b"]),
                test=of_classes(noise(2), [0, 1], ["a", "b"]).cast_column(
                    "label", datasets.Value("int64")
                ),
            ),
            r"names of classes \(ClassLabel\) in some splits, and no names in others",
        ),
        (lambda: object(), "pictures of type object cannot be read"),
    ],
)
def test_objects_that_are_no_pictures(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pictures(data())


def test_whatever_numpy_reads_as_pictures() -> None:
    wanted = noise(3)
    tensor = torch.tensor(wanted / 255, requires_grad=True)
    pillow = [Image.fromarray(each) for each in wanted]
    for given in (tensor, list(tensor), list(wanted), pillow, [wanted], [(wanted, [0, 1, 0])]):
        assert np.array_equal(read_pictures(given).pixels, wanted)
    assert read_pictures([(wanted, [0, 1, 0])]).classes == ("0", "1")
    for one in (pillow[:1], [wanted[0]], [[Image.fromarray(wanted[0])]]):
        assert np.array_equal(read_pictures(one).pixels, wanted[:1])
    assert read_pictures((list(wanted), np.array([b"a", b"b", b"a"]))).classes == ("a", "b")
    signed = read_pictures((wanted, [-1, 1, -1]))
    assert signed.classes == ("-1", "1")


def test_labels_beside_pictures_in_whatever_case(tmp_path: Path) -> None:
    for images, labels in (
        ("images", "Labels"),
        ("x_train", "Y_train"),
        ("Pixels", "labels"),
        ("own_8x8_images", "own_8x8_labels"),
        ("pixels_8x8", "labels_8x8"),
    ):
        folder = tmp_path / images
        folder.mkdir()
        np.save(folder / f"{images}.npy", noise(3))
        assert read_pictures(folder).notes[0].startswith("no labels beside the pictures (")
        np.save(folder / f"{labels}.npy", np.arange(3))
        np.save(folder / "own_8x8.npy", np.zeros(5))  # called neither x nor images
        assert len(read_pictures(folder).classes) == 3
    np.save(tmp_path / "images" / "X.npy", np.zeros((3, 9)))  # features beside the pictures
    assert len(read_pictures(tmp_path / "images").classes) == 3
    np.save(tmp_path / "own_8x8.npy", noise(3))
    np.save(tmp_path / "own_8x8_labels.npy", np.arange(3))
    assert len(read_pictures(tmp_path / "own_8x8.npy").classes) == 3


def test_folders_within_folders(tmp_path: Path) -> None:
    folder_of(tmp_path / "zip" / "mnist" / "png", noise(4), ["0", "1"] * 2, "train")
    folder_of(tmp_path / "zip" / "mnist" / "png", noise(2, seed=1), ["0", "1"], "test")
    found = read_pictures(tmp_path / "zip")
    assert (found.classes, sorted(found.part.tolist())) == (("0", "1"), [0] * 4 + [2] * 2)
    assert found.notes == ("the pictures of its folder mnist/png are read, as if it were given",)
    folder_of(tmp_path / "parts", noise(4), ["0", "1"] * 2, "Test")
    assert read_pictures(tmp_path / "parts").part.tolist() == [2] * 4
    for label in ("a", "b"):
        for part in ("train", "test"):
            picture = noise(1, seed=2 * ord(label) + len(part))[0]
            write_png(tmp_path / "turned" / label / part / "0.png", picture)
    turned = read_pictures(tmp_path / "turned")
    assert (turned.classes, sorted(turned.part.tolist())) == (("a", "b"), [0, 0, 2, 2])
    # a folder called "train" of pictures alone is a class beside others
    folder_of(tmp_path / "vehicles", noise(4), ["train", "bus"] * 2)
    assert read_pictures(tmp_path / "vehicles").classes == ("bus", "train")


@pytest.mark.parametrize(
    "places",
    [
        ("training_set/{}", "test_set/{}"),
        ("training_set/training_set/{}", "test_set/test_set/{}"),
        ("own/seg_train/seg_train/{}", "own/seg_test/seg_test/{}"),
        ("trainingSet/{}", "testSet/{}"),
        ("Train/images/{}", "Test/images/{}"),
    ],
)
def test_parts_as_archives_name_them(tmp_path: Path, places: tuple[str, str]) -> None:
    for number, place in enumerate(places):
        for label in ("a", "b"):
            pixels = noise(2, seed=number * 9 + ord(label))
            folder_of(tmp_path / place.format(label), pixels, ["", ""])
    found = read_pictures(tmp_path)
    assert (found.classes, sorted(found.part.tolist())) == (("a", "b"), [0] * 4 + [2] * 4)


def test_folders_that_are_of_no_part_and_below_classes(tmp_path: Path) -> None:
    for number, place in enumerate(("seg_train/a", "seg_test/a", "seg_pred/a")):
        folder_of(tmp_path / "intel" / place, noise(2, seed=number), ["x", "y"])
    with pytest.raises(UserError, match="'seg_test' of a part, and 'seg_pred' beside it, of none"):
        read_pictures(tmp_path / "intel")
    for number, place in enumerate(("Greek/alpha", "Greek/beta", "Latin/a")):
        folder_of(tmp_path / "letters" / place, noise(2, seed=number), ["", ""])
    found = read_pictures(tmp_path / "letters")
    assert found.classes == ("Greek", "Latin")
    assert "'Greek' has 'alpha', 'beta'" in found.notes[0]
    assert "2 classes, 'Greek', 'Latin' (picture files)" in found.told[0]


def test_arrays_in_folders_of_parts(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "test")):
        (tmp_path / "a" / part).mkdir(parents=True)
        np.save(tmp_path / "a" / part / "images.npy", noise(3, seed=number))
        np.save(tmp_path / "a" / part / "labels.npy", np.arange(3).astype(("i8", "u8")[number]))
        np.save(tmp_path / f"{part}images.npy", noise(2, seed=number + 5))
    found = read_pictures(tmp_path / "a")
    assert (sorted(found.part.tolist()), found.classes) == ([0] * 3 + [2] * 3, ("0", "1", "2"))
    assert read_pictures(tmp_path / "testimages.npy").part.tolist() == [2, 2]
    names = np.array(["a", "b", "c"])
    np.save(tmp_path / "a" / "test" / "labels.npy", names)
    with pytest.raises(UserError, match="some labels are whole numbers and some names"):
        read_pictures(tmp_path / "a")
    np.save(tmp_path / "a" / "test" / "labels.npy", names.astype(object), allow_pickle=True)
    with pytest.raises(UserError, match=r"labels.npy: an array of objects.*array.astype\(str\)"):
        read_pictures(tmp_path / "a")
    write_png(tmp_path / "a" / "plot.png", noise(1)[0])
    with pytest.raises(UserError, match=r"holds arrays of pictures \(images.npy\) beside files"):
        read_pictures(tmp_path / "a")


def test_shapes_that_arrays_come_in() -> None:
    pixels = noise(4)
    for given in (pixels[:, None], pixels[..., None], np.repeat(pixels[:, None], 3, axis=1)):
        assert np.array_equal(read_pictures(given).pixels, pixels)
    column = np.array([["a"], ["b"], ["a"], ["b"]], dtype=object)
    assert read_pictures((pixels, column)).classes == ("a", "b")
    with pytest.raises(UserError, match=r"grey levels end at 1.0001; clip them to 1"):
        read_pictures(pixels / 255 * 1.0001)


def test_a_file_whose_orientation_is_damaged(tmp_path: Path) -> None:
    write_png(tmp_path / "0.png", noise(1)[0], exif=b"Exif\0\0garbage")
    assert np.array_equal(read_pictures(tmp_path).pixels, noise(1))


def test_columns_that_are_not_read_are_named() -> None:
    data = of_classes(noise(4), [0, 1, 0, 1], ["a", "b"])
    masks = [Image.fromarray(p) for p in noise(4, seed=3)]
    features = datasets.Features({"mask": datasets.Image()})
    both = datasets.concatenate_datasets(
        [datasets.Dataset.from_dict({"mask": masks}, features=features), data], axis=1
    )
    found = read_pictures(both)
    assert np.array_equal(found.pixels, noise(4))
    assert found.notes == ("column 'image' is read, further images are not ('mask')",)
    kept = data.cast_column("label", datasets.Value("int64"))
    assert read_pictures(kept.rename_column("label", "Label")).classes == ("0", "1")
    (note,) = read_pictures(kept.rename_column("label", "sort")).notes
    assert note.endswith("(data.label_column may name one of 'sort')")


def test_16_bits_are_16_bits_however_dark(tmp_path: Path) -> None:
    deep = noise(2).astype(np.uint16) * 257
    for ending in ("png", "tif"):
        for number, picture in enumerate((deep[0], deep[0] // 300)):
            file = tmp_path / ending / f"{number}.{ending}"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(file)
        found = read_pictures(tmp_path / ending)
        assert [picture.max() for picture in found.pixels] == [noise(2)[0].max(), 1]
    (tmp_path / "pgm").mkdir()
    for number, picture in enumerate((deep[0], deep[0] // 300)):
        content = b"P5 8 8 65535\n" + picture.astype(">u2").tobytes()
        (tmp_path / "pgm" / f"{number}.pgm").write_bytes(content)
    found = read_pictures(tmp_path / "pgm")
    assert [picture.max() for picture in found.pixels] == [noise(2)[0].max(), 1]
    (tmp_path / "png" / "0.png").unlink()
    assert read_pictures(tmp_path / "png").notes[-1].startswith("grey levels end at 1 of 255")


def test_levels_of_32_bits_are_what_they_say(tmp_path: Path) -> None:
    whole = noise(3).astype(np.int32)
    for number, picture in enumerate(whole):
        Image.fromarray(picture).save(tmp_path / f"{number}.tif")
    assert np.array_equal(read_pictures(tmp_path).pixels, noise(3))
    data = datasets.Dataset.from_dict(
        {"image": list(whole)}, features=datasets.Features({"image": datasets.Image()})
    )
    assert np.array_equal(read_pictures(data).pixels, noise(3))
    Image.fromarray(whole[0] * 257).save(tmp_path / "3.tif")
    (note,) = [note for note in read_pictures(tmp_path).notes if "32 bits" in note]
    assert note.startswith("of 4 pictures with levels of 32 bits 3 have none above 255")


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    pixels = noise(4)
    found = read_pictures((pixels[[0, 1, 2, 0, 1]], [0, 1, 0, 1, 1]))
    assert found.notes == (
        "pictures left out: 2 equal to another one, 1 of them under another class, which is not "
        "kept",
    )
    frames = [Image.fromarray(picture) for picture in pixels]
    frames[0].save(tmp_path / "0.gif", save_all=True, append_images=frames[1:])
    write_png(tmp_path / "1.png", pixels[1])
    assert read_pictures(tmp_path).notes == (
        "no folders of classes, so there are none to tell apart",
        "further frames of 1 picture left out",
    )
    data = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / "0.gif")]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    assert read_pictures(data).notes == (
        "no column of labels, so there are no classes to tell apart",
        "further frames of 1 picture left out",
    )


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "own\udcff"
    folder_of(folder, noise(4), ["a\udcff", "b"] * 2)
    found = read_pictures(folder)
    assert (found.name, found.classes) == ("own\\udcff", ("a\\udcff", "b"))
    with pytest.raises(UserError, match="is not UTF-8; give it another name"):
        read_settings(**{"data.images": str(folder)})
    with pytest.raises(UserError, match="is not UTF-8; give it another name"):
        read_settings(**{"data.corpus": [str(folder)]})


def test_a_folder_may_be_called_as_results_call_the_text(tmp_path: Path) -> None:
    pictures = read_pictures(folder_of(tmp_path / "text", noise(20), ["a", "b"] * 10))
    task = pictures.task(pictures.split())
    assert task is not None
    assert task.name == "text-task"


# ------------------------------------------------------------------------------------- bad input


def _bomb(path: Path) -> None:
    """A small file that says that it has very many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))
    path.write_bytes(data + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "an empty folder; give a folder with a folder of .png"),
        (lambda f: (f / "a.txt").write_text("x"), r"a folder without pictures \(it has 1 .txt\)"),
        (
            lambda f: (
                write_png(f / "0.png", noise(1)[0]),
                write_png(f / "1.png", noise(1, (8, 9))[0]),
            ),
            r"1.png: 8 x 9 pixels, .*0.png has 8 x 8; give pictures of one size",
        ),
        (
            lambda f: (f / "0.png").write_bytes(
                write_png(f / "0.png", noise(1, (64, 64))[0]).read_bytes()[:900]
            ),
            "0.png: no whole picture",
        ),
        (lambda f: (f / "0.jpg").write_bytes(b""), "0.jpg: no whole picture"),
        (lambda f: (f / "0.png").write_text("no picture"), "0.png: no whole picture"),
        (lambda f: _bomb(f / "0.png"), "0.png: so many pixels that it may be a decompression bomb"),
        (
            lambda f: (
                write_png(f / "a" / "0.png", noise(1)[0]),
                write_png(f / "1.png", noise(1)[0]),
            ),
            "1.png: stands in no folder of a class",
        ),
        (
            lambda f: [
                write_png(f / part / "a" / "0.png", noise(1, seed=k)[0])
                for k, part in enumerate(("train", "test", "extra"))
            ],
            "has a folder 'test' of a part, and 'extra' beside it, of none; move that elsewhere",
        ),
        (
            lambda f: Image.fromarray(noise(1)[0] / np.float32(9)).save(f / "0.tif"),
            "0.tif: no whole picture .its grey levels are no whole numbers of 8 or 16",
        ),
        (
            lambda f: (
                np.save(f / "images.npy", noise(3)),
                np.save(f / "labels.npy", np.arange(2)),
            ),
            r"labels.npy: 2 labels, .*images.npy has 3 pictures; give one for each",
        ),
        (
            lambda f: np.save(f / "images.npy", np.zeros(5)),
            "images.npy: an array of 5; pictures are",
        ),
        (
            lambda f: np.save(f / "images.npy", noise(2).astype(int) - 300),
            "grey levels must be from 0 to 255, found -300 to",
        ),
        (
            lambda f: np.save(f / "images.npy", np.array([{}, {}]), allow_pickle=True),
            r"images.npy: an array of objects, which is not opened; save numbers",
        ),
        (lambda f: (f / "images.npy").write_bytes(b"\x93NUMPY\1"), "images.npy: no array"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        read_pictures(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.images": "digits", "data.corpus": "x.txt"}, "give them without data.corpus"),
        ({"data.images": "digits", "data.tasks": ["x.csv"]}, "give them without data.tasks"),
        ({"data.images": "digits", "data.tokenizer": "gpt2"}, "data.tokenizer: is of a text"),
        ({"data.images": "digits", "data.encoding": "latin-1"}, "data.encoding: is of a text"),
        ({"data.images": "no/such/folder"}, "no/such/folder"),
        ({"data.images": " "}, "an empty name"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_source(read_settings(**settings).data)


@pytest.mark.parametrize(
    ("pixels", "patch", "codes", "message"),
    [
        (
            noise(4),
            3,
            None,
            "8 x 8 pixels do not divide into patches of 3; give data.patch 1 or 2 or 4",
        ),
        (noise(4), 8, None, "do not divide into patches of 8"),
        (
            noise(2),
            4,
            128,
            "8 different patches, fewer than the codebook of 128; give data.vocabulary 4",
        ),
        (np.zeros((3, 8, 8), np.uint8), 1, None, "of one grey level; nothing to predict"),
    ],
)
def test_patches_that_do_not_fit(pixels: Any, patch: int, codes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitted(pixels, patch, codes, seed=0, name="own")


# ------------------------------------------------------------------------------------------ codec


def test_codes_are_the_nearest_patches_in_rows() -> None:
    pixels = noise(20, (12, 8))
    codec = fitted(pixels, 4, 16, seed=0, name="own")
    assert (codec.grid, codec.length, codec.size) == ((3, 2), 7, 18)
    ids = codec.encode(pixels)
    for picture, row in zip(pixels.astype(float), ids, strict=True):
        for place, code in enumerate(row):
            r, c = divmod(place, 2)
            patch = picture[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].ravel()
            assert code == ((codec.codebook - patch) ** 2).sum(1).argmin()
    assert codec.decode(ids[0]).shape == (12, 8)
    assert not codec.decode(ids[0][:2])[4:].any()  # what is not given is black


def test_a_codec_is_the_same_again_and_refuses_a_damaged_file(tmp_path: Path) -> None:
    codec = fitted(noise(20), 2, 8, seed=0, name="own")
    assert codec.fingerprint == fitted(noise(20), 2, 8, seed=0, name="own").fingerprint
    codec.save(tmp_path)
    again = load_codec(tmp_path)
    assert isinstance(again, PatchCodec)
    assert (again.fingerprint, again.lost) == (codec.fingerprint, codec.lost)
    assert (again.vocabulary, again.units.tolist()) == (codec.vocabulary, codec.units.tolist())
    whole = (tmp_path / CODEBOOK_FILE).read_bytes()
    for broken in (
        whole[:50],
        whole[:-4],
        b"",
        whole.replace(b'\\"patch\\": 2', b'\\"patch\\": 3'),
        whole.replace(b'"lost":"0.', b'"lost":"-.'),
        whole[:-4] + np.float32(1e30).tobytes(),
        whole[:-4] + np.float32("nan").tobytes(),
    ):
        (tmp_path / CODEBOOK_FILE).write_bytes(broken)
        with pytest.raises(UserError, match=CODEBOOK_FILE):
            load_codec(tmp_path)


def store_of(pictures: Pictures, cache: Path, **options: Any) -> TokenStore:
    return prepare_pictures(pictures, pictures.split(), cache=cache, **options)


def test_the_codebook_is_fitted_on_training_pictures_alone(tmp_path: Path) -> None:
    pixels = noise(40)
    labels = np.arange(40) % 2
    first = read_pictures((pixels, labels))
    parts = first.split()
    other = pixels.copy()
    other[parts["test"]] = noise(len(parts["test"]), seed=9)
    other[parts["validation"]] = 255 - other[parts["validation"]]
    second = read_pictures((other, labels))
    made = [
        prepare_pictures(each, parts, patch=4, codes=8, cache=tmp_path).codec
        for each in (first, second)
    ]
    assert np.array_equal(made[0].codebook, made[1].codebook)  # type: ignore[union-attr]


def test_rows_of_a_store_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookaround.data.shards.SHARD_TOKENS", 60)  # three pictures a shard
    pictures = read_pictures((noise(40), np.arange(40) % 2))
    store = store_of(pictures, tmp_path, patch=2, codes=8)
    parts, codec = pictures.split(), store.codec
    rows = Rows(store.split("train"), codec.length, codec)  # type: ignore[union-attr]
    batch = rows.take(np.arange(len(rows)))
    assert len(store.index["splits"]["train"]["shards"]) > 1
    assert batch.documents is None
    assert batch.tokens[:, 1:].tolist() == codec.encode(pictures.pixels[parts["train"]])  # type: ignore[arg-type]
    assert (batch.tokens[:, 0] == codec.bos).all()
    assert store.unigram().sum() == batch.tokens.numel()
    assert store_of(pictures, tmp_path, patch=2, codes=8).folder == store.folder
    assert store_of(pictures, tmp_path, patch=4, codes=8).folder != store.folder
    codebook = store.folder / "tokenizer" / CODEBOOK_FILE
    codebook.write_bytes(codebook.read_bytes()[:-9])  # cut short in the cache, it is made again
    assert store_of(pictures, tmp_path, patch=2, codes=8).codec.fingerprint == codec.fingerprint


def test_the_codebook_is_the_same_on_any_number_of_threads() -> None:
    from threadpoolctl import threadpool_limits

    pixels = read_pictures("digits").pixels
    books = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            books.append(fitted(pixels, 4, 32, seed=0, name="digits").codebook)
    assert np.array_equal(*books)


def test_the_split_is_by_picture_and_seed() -> None:
    pictures = read_pictures("digits")
    parts = pictures.split()
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1168,
        "validation": 180,
        "test": 449,
    }
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(1797))
    assert not np.array_equal(parts["test"], pictures.split(seed=1)["test"])
    with pytest.raises(UserError, match="too few pictures to split"):
        read_pictures((noise(2), [0, 1])).split()
    with pytest.raises(UserError, match=r"0 train, .*, and 9 more were equal to others\); give"):
        read_pictures(np.repeat(noise(1), 10, axis=0)).split()


def test_test_pictures_alone_are_no_training(tmp_path: Path) -> None:
    folder_of(tmp_path, noise(6), ["a", "b"] * 3, "test")
    with pytest.raises(UserError, match="has no training pictures"):
        read_pictures(tmp_path).split()


def test_grey_levels_where_there_are_many() -> None:
    codec = fitted(noise(20), 1, None, seed=0, name="own")
    assert codec.codebook[:, 0].tolist() == pytest.approx(np.linspace(0, 255, 16).tolist())
    assert 0 < codec.lost < 0.01
    assert patches.default_patch(28, 28) == 4
    assert patches.default_patch(30, 30) == 2
    assert patches.default_patch(16, 16) == 1


def test_a_png_in_a_page_is_the_picture() -> None:
    import base64

    from lookaround.evaluation.completions import as_png

    head, _, data = as_png(noise(1)[0]).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), noise(1)[0])
