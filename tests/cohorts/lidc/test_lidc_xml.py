import gc
import re
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcematters.cohorts.lidc import lidc_xml
from sourcematters.errors import StudyError

SQUARE = [(10, 20), (14, 20), (14, 24), (10, 24)]


def roi(points, *, sop="1.2.3", z="-100.5", inclusion="TRUE"):
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{sop}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def nodule(*rois, name="Nodule 001", ratings="<malignancy>4</malignancy><calcification>6</calcification>"):
    characteristics = f"<characteristics>{ratings}</characteristics>" if ratings else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{characteristics}{''.join(rois)}</unblindedReadNodule>"


def non_nodule(x, y, *, sop="1.2.9"):
    return (
        f"<nonNodule><nonNoduleID>77</nonNoduleID><imageZposition>-90.0 </imageZposition><imageSOP_UID>{sop}"
        f"</imageSOP_UID><locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus></nonNodule>"
    )


def message(*sessions, series="1.2.840.1", uid="9.1", namespace="http://www.nih.gov", root="LidcReadMessage"):
    """A read in the text of the release: sessions are the XML of what each reader marked."""
    readers = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion>{session}</readingSession>" for session in sessions
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} uid="{uid}" xmlns="{namespace}"><ResponseHeader>'
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid><StudyInstanceUID>1.2.840.2</StudyInstanceUID>"
        f"</ResponseHeader>\n{readers}</{root}>\n"
    )


GOOD = message(nodule(roi(SQUARE), roi([(11, 22)], z="-99.0", sop="1.2.4")) + non_nodule(300, 301), "")


def folder(root, **files):
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (root / f"{name}.xml").write_bytes(content)
    return root


def only_problem(source):
    found = lidc_xml.read(source)
    assert found.reads == []
    ((file, what),) = found.problems.itertuples(index=False)
    return file, what


def test_every_value_of_a_small_read(tmp_path):
    text = message(
        nodule(
            roi(SQUARE, inclusion="TRUE"),
            roi([(12, 22)], z="-99.0 ", sop="1.2.4", inclusion="FALSE"),
            name="MI014_11691",
        )
        + nodule(roi([(7, 8)]), ratings="", name="0")
        + non_nodule(534, 411),
        "",
        nodule(roi([(1, 2)]), ratings="<malignancy>0</malignancy><subtlety>0</subtlety>"),
    )
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "069.XML").write_text(text)
    (tmp_path / "notes.txt").write_text("not to be read")
    found = lidc_xml.read(tmp_path)
    (read,) = found.reads
    assert (found.files, found.duplicates, found.chest_films, len(found.problems)) == (1, 0, 0, 0)
    assert (read.file, read.series_uid, read.study_uid) == ("a/b/069.XML", "1.2.840.1", "1.2.840.2")
    assert [[(n.id, n.kind, n.malignancy) for n in nodules] for nodules in read.readers] == [
        [("MI014_11691", "nodule", 4), ("0", "small", None), ("77", "non-nodule", None)],
        [],
        [("Nodule 001", "small", None)],
    ]
    first = read.readers[0][0]
    assert [(c.sop_uid, c.z_mm, c.inclusion) for c in first.contours] == [
        ("1.2.3", -100.5, True),
        ("1.2.4", -99, False),
    ]
    assert first.contours[0].points.dtype == np.int32
    np.testing.assert_array_equal(first.contours[0].points, SQUARE)
    np.testing.assert_array_equal(read.readers[0][2].contours[0].points, [(534, 411)])


def contours(annotations):
    """Everything that readers drew, in the order of the files: kind, slice, position, inclusion and points."""
    return [
        (read.series_uid, reader, nodule.kind, c.sop_uid, c.z_mm, c.inclusion, c.points.tolist())
        for read in annotations.reads
        for reader, nodules in enumerate(read.readers)
        for nodule in nodules
        for c in nodule.contours
    ]


