"""The answer check: what counts as having said a stored answer, and above all what does not."""

from __future__ import annotations

import string
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inhouse.memory.check import MOST_WORDS_BESIDE, admits, kind_of, only_says, says

KINDS = [
    ("Berlin", "text"),
    ("12 Main Street", "text"),
    ("anna2@example.org", "text"),
    ("From Monday to Friday", "text"),
    ("10 to 12", "text"),
    ("12", "number"),
    ("-4.5 °C", "number"),
    ("$1,250.00", "number"),
    ("1.250,00 €", "number"),
    ("12 per cent", "number"),
    ("3 months", "number"),
    ("1.2 million dollars", "number"),
    ("2021-03-04", "date"),
    ("March 4th, 2021", "date"),
    ("4 March 2021", "date"),
    ("25/03/2021", "date"),
    ("04/03/2021", "code"),
    ("QX-1234", "code"),
    ("007", "code"),
    ("1234567890123456", "code"),
    ("+49 30 1234567", "code"),
    ("B2B", "code"),
    ("v1.2.3", "code"),
    ("10:30 am", "code"),
]


@pytest.mark.parametrize(("answer", "kind"), KINDS)
def test_an_answer_shows_how_it_is_compared(answer: str, kind: str) -> None:
    assert kind_of(answer) == kind


SAID = [
    ("Berlin", "It is in BERLIN."),
    ("Berlin", "Berlin's"),
    ("Berlin.", "  berlin "),
    ("O'Brien & Sons", "That is O’Brien  &\nSons!"),
    ("the red one", "“The Red One”"),
    ("Ｂｅｒｌｉｎ", "Berlin"),
    ("Straße 5", "strasse 5"),
    ("C++", "It is written in C++."),
    ("12 Main Street", "They live at 12 main street, I think."),
    ("12", "It takes 12 days."),
    ("12", "12."),
    ("12", "a 12-month contract"),
    ("12", "(12)"),
    ("12", "12.0 km"),
    ("1250", "$1,250.00"),
    ("$1,250.00", "It costs 1250 dollars."),
    ("$1,250.00", "USD 1 250"),
    ("$1,250", "US$1'250"),
    ("$5,000,000", "$5m"),
    ("1.250,00 €", "EUR 1,250"),
    ("1.2 million", "1,200,000 people"),
    ("12%", "It is 12 per cent."),
    ("12 km", "12km"),
    ("12 km", "about 12 kilometres"),
    ("3 months", "a 3-month period"),
    ("-5", "minus? No: −5 degrees"),
    ("1,25", "1.25"),
    ("2021-03-04", "on March 4, 2021."),
    ("2021-03-04", "It was the 4th of March 2021"),
    ("2021-03-04", "Thursday 4 March, 2021"),
    ("2021-03-25", "25/03/2021"),
    ("2021-03-25", "03-25-2021"),
    ("March 4, 2021", "2021/03/04"),
    ("Mar 4 2021", "Mar. 4, 2021"),
    ("2021-04-04", "04/04/2021"),
    ("04/03/2021", "On 04/03/2021."),
    ("QX-1234", "The code is qx 1234."),
    ("QX-1234", "QX1234"),
    ("QX1234", "QX-1234"),
    ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00"),
    ("+49 30 1234567", "Call +49 30 1234567."),
    ("10:30 am", "at 10:30AM"),
    ("007", "Agent 007"),
]


@pytest.mark.parametrize(("answer", "text"), SAID)
def test_it_is_said_in_other_ways_of_writing(answer: str, text: str) -> None:
    assert says(text, answer)


