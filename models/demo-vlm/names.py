"""Names for people who introduce themselves: real ones, invented ones and plain strings.

A model that only ever saw real names would memorise them. Most names here are invented at random, so that the one way
to get them right is to copy them from the conversation.
"""

from __future__ import annotations

import random
import string

REAL_NAMES = tuple(
    """
    Aaron Abigail Adam Adele Adrian Agnes Ahmed Aisha Alan Albert Alejandro Alex Alexander Alfred Alice Alicia
    Amanda Amber Amelia Amir Amy Ana Anastasia Andre Andrea Andrew Angela Anita Anna Anne Anthony Anton Antonio
    Arthur Asha Astrid Audrey Aurora Ava Barbara Beatrice Ben Benjamin Bernard Beth Bianca Bill Bjorn Bob Boris
    Brandon Brian Bruno Camila Carl Carla Carlos Carmen Carol Caroline Catherine Cecilia Charles Charlie
    Charlotte Chen Chloe Chris Clara Claire Claude Colin Connor Craig Cynthia Daisy Daniel Daria Dave David Dean
    Deborah Denise Dennis Derek Diana Diego Dimitri Dominic Donald Donna Dora Doris Dorothy Douglas Dylan Edgar
    Edith Edward Elaine Elena Eli Elias Elisa Ella Ellen Elliot Elsa Emil Emily Emma Eric Erika Ernest Esther
    Ethan Eva Eve Evelyn Fatima Felix Fiona Florence Frances Francis Frank Fred Freya Gabriel Gary Gavin George
    Gerald Gina Giovanni Gloria Gordon Grace Greg Greta Gustav Guy Hannah Hans Harold Harriet Harry Hassan Hazel
    Heather Heidi Helen Henrik Henry Herbert Hiroshi Holly Hugo Ian Ibrahim Ida Igor Ines Ingrid Irene Iris
    Isaac Isabel Ivan Ivy Jack Jacob Jade James Jan Jane Janet Jason Jasmine Javier Jean Jeff Jennifer Jeremy
    Jerry Jesse Jessica Jim Joan Joanna Joe Joel Johan John Jonas Jonathan Jordan Jose Joseph Joshua Joy Juan
    Judith Judy Julia Julian Julie June Jurgen Karen Karl Kate Katherine Kathleen Keith Kelly Ken Kenji Kevin
    Khalid Kim Kofi Kurt Kyle Lara Lars Laura Lauren Laurence Lea Leah Lee Leila Leo Leon Leonard Lewis Liam
    Lily Linda Lisa Logan Lola Louis Louise Lucas Lucia Lucy Luigi Luis Luke Luna Lydia Mabel Madison Magnus
    Malik Manuel Marco Margaret Maria Marie Marion Mark Martha Martin Mary Mateo Matthew Maud Max Maya Megan Mei
    Melissa Mia Michael Michelle Miguel Mike Mila Milan Miles Miriam Mohammed Mona Monica Morgan Nadia Naomi
    Natalie Nathan Neil Nelly Nicholas Nick Nicole Nigel Nikolai Nina Noah Noel Nora Norman Olaf Olga Oliver
    Olivia Omar Oscar Otto Owen Paolo Patricia Patrick Paul Paula Pedro Peggy Penelope Peter Petra Philip Phoebe
    Pierre Priya Quentin Rachel Ralph Ravi Ray Rebecca Rhys Richard Rita Rob Robert Roberto Robin Roger Roland
    Rosa Rose Ross Roy Ruby Rupert Russell Ruth Ryan Sabrina Sally Sam Samantha Samuel Sandra Sara Sarah Saul
    Scott Sean Sebastian Serena Sergei Seth Sharon Sheila Simon Sofia Sonia Sophie Stanley Stella Stephen Steve
    Stuart Sunita Susan Sven Sylvia Tamara Tanya Tara Ted Teresa Thea Theo Thomas Tim Tina Todd Tom Tony Tracy
    Trent Ugo Ulrich Uma Ursula Valerie Vanessa Vera Veronica Victor Victoria Vikram Vincent Viola Violet
    Virginia Vivian Vladimir Walter Wanda Warren Wei Wendy Wilfred William Wolfgang Xavier Yara Yasmin Yuki
    Yusuf Yves Yvonne Zachary Zara Zelda Zoe
    """.split()  # noqa: SIM905 (hundreds of quotes would hide the names)
)

_ONSETS = "b c d f g h j k l m n p q r s t v w x y z br ch cl dr fl gr kr ph pr qu sh sl st str th tr vr wh zh".split()  # noqa: SIM905
_VOWELS = "a e i o u y ai ea ee ia ie io oa oo ou ue".split()  # noqa: SIM905
_CODAS = ["", "", "", *"b d f g k l m n p r s t v x z ck ld ll mp nd ng nk rd rk rn rt sh ss st th tz".split()]  # noqa: SIM905
_ACCENTED = "áàâäãåçéèêëíïñóôöøúüý"


def random_name(rng: random.Random) -> str:
    """A name; about one in five is real, the others are made of syllables, letters or letters and digits."""
    style = rng.random()
    if style < 0.20:
        return _recased(rng, rng.choice(REAL_NAMES))
    if style < 0.66:
        return _recased(rng, _syllables(rng))
    if style < 0.84:
        return _recased(rng, "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10))))
    if style < 0.88:
        return _syllables(rng).capitalize() + rng.choice(("", "_", "-")) + str(rng.randint(0, 9999))
    if style < 0.91:
        letters = list(_syllables(rng))
        letters[rng.randrange(len(letters))] = rng.choice(_ACCENTED)
        return "".join(letters).capitalize()
    if style < 0.94:
        return f"{_syllables(rng).capitalize()}-{_syllables(rng).capitalize()}"
    first = rng.choice(REAL_NAMES) if rng.random() < 0.4 else _syllables(rng).capitalize()
    return f"{first} {_syllables(rng).capitalize()}"


def random_word(rng: random.Random) -> str:
    """An invented lower-case word."""
    return _syllables(rng)


def _syllables(rng: random.Random) -> str:
    count = rng.choices((1, 2, 3, 4), weights=(20, 45, 27, 8))[0]
    word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
    return word[1:] if rng.random() < 0.1 and len(word) > 3 else word


def _recased(rng: random.Random, name: str) -> str:
    style = rng.random()
    if style < 0.86:
        return name[0].upper() + name[1:]
    if style < 0.93:
        return name.lower()
    if style < 0.97:
        return name.upper()
    return "".join(rng.choice((letter.lower(), letter.upper())) for letter in name)