def test_a_zip_and_its_folder_say_the_same(tmp_path):
    source = folder(tmp_path / "xml", b=GOOD, a=message("", series="1.5"), c=b"<", d=GOOD.replace("9.1", "9.2"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.iterdir(), reverse=True):
            archive.write(path, path.name)
    one, other = lidc_xml.read(source), lidc_xml.read(str(tmp_path / "x.zip"))
    assert [read.file for read in one.reads] == ["a.xml", "b.xml"]
    assert contours(one) == contours(other) and len(contours(one)) == 3
    assert one.problems.equals(other.problems) and len(one.problems) == 1
    assert (one.files, one.duplicates) == (other.files, other.duplicates) == (4, 1)


def test_a_second_read_of_a_series_counts_only_if_it_says_the_same(tmp_path):
    same = GOOD.replace('uid="9.1"', 'uid="9.2"').replace("><", ">\n <")
    other = GOOD.replace("<xCoord>14</xCoord>", "<xCoord>15</xCoord>", 1)
    assert other != GOOD
    found = lidc_xml.read(folder(tmp_path, a=GOOD, b=same, c=other))
    assert [read.file for read in found.reads] == ["a.xml"] and found.duplicates == 1
    ((file, what),) = found.problems.itertuples(index=False)
    assert file == "c.xml" and "a.xml" in what


def test_chest_films_are_counted_and_other_messages_named(tmp_path):
    idri = "http://www.nih.gov/idri"
    found = lidc_xml.read(
        folder(
            tmp_path,
            a=GOOD,
            b=message("", root="IdriReadMessage", namespace=idri),
            c=message("", namespace=idri),
            d=message("", root="IdriReadMessage"),
            e="<LidcReadMessage/>",
            f="<html><body/></html>",
        )
    )
    assert (found.files, len(found.reads), found.chest_films) == (6, 1, 1)
    assert found.problems["file"].tolist() == ["c.xml", "d.xml", "e.xml", "f.xml"]
    assert found.problems["what"].str.contains("root").all() and "html" in found.problems["what"][3]


LAUGHS = '<!DOCTYPE a [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda t: t[: len(t) // 2], "cut off"),
        (lambda t: "", "cut off"),
        (lambda t: "no XML at all", "not XML"),
        (lambda t: t.replace("\n", f"\n{LAUGHS}]>", 1).replace("Nodule 001", "&a9;"), "<!DOCTYPE"),
        (lambda t: t.replace("\n", '\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 1), "<!DOCTYPE"),
        (lambda t: t.replace("\n", '\n<!DOCTYPE a SYSTEM "http://localhost/x.dtd">', 1), "<!DOCTYPE"),
        (lambda t: t.replace("Nodule 001", "&x;"), "not XML"),
        (lambda t: t.encode("utf-16"), "UTF-8"),
        (lambda t: t.encode("utf-16-le"), "x00"),
        (lambda t: t.encode("utf-16-be"), "x00"),
        (lambda t: t.replace("\n", f"\n{LAUGHS}]>", 1).replace("Nodule 001", "&a9;").encode("utf-16-le"), "x00"),
        (lambda t: t.replace("Nodule", "Nodulé").encode("latin-1"), "UTF-8"),
        (lambda t: t.replace(">10<", ">-10<"), "xCoord is '-10'"),
        (lambda t: t.replace(">10<", ">ten<"), "xCoord is 'ten'"),
        (lambda t: t.replace(">10<", ">1_0<"), "xCoord is '1_0'"),
        (lambda t: t.replace(">10<", ">١٠<"), "xCoord"),
        (lambda t: t.replace(">10<", ">10.5<"), "xCoord"),
        (lambda t: t.replace(">10<", "><"), "xCoord is ''"),
        (lambda t: t.replace(">10<", f">{'9' * 5000}<"), f"{'9' * 60}'"),
        (lambda t: t.replace(">301<", ">1024<"), "non-nodule '77': yCoord is '1024'"),
        (lambda t: re.sub("<yCoord>24</yCoord>", "", t), "yCoord"),
        (lambda t: re.sub("<edgeMap>.*?</edgeMap>", "", t), "no edgeMap"),
        (lambda t: re.sub("<locus>.*?</locus>", "", t), "no locus"),
        (lambda t: re.sub("<roi>.*</roi>", "", t), "no roi"),
        (lambda t: re.sub("<noduleID>.*?</noduleID>", "", t), "readingSession 1: noduleID is ''"),
        (lambda t: t.replace("Nodule 001", " "), "noduleID is ''"),
        (lambda t: t.replace(">TRUE<", ">maybe<", 1), "inclusion is 'maybe'"),
        (lambda t: t.replace("-99.0", "nan"), "imageZposition is 'nan'"),
        (lambda t: t.replace("-99.0", "up"), "imageZposition is 'up'"),
        (lambda t: t.replace(">1.2.3<", "><"), "imageSOP_UID is ''"),
        (lambda t: t.replace(">1.2.3<", ">../a<"), "not a DICOM UID"),
        (lambda t: t.replace(">1.2.840.1<", "><"), "SeriesInstanceUid is ''"),
        (lambda t: t.replace("SeriesInstanceUid", "Other"), "SeriesInstanceUid is ''"),
        (lambda t: t.replace("ResponseHeader", "Header"), "no ResponseHeader"),
        (lambda t: t.replace("readingSession", "session"), "no readingSession"),
        (lambda t: t.replace("y>4<", "y>6<"), "malignancy is '6'"),
        (lambda t: t.replace("y>4<", "y>high<"), "malignancy is 'high'"),
        (lambda t: "<a>" * 200_000, "cut off"),
        (lambda t: " " * (lidc_xml.MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, damage, named):
    broken = damage(GOOD)
    assert broken != GOOD
    started = time.process_time()
    found = lidc_xml.read(folder(tmp_path, a=message("", series="1.5"), b=broken))
    assert time.process_time() - started < 5 and gc.isenabled()
    assert [read.series_uid for read in found.reads] == ["1.5"]
    ((file, what),) = found.problems.itertuples(index=False)
    assert file == "b.xml" and named in what and len(what) < 300


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "cp037", "no-such-encoding"])
def test_the_declared_encoding_cannot_change_what_is_read(tmp_path, encoding):
    """cp037 is an EBCDIC: a parser that believed it would see other markup than the search for a DTD does."""
    text = "\ufeff" + GOOD.replace("UTF-8", encoding)
    found = lidc_xml.read(folder(tmp_path, a=text))
    assert found.reads[0].readers[0][0].id == "Nodule 001"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(GOOD) - 1), cut=st.integers(0, 40), put=st.binary(max_size=8))
