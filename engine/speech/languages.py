"""The languages that Whisper knows, by its codes."""

from __future__ import annotations

from engine.errors import InvalidGeneration

ENGLISH = "en"

_TABLE = """
en:English zh:Chinese de:German es:Spanish ru:Russian ko:Korean fr:French ja:Japanese pt:Portuguese tr:Turkish pl:Polish
ca:Catalan nl:Dutch ar:Arabic sv:Swedish it:Italian id:Indonesian hi:Hindi fi:Finnish vi:Vietnamese he:Hebrew
uk:Ukrainian el:Greek ms:Malay cs:Czech ro:Romanian da:Danish hu:Hungarian ta:Tamil no:Norwegian th:Thai ur:Urdu
hr:Croatian bg:Bulgarian lt:Lithuanian la:Latin mi:Maori ml:Malayalam cy:Welsh sk:Slovak te:Telugu fa:Persian lv:Latvian
bn:Bengali sr:Serbian az:Azerbaijani sl:Slovenian kn:Kannada et:Estonian mk:Macedonian br:Breton eu:Basque is:Icelandic
hy:Armenian ne:Nepali mn:Mongolian bs:Bosnian kk:Kazakh sq:Albanian sw:Swahili gl:Galician mr:Marathi pa:Punjabi
si:Sinhala km:Khmer sn:Shona yo:Yoruba so:Somali af:Afrikaans oc:Occitan ka:Georgian be:Belarusian tg:Tajik sd:Sindhi
gu:Gujarati am:Amharic yi:Yiddish lo:Lao uz:Uzbek fo:Faroese ht:Haitian ps:Pashto tk:Turkmen nn:Nynorsk mt:Maltese
sa:Sanskrit lb:Luxembourgish my:Myanmar bo:Tibetan tl:Tagalog mg:Malagasy as:Assamese tt:Tatar haw:Hawaiian ln:Lingala
ha:Hausa ba:Bashkir jw:Javanese su:Sundanese yue:Cantonese
"""
LANGUAGES = dict(pair.split(":") for pair in _TABLE.split())
"""Every code with its English name. Models before large-v3 do not know `yue`."""

_OTHER_NAMES = {
    "burmese": "my",
    "castilian": "es",
    "farsi": "fa",
    "flemish": "nl",
    "haitian creole": "ht",
    "jv": "jw",
    "mandarin": "zh",
    "moldavian": "ro",
    "nb": "no",
    "norwegian bokmål": "no",
    "norwegian nynorsk": "nn",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}
_CODES = {**{name.casefold(): code for code, name in LANGUAGES.items()}, **_OTHER_NAMES}

WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "km", "bo", "yue"})
"""Languages whose sentences are written without spaces between them."""


def code_of(language: str) -> str:
    """Whisper's code of a language: from a code, a tag with a region such as `en-US`, or an English name.

    Raises: `InvalidGeneration`, which lists the languages.
    """
    wanted = language.strip().casefold()
    for known in (wanted, wanted.replace("_", "-").partition("-")[0]):
        if known in LANGUAGES:
            return known
        if known in _CODES:
            return _CODES[known]
    listed = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    raise InvalidGeneration(f"There is no language {language[:60]!r} for speech models. Known: {listed}.")