NOT_SAID = [
    ("Berlin", "Berliner"),
    ("Berlin", "East-Berlin"),
    ("Berlin", "berlin.example.org"),
    ("Anna", "Annas"),
    ("Anna", "Anna-Lena Smith"),
    ("Anna", "anna@example.org"),
    ("Brien", "O'Brien"),
    ("C", "C++"),
    ("A", "A+"),
    ("example.org", "www.example.org"),
    ("Berlin", ""),
    ("", "anything"),
    ("12", "125"),
    ("12", "12.5"),
    ("12", "12,5"),
    ("12", "1.12"),
    ("12", "112"),
    ("12", "12th"),
    ("12", "A12"),
    ("12", "AB-12"),
    ("12", "12-B"),
    ("12", "12:30"),
    ("12", "10-12"),
    ("12", "12/07/2021"),
    ("12", "12%"),
    ("12", "12 percent"),
    ("12", "12½"),
    ("12", "twelve"),
    ("12", "-12"),
    ("12", "12 000"),
    ("12", "12 million"),
    ("1250", "1.250"),
    ("$1,250", "1250"),
    ("$1,250", "1250 euros"),
    ("$5", "$5m"),
    ("12%", "12"),
    ("12 km", "12"),
    ("12 km", "12 miles"),
    ("12 m", "12 m²"),
    ("2021-03-04", "2021-03-05"),
    ("2021-03-04", "March 14, 2021"),
    ("2021-03-04", "March 2021"),
    ("2021-03-04", "04/03/2021"),
    ("04/03/2021", "March 4, 2021"),
    ("2021-03-04", "12021-03-04"),
    ("2021-03-04", "2021-03-041"),
    ("QX-1234", "QX-12345"),
    ("QX-1234", "AQX-1234"),
    ("QX-1234", "QX-1234-B"),
    ("QX-1234", "QX-1235"),
    ("AB1", "a b1"),
    ("007", "7"),
    ("7", "007"),
    ("1234", "AB-1234"),
]


@pytest.mark.parametrize(("answer", "text"), NOT_SAID)
def test_what_only_looks_like_it_is_not_said(answer: str, text: str) -> None:
    assert not says(text, answer)


def test_a_given_kind_counts_and_one_that_does_not_fit_is_compared_as_text() -> None:
    assert says("a b c 1", "ABC1", kind="code") is False
    assert says("12.50", "12.5", kind="number") and not says("12.50", "12.5", kind="text")
    assert says("There are a dozen.", "a dozen", kind="number")
    assert says("Easter Monday", "Easter Monday", kind="date")


@pytest.mark.parametrize(
    "text", ["I don't know.", "I don’t know", "Sorry, I do not know that.", "i don't know!"]
)
def test_a_text_that_admits_it_does_not_know_is_seen(text: str) -> None:
    assert admits(text)


@pytest.mark.parametrize("text", ["I don't know, maybe Berlin.", "Berlin", "", "I know."])
def test_a_text_that_says_more_admits_nothing(text: str) -> None:
    assert not admits(text)


ONLY_SAID = [
    ("Berlin", "It is in BERLIN."),
    ("Berlin", "Berlin. I do not know more."),
    ("12", "It takes 12 days."),
    ("$1,250.00", "It costs 1250 dollars."),
    ("2021-03-04", "It was on March 4, 2021."),
    ("Not before noon", "It opens not before noon."),
    ("no", "No."),
    ("Use a knife instead. Never a saw.", "Use a knife instead. Never a saw!"),
    ("NO-12", "The code is NO12."),
    ("Nora", "It is Nora, known for notes."),
    ("12", "word " * MOST_WORDS_BESIDE + "12"),
]


@pytest.mark.parametrize(("answer", "text"), ONLY_SAID)
def test_a_plain_statement_only_says_its_answer(answer: str, text: str) -> None:
    assert only_says(text, answer)


NOT_ONLY_SAID = [
    ("Berlin", "It is not Berlin."),
    ("Berlin", "Berlin isn’t it."),
    ("Berlin", "Paris, and never Berlin!"),
    ("Berlin", "It is Berlin. Or rather, it is east of Berlin."),
    ("Smith", "It is not Dr. Smith."),
    ("12", "It is 13, not 12."),
    ("12", "It is 12 no more."),
    ("12", "Neither 12 nor 13."),
    ("NO-12", "It is not NO12."),
    ("Not before noon", "It is not true that it opens not before noon."),
    ("2021-03-04", "It was later instead of on March 4, 2021."),
    ("12", "word " * (MOST_WORDS_BESIDE + 1) + "12"),
]