def test_any_damage_gives_a_read_or_a_problem(tmp_path, at, cut, put):
    data = GOOD.encode()
    found = lidc_xml.read(folder(tmp_path, a=data[:at] + put + data[at + cut :]))
    assert len(found.reads) + found.chest_films + len(found.problems) == found.files == 1
    assert len(contours(found)) <= 4


def zipped(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.xml", text)
    return path


def test_a_damaged_member_is_named_and_the_others_are_read(tmp_path):
    path = zipped(tmp_path / "x.zip", a=GOOD, b=message("", series="1.5"))
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(byte ^ 255 for byte in data[60:70])
    path.write_bytes(data)
    found = lidc_xml.read(path)
    assert [read.file for read in found.reads] == ["b.xml"]
    assert found.problems["file"].tolist() == ["a.xml"] and "not readable" in found.problems["what"][0]


def test_an_encrypted_member_is_named(tmp_path):
    path = zipped(tmp_path / "x.zip", a=GOOD)
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in only_problem(path)[1]


def test_a_zip_of_many_bombs_is_refused_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(lidc_xml, "MAX_TOTAL", 3 * len(GOOD))
    assert lidc_xml.read(zipped(tmp_path / "x.zip", a=GOOD, b=GOOD, c=GOOD)).files == 3
    with pytest.raises(StudyError, match=r"x.zip: its XML files are over [0-9,]+ bytes"):
        lidc_xml.read(zipped(tmp_path / "x.zip", a=GOOD, b=GOOD, c=GOOD, d=GOOD))


def test_a_zip_bomb_is_refused_whatever_size_it_claims(tmp_path):
    path = zipped(tmp_path / "x.zip", a=" " * (lidc_xml.MAX_BYTES + 10))
    assert path.stat().st_size < 2**16
    assert "larger than" in only_problem(path)[1]
    data = path.read_bytes()
    size = (lidc_xml.MAX_BYTES + 10).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (99).to_bytes(4, "little")))
    only_problem(path)


