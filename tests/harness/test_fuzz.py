"""Any bytes as a profile, table, picture, scan, read, checkpoint: a result or one sentence, never another error."""

import fuzz
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcematters.errors import StudyError
from sourcematters.sources import keras_weights

EACH = 60  # of a kind here; as many as one likes by the script


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_what_nothing_is_wrong_with_gives_a_result(kind, tmp_path):
    make, name, take = fuzz.KINDS[kind]
    for content in make():
        (tmp_path / name).write_bytes(content)
        if kind == "Keras file":
            with pytest.raises(StudyError, match="does not hold Keras's weights"):
                take(tmp_path / name)
        else:
            assert take(tmp_path / name) is not None


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_damaged_inputs_give_a_result_or_a_sentence(kind):
    found = [fuzz.trial(kind, number)[0] for number in range(EACH)]
    assert set(found) <= {"result", "refused"}, found
    assert len(set(map(bytes, (fuzz.damaged(fuzz.sound(kind)[0], fuzz.random.Random(n)) for n in range(9))))) == 9


@pytest.mark.parametrize("number", [420, 898, 2662])
def test_what_broke_torchs_own_reader_of_checkpoints_is_one_sentence(number):
    assert fuzz.trial("weights", number)[0] == "refused"


def test_what_broke_hdf5_is_one_sentence(monkeypatch):
    monkeypatch.setattr(keras_weights, "TRY_SECONDS", 5)  # it reads 2217 for ever
    assert [fuzz.trial("Keras file", number)[0] for number in (1494, 2217, 2725, 9606)] == ["refused"] * 4


letters = st.text(alphabet=st.sampled_from("ab01:,;.-[]{}&*#'\"!|>%@? \n\t\r\0é\ud800\ufeff\u2028"), max_size=60)
words = st.sampled_from(
    ["size", "data", "task", "p_art", "tag", "ct", "weights", "sources", "slurm", "image_id", "path", "patient_id",
     "label", "split", "sex", "0", "1", "nan", "null", "1e9", "-1", "dev", "test"]
)  # fmt: skip
texts = st.lists(st.one_of(letters, words, st.sampled_from([": ", ",", "\n", "\n  ", "- "])), max_size=30).map("".join)


@pytest.mark.parametrize("kind", ["profile", "table", "XML"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts)
def test_any_text_gives_a_result_or_a_sentence(kind, tmp_path, text):
    _, name, take = fuzz.KINDS[kind]
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        take(tmp_path / name)
    except StudyError as error:
        assert str(error).strip()


@pytest.mark.parametrize("kind", fuzz.KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300))
def test_any_bytes_give_a_result_or_a_sentence(kind, tmp_path, content):
    _, name, take = fuzz.KINDS[kind]
    (tmp_path / name).write_bytes(content)
    try:
        take(tmp_path / name)
    except StudyError as error:
        assert str(error).strip()
