import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.person_description import describe


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("woman in her forties, glasses", Wishes(glasses=True, female=True, age=45.0)),
        ("a man in his early sixties", Wishes(female=False, age=62.0)),
        ("man in his late-fifties", Wishes(female=False, age=58.0)),
        ("Woman, 30 years old, no glasses", Wishes(glasses=False, female=True, age=30.0)),
        ("30-year-old man with dark skin", Wishes(female=False, age=30.0, tone=0)),
        ("dark-skinned woman in her 20s", Wishes(female=True, age=25.0, tone=0)),
        ("very light skin", Wishes(tone=5)),
        ("an elderly lady without spectacles", Wishes(glasses=False, female=True, age=72.0)),
        ("boy", Wishes(female=False, age=9.0)),
        ("15 years old girl", Wishes(female=True, age=15.0)),
        ("a smiling man", Wishes(female=False, smile=True)),
        ("woman with a smile", Wishes(female=True, smile=True)),
        ("man without a smile, not smiling", Wishes(female=False, smile=False)),
        ("serious", Wishes(smile=False)),
        ("unsmiling woman, no glasses", Wishes(glasses=False, female=True, smile=False)),
        ("girl with a serious expression", Wishes(female=True, age=9.0, smile=False)),
        ("someone aged 50 who is wearing glasses", Wishes(glasses=True, age=50.0)),
    ],
)
def test_descriptions_say_what_they_say(text, wishes):
    assert describe(text) == wishes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("woman with blond hair", "'blond'"),
        ("a laughing man", "'laughing'"),
        ("not serious", "'not'"),
        ("smiling man, serious", "two things of the smile"),
        ("dark", "'dark'"),  # of what?
        ("very olive skin", "'very'"),
        ("", "says nothing"),
        ("a person", "says nothing"),
        ("man, woman", "two things of the sex"),
        ("woman in her forties, 20 years old", "two things of the age"),
        ("glasses, no glasses", "two things of the glasses"),
    ],
)
def test_what_is_not_known_is_named(text, named):
    with pytest.raises(UserError, match=named):
        describe(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        assert isinstance(describe(text), Wishes)
    except UserError as error:
        assert "--person" in str(error)