def test_what_is_no_source_at_all(tmp_path, monkeypatch):
    with pytest.raises(StudyError, match="No such file or directory"):
        lidc_xml.read(tmp_path / "absent")
    with pytest.raises(StudyError, match="no XML file"):
        lidc_xml.read(tmp_path)
    path = zipped(tmp_path / "x.zip", a=GOOD)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StudyError, match="nor a readable zip"):
        lidc_xml.read(path)
    (tmp_path / "a.xml").symlink_to(tmp_path / "nowhere")
    assert "No such file" in only_problem(tmp_path)[1]

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StudyError, match="not readable .Permission denied"):
        lidc_xml.read(tmp_path)


def test_the_real_release_against_a_search_of_its_text(shared_data, lidc_release):
    """1,018 CT scans, as TCIA counts them; everything else is counted once more by text search alone."""
    found, seconds = lidc_release
    assert seconds < 60
    texts, films, files = {}, 0, 0
    with zipfile.ZipFile(shared_data / "LIDC-XML-only.zip") as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".xml")):
            text = re.sub("<!--.*?-->", "", archive.read(name).decode("ascii"), flags=re.DOTALL)
            files += 1
            if "<LidcReadMessage" in text:
                texts.setdefault(re.search("<SeriesInstanceUid>([^<]+)", text)[1], text)
            else:
                assert "<IdriReadMessage" in text
                films += 1
    assert found.problems.empty
    assert len(found.reads) == len(texts) == 1018
    assert (found.files, found.chest_films, found.duplicates) == (files, films, 17) == (1318, 283, 17)

    kinds = {"nodule": 0, "small": 0}
    rated, whole = [0] * 6, "".join(texts.values())
    for block in re.findall("<unblindedReadNodule>.*?</unblindedReadNodule>", whole, flags=re.DOTALL):
        outlined = any(roi.count("<edgeMap>") > 1 for roi in block.split("<roi>"))
        kinds["nodule" if outlined else "small"] += 1
    for rating in re.findall("<malignancy>([0-9])<", whole):
        rated[int(rating)] += 1
    nodules = [nodule for read in found.reads for nodules in read.readers for nodule in nodules]
    for kind, count in {**kinds, "non-nodule": whole.count("<nonNodule>")}.items():
        assert sum(nodule.kind == kind for nodule in nodules) == count
    assert [sum(nodule.malignancy == rating for nodule in nodules) for rating in range(1, 6)] == rated[1:]

    drawn = contours(found)
    marked = [points for _, _, kind, *_, points in drawn if kind != "non-nodule"]
    assert sum(map(len, marked)) == whole.count("<edgeMap>")
    assert sum(not inclusion for *_, inclusion, _ in drawn) == whole.count("<inclusion>FALSE")
    assert {sop_uid for *_, sop_uid, _, _, _ in drawn} == set(re.findall("<imageSOP_UID>([0-9.]+)<", whole))
    sessions = [text.count("<readingSession>") for text in texts.values()]
    assert [len(read.readers) for read in found.reads] == sessions
    assert max(max(max(point) for point in points) for *_, points in drawn) == 534
    assert max(x for points in marked for x, _ in points) < 512
