import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from sourcematters.cohorts import Request, open_cohort, tables
from sourcematters.cohorts.cohort import check, shared_patients
from sourcematters.confounders import Attribute, design
from sourcematters.errors import StudyError


def opened(data, **request):
    return open_cohort(Request(data=data, **request))


def listed(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def refusal(path, **options):
    with pytest.raises(StudyError) as caught:
        opened(path, task="mine", cache=path.parent, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


HEADER = "image_id,path,patient_id,label,split,sex\n"
ROWS = "007,a.png,01,1,dev,F\n008,b.png,02,0,dev,NA\n009,c.png,03,1,test,\n010,d.png,04,0,test,M\n"


def images(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()


def test_own_csv(tmp_path, monkeypatch):
    images(tmp_path)
    listed(tmp_path, "\ufeff" + HEADER + ROWS + "\n", "My Study.csv")
    monkeypatch.chdir(tmp_path)
    own = opened("My Study.csv", task="fracture", cache="")
    assert own.table["image_id"].tolist() == ["007", "008", "009", "010"]
    assert own.table["patient_id"].tolist() == ["01", "02", "03", "04"]
    assert own.table["path"].tolist() == [str(tmp_path / f"{name}.png") for name in "abcd"]
    assert own.table["sex"].fillna("?").tolist() == ["F", "NA", "?", "M"]  # only an empty cell is missing
    assert (own.name, own.task, own.origin, own.notes) == ("my-study", "fracture", "My Study.csv", [])


def test_own_csv_without_split_is_split_by_patient(tmp_path):
    (tmp_path / "a.png").touch()
    rows = "".join(f"i{i},a.png,p{i // 2},{i // 2 % 2},{'PA' if i % 2 else 'AP'}\n" for i in range(80))
    path = listed(tmp_path, "image_id,path,patient_id,label,view\n" + rows)
    own = opened(path, task="x", cache="", seed=5)
    assert own.table["split"].value_counts().to_dict() == {"dev": 60, "test": 20}
    assert shared_patients(own.table) == []
    assert "seed 5" in own.notes[0]
    assert len(opened(path, task="x", cache="", view="PA").table) == 40
    assert "unknown view `Pa`. Did you mean PA?" in refusal(path, view="Pa")


def test_own_csv_refusals(tmp_path):
    images(tmp_path)
    assert "no such table" in refusal(tmp_path / "none.csv")
    assert "no columns" in refusal(listed(tmp_path, "")) and "no columns" in refusal(listed(tmp_path, "\n,,\n"))
    assert "no rows" in refusal(listed(tmp_path, HEADER))
    assert "no column label" in refusal(listed(tmp_path, (HEADER + ROWS).replace("label", "mass")))
    assert "row 6: more than the 6 cells" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png,05,0,test,M,extra\n"))
    assert "line 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png,05,0,test,M,extra,more\n"))
    assert "Every row" in refusal(listed(tmp_path, HEADER + ROWS.replace("\n", ",extra,more\n")))
    assert "EOF inside string" in refusal(listed(tmp_path, HEADER + ROWS.replace(",b", ',"b')))
    assert "as many cells" in refusal(listed(tmp_path, HEADER + ROWS.replace("\n", ",extra\n")))
    assert "patient_id is missing in row 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png\n"))
    assert "row 4" in refusal(listed(tmp_path, HEADER + ROWS.replace("03,1", "03,2")))
    # A blank line keeps the count of rows as an editor shows it.
    assert "row 5" in refusal(listed(tmp_path, HEADER + "\n" + ROWS.replace("03,1", "03,2")))
    assert "no column view" in refusal(listed(tmp_path, HEADER + ROWS), view="PA")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"image_id\xff\xfe\x00,path\n")
    assert "not a table" in refusal(path)
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert "cannot be read" in refusal(tmp_path / "cut.csv.gz")


def test_own_csv_with_a_missing_image(tmp_path):
    images(tmp_path)
    (tmp_path / "c.png").unlink()
    with pytest.raises(StudyError, match=r"1 of 4 image files do not exist: .*c\.png"):
        opened(listed(tmp_path, HEADER + ROWS), task="x", cache="")