@pytest.mark.parametrize(("answer", "text"), NOT_ONLY_SAID)
def test_a_denial_and_a_long_text_say_more_than_the_answer(answer: str, text: str) -> None:
    assert says(text, answer), "it is said, and more"
    assert not only_says(text, answer)


def test_what_is_not_said_is_not_only_said() -> None:
    assert not only_says("Paris", "Berlin") and not only_says("", "")


words = st.text(string.ascii_letters, min_size=1, max_size=8)
phrases = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(phrases, phrases, phrases)
def test_an_answer_is_found_between_other_words(before: str, answer: str, after: str) -> None:
    for text in (
        answer,
        f"{before} {answer}",
        f"{answer}, {after}",
        f"{before}: “{answer.upper()}”. {after}",
    ):
        assert says(text, answer)


@given(phrases, words)
def test_an_answer_that_goes_on_is_another(answer: str, more: str) -> None:
    assert not says(answer + more, answer) or answer.casefold() in more.casefold()
    assert not says(more + answer, answer) or answer.casefold() in more.casefold()


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_number_is_said_by_itself_alone(one: int, other: int) -> None:
    ways = (
        f"{other}",
        f"{other:,}",
        f"{other:,}.00",
        f"{other:,}".replace(",", " "),
        f"{other:,}".replace(",", "'"),
    )
    for way in ways:
        assert says(f"It is {way} km.", str(one)) == (one == other)
        assert says(f"It is {way} km.", f"{one:,} kilometres") == (one == other)


@given(st.integers(1, 9999), st.integers(1, 9), st.integers(0, 9))
def test_more_digits_make_another_number(number: int, first: int, last: int) -> None:
    longer = (
        "{n}{b}",
        "{a}{n}",
        "{n}.{b}5",
        "{n},{b}5",
        "{a}.{n}",
        "{n}-{b}",
        "{b}-{n}",
        "{n}:{b}",
        "x{n}",
        "{n}x",
    )
    for form in longer:
        assert not says(f"It is {form.format(n=number, a=first, b=last)}.", str(number))


days = st.integers(0, 36_000).map(lambda n: date(1950, 1, 1) + timedelta(n))
WAYS = ("%Y-%m-%d", "%B %d, %Y", "%d %B %Y", "%b %d %Y", "%Y/%m/%d")


@given(days, days, st.sampled_from(WAYS), st.sampled_from(WAYS))
def test_a_day_is_said_by_itself_alone(one: date, other: date, way: str, said: str) -> None:
    assert says(f"It was on {other.strftime(said)}.", one.strftime(way)) == (one == other)


@given(days)
def test_a_day_that_can_be_read_two_ways_says_no_day(day: date) -> None:
    assume(day.day <= 12 and day.day != day.month)
    assert not says(day.strftime("%d/%m/%Y"), day.isoformat())
    assert says(day.strftime("%d/%m/%Y"), day.strftime("%d/%m/%Y"))


codes = st.text(string.ascii_uppercase + string.digits, min_size=3, max_size=32).filter(
    lambda code: any(c.isdigit() for c in code) and any(c.isalpha() for c in code)
)


@given(codes, st.data())
def test_one_other_character_makes_another_code(code: str, data: st.DataObject) -> None:
    assert says(f"The code is {code.lower()}.", code, "code")
    at = data.draw(st.integers(0, len(code) - 1))
    other = code[:at] + data.draw(st.sampled_from(string.ascii_uppercase)) + code[at + 1 :]
    assert says(f"The code is {other}.", code, "code") == (code == other)
    assert not says(code + "7", code, "code")
    assert not says("7" + code, code, "code")


@given(st.text(max_size=60), st.text(max_size=30))
def test_no_text_upsets_it_and_every_answer_says_itself(text: str, answer: str) -> None:
    assert isinstance(says(text, answer), bool)
    assert says(text, answer) or not only_says(text, answer)
    if answer.strip() and says(answer, answer, "text") is False:
        assert not answer.isalnum()