def test_written_table_moves_with_its_folder(tmp_path):
    inside = tmp_path / "one" / "images"
    frame = pd.DataFrame(
        {
            "image_id": ["d", "c", "b", "a"],
            "path": [str(inside / "d.png"), str(inside / "c.png"), "/elsewhere/b.png", str(inside / "a.png")],
            "patient_id": ["4", "3", "2", "1"],
            "label": [1, 0, 1, 0],
            "split": ["test", "test", "dev", "dev"],
            "age": [40.0, np.nan, 60.0, 70.5],
        }
    )
    tables.write_csv(tmp_path / "one" / "cohort.csv", frame)
    (tmp_path / "one").rename(tmp_path / "two")
    back = tables.read_csv(tmp_path / "two" / "cohort.csv")
    moved = tmp_path / "two" / "images"
    assert back["path"].tolist() == [
        str(moved / "a.png"),
        "/elsewhere/b.png",
        str(moved / "c.png"),
        str(moved / "d.png"),
    ]
    pd.testing.assert_frame_equal(back.drop(columns="path"), check(frame, origin="").drop(columns="path"))


def rows_of(n=8, **cells):
    """Rows of text, an image of another patient each; a column of `cells` is a function of the row's number."""
    plain = {
        "image_id": lambda i: f"i{i}",
        "path": lambda i: "abcd"[i % 4] + ".png",
        "patient_id": lambda i: f"p{i}",
        "label": lambda i: str(i % 2),
        "split": lambda i: "dev" if i < n // 2 else "test",
        "sex": lambda i: "FM"[i // 2 % 2],
    }
    columns = plain | cells
    return [list(columns), *([str(cell(i)) for cell in columns.values()] for i in range(n))]


def text_of(separator=",", **cells):
    return "".join(separator.join(row) + "\n" for row in rows_of(**cells))


def zipped(**files):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return memory.getvalue()


def workbook(rows, sheets=("Tabelle1",)):
    """An .xlsx of text cells, and numbers where a row holds them; all sheets but the first are empty."""
    office = "http://schemas.openxmlformats.org"
    main, relation = f"{office}/spreadsheetml/2006/main", f"{office}/officeDocument/2006/relationships"
    numbered = list(enumerate(sheets, 1))
    names = "".join(f'<sheet name="{name}" sheetId="{k}" r:id="rId{k}"/>' for k, name in numbered)
    links = "".join(
        f'<Relationship Id="rId{k}" Type="{relation}/worksheet" Target="worksheets/sheet{k}.xml"/>' for k, _ in numbered
    )
    cell = {float: "<c><v>{}</v></c>", str: '<c t="inlineStr"><is><t>{}</t></is></c>'}
    data = ["".join(f"<row>{''.join(cell[type(c)].format(c) for c in row)}</row>" for row in rows), *[""] * len(sheets)]
    files = {
        f"xl/worksheets/sheet{k}.xml": f'<worksheet xmlns="{main}"><sheetData>{data[k - 1]}</sheetData></worksheet>'
        for k, _ in numbered
    }
    files["xl/workbook.xml"] = f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>{names}</sheets></workbook>'
    package = f"{office}/package/2006/relationships"
    book = f'<Relationship Id="rId1" Type="{relation}/officeDocument" Target="xl/workbook.xml"/>'
    files["_rels/.rels"] = f'<Relationships xmlns="{package}">{book}</Relationships>'
    files["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{package}">{links}</Relationships>'
    return zipped(**files)


def document(rows):
    """An .ods with text cells."""
    oasis = "urn:oasis:names:tc:opendocument:xmlns"
    cells = "".join(
        "<table:table-row>"
        + "".join(f'<table:table-cell office:value-type="string"><text:p>{c}</text:p></table:table-cell>' for c in row)
        + "</table:table-row>"
        for row in rows
    )
    spaces = " ".join(f'xmlns:{name}="{oasis}:{name}:1.0"' for name in ("office", "table", "text"))
    content = (
        f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="t">{cells}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = f'<manifest:manifest xmlns:manifest="{oasis}:manifest:1.0"/>'
    return zipped(
        **{
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": content,
            "META-INF/manifest.xml": manifest,
        }
    )


NAMED = {"sex": lambda i: "née"}
FORMS = {
    "cp1252": ("t.csv", text_of(**NAMED).encode("cp1252"), "is read as cp1252"),
    "UTF-16, little end first": ("t.csv", text_of(**NAMED).encode("utf-16"), ""),
    "UTF-16, big end first": ("t.csv", b"\xfe\xff" + text_of(**NAMED).encode("utf-16-be"), ""),
    "UTF-8 with a mark": ("t.csv", text_of(**NAMED).encode("utf-8-sig"), ""),
    "sep=,": ("t.csv", ("sep=,\r\n" + text_of(**NAMED)).encode(), ""),
    "sep=; and blank lines": ("t.csv", ("SEP=;\n\n" + text_of(";", **NAMED)).encode(), ""),
    "semicolons": ("t.csv", text_of(";", **NAMED).encode(), ""),
    "tabs": ("t.tsv", text_of("\t", **NAMED).encode(), ""),
    "bars in .txt": ("t.txt", text_of("|", **NAMED).encode(), ""),
    "lines of an old Mac": ("t.csv", text_of(**NAMED).replace("\n", "\r").encode(), ""),
    "quoted names": ("t.csv", ('"image_id";path' + text_of(";", **NAMED)[len("image_id;path") :]).encode(), ""),
    "no ending": ("table", text_of(**NAMED).encode(), ""),
    "gzip, named plain": ("t.csv", gzip.compress(text_of(**NAMED).encode()), ""),
    "trailing commas below the header": ("t.csv", text_of(**NAMED).replace("née\n", "née,\n").encode(), ""),
    "xlsx": ("t.xlsx", workbook(rows_of(**NAMED)), ""),
    "xlsx of two sheets": ("t.xlsx", workbook(rows_of(**NAMED), ("one", "two")), "the first is read, 'one', not 'two'"),
    "ods": ("t.ods", document(rows_of(**NAMED)), ""),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_tables_in_any_common_form_read_alike(tmp_path, form):
    name, content, note = FORMS[form]
    images(tmp_path)
    (tmp_path / name).write_bytes(content)
    own = opened(tmp_path / name, task="x", cache="")
    assert own.table["image_id"].tolist() == [f"i{i}" for i in range(8)]
    assert own.table["path"].tolist() == [str(tmp_path / f"{c}.png") for c in "abcdabcd"]
    assert own.table["label"].tolist() == [0, 1] * 4 and set(own.table["sex"]) == {"née"}
    assert own.table.columns.tolist() == ["image_id", "path", "patient_id", "label", "split", "sex"]
    assert len(own.notes) == bool(note) and note in "".join(own.notes)


NO_TABLES = {
    "a page": ("t.csv", b"<!DOCTYPE html><html>sign in, please</html>", "a web page"),
    "JSON": ("t.json", b'{"image_id": ["a"]}', "JSON"),
    "JSON named .csv": ("t.csv", b'[\n{"image_id": "a"}]', "JSON"),
    "a zip archive": ("t.zip", zipped(**{"t.csv": "a,b"}), "a zip archive of t.csv. Unpack it"),
    "Numbers": ("t.numbers", zipped(**{"Index/Document.iwa": ""}), "a document of Numbers"),
    "an .xls of nothing": ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "cannot be opened"),
    "an .xlsx cut short": ("t.xlsx", workbook(rows_of())[:900], "cannot be opened"),
    "Parquet cut short": ("t.parquet", b"PAR1" + bytes(99), "Parquet"),
    "UTF-16 without its mark": ("t.csv", text_of().encode("utf-16-le"), "no text in UTF-8, UTF-16"),
    "a picture": ("t.png", b"\x89PNG\r\n\x1a\n" + bytes(99), "no text in UTF-8"),
    "an archive of images": ("t.tar.gz", gzip.compress(b"a.png" + bytes(9999)), "no text in UTF-8"),
    "an empty workbook": ("t.xlsx", workbook([]), "empty: no columns"),
}


@pytest.mark.parametrize("what", NO_TABLES)
def test_what_is_no_table_is_named_for_what_it_is(tmp_path, what):
    name, content, sentence = NO_TABLES[what]
    (tmp_path / name).write_bytes(content)
    assert f"not a table that can be read; it is {sentence}" in refusal(tmp_path / name).replace("broken ", "").replace(
        "an office file that ", ""
    )


def test_parquet_is_read_where_pandas_can_and_named_where_not(tmp_path, monkeypatch):
    images(tmp_path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    frame = pd.DataFrame(rows_of()[1:], columns=rows_of()[0]).astype({"label": float})
    frame["scanner"] = pd.array([1, None, *range(6)], dtype="Int64")

    def missing(*_, **__):
        raise ImportError("no engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    assert "Install pyarrow" in refusal(tmp_path / "t.parquet")
    monkeypatch.setattr(pd, "read_parquet", lambda *_, **__: frame)  # no engine is needed to test what comes after it
    table = opened(tmp_path / "t.parquet", task="x", cache="").table
    assert table["scanner"].astype(str).fillna("?").tolist() == ["1", "?", *map(str, range(6))]
    assert table["label"].tolist() == [0, 1] * 4


def test_numbers_of_a_spreadsheet_are_ids_as_they_are_shown(tmp_path):
    images(tmp_path)
    rows = rows_of(patient_id=lambda i: "00" + str(i))
    for k, row in enumerate(rows[1:]):
        row[0], row[3] = float(k + 10), float(k % 2)
    (tmp_path / "t.xlsx").write_bytes(workbook(rows))
    table = opened(tmp_path / "t.xlsx", task="x", cache="").table
    assert table["image_id"].tolist() == [str(k) for k in range(10, 18)]
    assert table["patient_id"].tolist() == [f"00{k}" for k in range(8)]


def test_decimal_commas_where_commas_do_not_separate(tmp_path):
    images(tmp_path)
    cells = {"label": lambda i: f"{i % 2},0", "dose": lambda i: f"{i},5" if i else "", "code": lambda i: f"{i},2,1"}
    own = opened(listed(tmp_path, text_of(";", **cells)), task="x", cache="")
    assert own.table["dose"].fillna(-1).tolist() == [-1, *(i + 0.5 for i in range(1, 8))]
    assert own.table["label"].tolist() == [0, 1] * 4 and own.table["code"].tolist() == [f"{i},2,1" for i in range(8)]
    assert own.notes == [f"Commas in {name} are read as decimal points." for name in ("label", "dose")]
    quoted = text_of(**cells | {"label": lambda i: i % 2, "dose": lambda i: '"1,234"', "code": lambda i: "x"})
    assert set(opened(listed(tmp_path, quoted), task="x", cache="").table["dose"]) == {"1,234"}


def test_columns_in_any_order_case_and_known_word(tmp_path):
    images(tmp_path)
    names = ["Image Index", "FILENAME", "Patient ID ", "Target", "Split", "Gender"]
    rows = [row[::-1] for row in [names, *rows_of()[1:]]]
    own = opened(listed(tmp_path, "".join(",".join(row) + "\n" for row in rows)), task="x", cache="")
    plain = opened(listed(tmp_path, text_of(), "plain.csv"), task="x", cache="")
    pd.testing.assert_frame_equal(own.table.rename(columns={"Gender": "sex"})[plain.table.columns], plain.table)
    assert own.notes == [
        "Columns by what they mean: 'Image Index' as image_id, 'FILENAME' as path, 'Patient ID' as patient_id, "
        "'Target' as label, 'Split' as split."
    ]
    sex = Attribute(name="gender", leaf="gender", attribute="sex", value="F", other="M")
    assert design.values_of(own.table, sex).tolist() == plain.table["sex"].tolist()
    folds = text_of(**{"Fold 0": lambda i: "test" if i > 3 else ("train", "val")[i // 2]})
    assert "fold_0" in opened(listed(tmp_path, folds), task="x", cache="").table


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("image_id,path,PatientID,label,split,subject_id", "patient_id could be column 'PatientID' or 'subject_id'"),
        ("image_id,File,patient_id,label,split,filename", "path could be column 'File' or 'filename'"),
        ("image_id,path,patient_id,label,split,label", "two columns are called label"),
        ("image_id,path,patient_id,label,split,path ", "two columns are called path"),
        ("image_id,path,patient_id,label,Fold 0,FOLD-0", "fold_0 could be column 'Fold 0' or 'FOLD-0'"),
        ("image_id,path,who,label,split,sex", "no column patient_id; the table has image_id, path, who"),
    ],
)
def test_columns_that_could_be_two_are_refused_with_both(tmp_path, header, sentence):
    assert sentence in refusal(listed(tmp_path, header + text_of()[text_of().index("\n") :]))


ONE = [("p0", "p0 "), ("p0", "p0\t"), ("p0", "p0\xa0"), ("p0", "p0\u200b"), ("12", "12.0")]


@pytest.mark.parametrize("pair", ONE)
def test_ids_that_are_one_become_one_and_it_is_said(tmp_path, pair):
    images(tmp_path)
    cells = {"patient_id": lambda i: {0: pair[0], 7: pair[1]}.get(i, f"q{i}")}
    said = f"Ids that are one are taken as one: patient_id {pair[0]!r} and {pair[1]!r}."
    text = refusal(listed(tmp_path, text_of(**cells)))
    assert f"1 patient(s) have images in two parts of split: {pair[0]}." in text and said in text
    own = opened(listed(tmp_path, text_of(n=40, **cells).replace(",split,", ",part,", 1)), task="x", cache="")
    assert own.notes[0] == said and own.table["patient_id"].nunique() == 39
    of_both = own.table[own.table["image_id"].isin(["i0", "i7"])]
    assert of_both["patient_id"].tolist() == [pair[0]] * 2 and of_both["split"].nunique() == 1
    twice = refusal(listed(tmp_path, text_of(image_id=cells["patient_id"])))
    assert f"1 image_id(s) occur more than once: {pair[0]} in rows 2, 9" in twice


def test_attributes_keep_type_and_text(tmp_path):
    images(tmp_path)
    kept = {
        "ward": ["007", "1", "", "12", "1", "1", "1", "1"],
        "scanner": ["1", "2", "", "1", "2", "1", "2", "1"],
        "none": ["nan", "NA", "None", "", "null", "inf", "1", "x"],
        "dose": ["0.1", "1e-09", "", "2.0", "3.25", "4.0", "5.0", "6.0"],
        "icu": ["True", "False", "", "True", "True", "True", "True", "True"],
        "phone": ["+5", "12345678901234567890", "1", "1", "1", "1", "1", "1"],
        "site": ["Ulm ", "Ulm", " Ulm", "Köln", "a b", "x", "x", "x"],
    }
    own = opened(listed(tmp_path, text_of(**{n: cells.__getitem__ for n, cells in kept.items()})), task="x", cache="")
    tables.write_csv(tmp_path / "kept.csv", own.table)
    back = tables.read_csv(tmp_path / "kept.csv")
    pd.testing.assert_frame_equal(back, own.table)
    for name, cells in kept.items():
        assert own.table[name].astype(str).fillna("").tolist() == [cell.strip() for cell in cells], name


def test_a_table_that_was_written_is_read_back_as_it_was(tmp_path):
    frame = pd.DataFrame(rows_of()[1:], columns=rows_of()[0]).astype({"label": int})
    frame["patient_id"] = ["NA", "nan", "007", "12", "12.0", "P", "p", 'a "b", c\nd']
    frame["site"] = ["x ", "", None, "y", "null", "é", "1", "1.0"]
    tables.write_csv(tmp_path / "kept.csv", frame)
    back = tables.read_csv(tmp_path / "kept.csv")
    assert back["patient_id"].tolist() == frame["patient_id"].tolist()
    assert back["site"].fillna("").tolist() == frame["site"].fillna("").tolist()
    tables.write_csv(tmp_path / "kept.csv", frame.assign(**{"a;b;c;d;e;f;g;h;i": "j;k"}))
    assert set(tables.read_csv(tmp_path / "kept.csv")["a;b;c;d;e;f;g;h;i"]) == {"j;k"}


def test_image_files_may_be_called_anything(tmp_path):
    names = ["a b%20.png", "#1 & 'two'?.png", '"q" [x];$HOME.png', "Łódź é.png"]
    for name in names:
        (tmp_path / name).touch()
    table = pd.DataFrame({"image_id": list("abcd"), "path": names, "patient_id": list("pqrs")})
    table["label"], table["split"] = [1, 0, 1, 0], ["dev", "dev", "test", "test"]
    table.to_csv(tmp_path / "mine.csv", index=False)
    own = opened(tmp_path / "mine.csv", task="x", cache="")
    assert own.table["path"].tolist() == [str(tmp_path / name) for name in names] and own.notes == []


def test_a_name_that_a_mac_decomposed_is_found_and_said(tmp_path):
    rows = ROWS.replace("a.png", "\u00e4.png").replace("b.png", "b\u00e9/b.png")
    for name in ("a\u0308.png", "be\u0301/b.png", "c.png", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    own = opened(listed(tmp_path, HEADER + rows), task="x", cache="")
    assert own.table["path"].tolist()[:2] == [str(tmp_path / "a\u0308.png"), str(tmp_path / "be\u0301/b.png")]
    assert own.notes == ["2 image files are named in other Unicode letters than in the table; taken as meant."]
