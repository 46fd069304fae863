"""Normalises answers, so that answers with the same meaning become the same text.

Each function includes the one before it: `unify_characters` unifies characters that differ only in their code point,
`unwrap` also removes Markdown and LaTeX around an answer, `undecorate` also removes quotes and a full stop, and
`text_key` also ignores letter case, and white space at punctuation and units.

Texts with different meanings stay different: superscripts ("10²" isn't "102"), similar letters of other alphabets,
combining strokes, mathematical alphabets and circled digits are kept.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

_SAME_MEANING: Final = frozenset(
    {"<wide>", "<narrow>", "<small>", "<vertical>", "<noBreak>", "<compat>"}
    | {"<initial>", "<medial>", "<final>", "<isolated>"}
)
"""Tags of Unicode's compatibility mappings that change only the shape of a character.

Other tags change the meaning: <super>, <sub>, <fraction>, <circle>, <square> and <font>."""
_SAME_CHARACTER: Final = str.maketrans(
    dict.fromkeys("‐‑‒–−", "-")
    | dict.fromkeys("‘’‚‛ʼ′´", "'")
    | dict.fromkeys("“”„‟″〝〞〟", '"')
    | {"⁄": "/", "∕": "/", "∶": ":", "˚": "°", "⋅": "·", "∙": "·"}
)
_EM_DASH: Final = re.compile(r"[—―](?!\s?[\d.])")  # before a number it may be a bullet, not a minus
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202c\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff]"
    "|(?<![\u2190-\u2bff\U0001f000-\U0001faff])\u200d"  # between emojis the joiner makes another emoji
)
_FRACTION: Final = re.compile(r"(?P<whole>(?<=\d)\s?)?(?P<fraction>[¼-¾⅐-⅞])(?!\d)")
_SUPERSCRIPT: Final = re.compile(r"[⁰¹²³⁴-⁹⁺⁻⁽⁾ⁱⁿ]+")
_SUBSCRIPT: Final = re.compile(r"[₀-₉₊₋₍₎]+")

_TEXT_COMMAND: Final = (
    r"\\(?:text|textrm|textbf|textit|textsf|texttt|mathrm|mathbf|mathit|mathsf|operatorname|mbox)\s*"
    r"\{(?P<inner>[^{}]*)\}"
)
_TEXT: Final = re.compile(_TEXT_COMMAND)
_LATEX: Final = (
    (re.compile(r"\\(?:left|right)(?=\s*[()\[\]|.\\])"), ""),
    (re.compile(r"\\[,;: ]|\\q?quad(?![A-Za-z])"), " "),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:lor|vee)(?![A-Za-z])|∨"), " or "),
    (re.compile(r"\\([%$#&_{}])"), r"\1"),
)
"""Regular expressions of LaTeX with the plain text that replaces it, in the order of the replacements."""
_DEGREE: Final = re.compile(r"(?:\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z]))\s*")
_WITH_UNIT: Final = re.compile(r"^\s*\$([^$\s]+)\$(?=\s*[^\W\d_]\S*$)|(?<=\d)\$(\^[^$\s]+)\$(?!\d)")
"""Formula before a unit, or degree sign after a number."""
_SCRIPT: Final = re.compile(r"(\^|_(?=\d))(\d(?!\d)|[A-Za-z](?![A-Za-z]))")
_EMPHASIS: Final = re.compile(r"(?<![\w*])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![\w*])")
_WRAPPED: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$(?P<inner>[^$]+)\$\$",
        r"\$(?P<inner>[^$]+)\$",
        r"\\\((?P<inner>(?:(?!\\[()]).)+)\\\)",
        r"\\\[(?P<inner>(?:(?!\\[\[\]]).)+)\\\]",
        r"\*\*(?P<inner>[^*]+|\*[^*]+\*)\*\*",
        r"\*(?=\S)(?P<inner>[^*]+)(?<=\S)\*",
        r"「(?P<inner>[^「」]+)」",
        r"『(?P<inner>[^『』]+)』",
        r"《(?P<inner>[^《》]+)》",
        r"〈(?P<inner>[^〈〉]+)〉",
        r"【(?P<inner>[^【】]+)】",
        r"«(?P<inner>[^«»]+)»",
        r"‹(?P<inner>[^‹›]+)›",
        _TEXT_COMMAND,
    )
)
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*\{")
_QUOTES: Final = " \"'`"
_LAYERS: Final = 8
"""Maximum number of nested decorations that are removed."""

_SYMBOLS: Final = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥",
    "ne": "≠", "neq": "≠", "approx": "≈", "infty": "∞", "in": "∈", "to": "→", "rightarrow": "→", "angle": "∠",
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "phi": "φ", "omega": "ω",
}  # fmt: skip
"""Characters of LaTeX commands in lower case, for `text_key`."""
_SYMBOL: Final = re.compile(r"\\([a-z]+)\s*")
_SIZE: Final = re.compile(r"(?<=\d)(?<!\b0)\s*[x×]\s*(?=\d)")
_UNITS: Final = {
    name: symbol
    for symbol, names in {
        "°": "degrees degree deg",
        "%": "percent",
        "mm": "millimeters millimeter millimetres millimetre",
        "cm": "centimeters centimeter centimetres centimetre",
        "m": "meters meter metres metre",
        "km": "kilometers kilometer kilometres kilometre",
        "mg": "milligrams milligram",
        "g": "grams gram",
        "kg": "kilograms kilogram",
        "ml": "milliliters milliliter millilitres millilitre",
        "l": "liters liter litres litre",
        "in": "inches inch",
        "ft": "feet foot",
        "ms": "milliseconds millisecond",
        "s": "seconds second secs sec",
        "min": "minutes minute mins",
        "h": "hours hour hrs hr",
    }.items()
    for name in names.split()
}
"""Symbols of units by name."""
_UNIT: Final = re.compile(rf"(?<=\d)({'|'.join(_UNITS)})(?![^\W_])")
_MEGA: Final = re.compile(r"(?<=\d)\s*M(?=(?:Wh?|Hz|e?V|A|Pa|J|N|Ω)(?![^\W_]))")
"""Prefix "mega", which differs from "milli" only in letter case."""
_THOUSANDS: Final = re.compile(r"(?<=\d)\s*,\s+(?=\d{3}(?!\d))")
_TIGHT: Final = re.compile(r"\s*([,;:/=<>≤≥≠+()\[\]{}|&%°!?])\s*")
_DASH: Final = re.compile(r"\s+-\s+")
_DOT: Final = re.compile(r"(?<=[^\W\d_])\.\s+(?=\w)")
_BEFORE_UNIT: Final = re.compile(r"(?<=\d)\s+(?=[^\W\d_]|[\"'$€£¥])")
_CJK_SPACE: Final = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff])\s+|\s+(?=[\u3040-\u30ff\u3400-\u9fff])")


def unify_characters(text: str) -> str:
    """Replaces characters with equal meaning by a single code point.

    These are full-width and half-width forms, ligatures, composed and decomposed letters, hyphens and the minus sign,
    and quotes and apostrophes. Invisible characters are removed. White space becomes ordinary spaces and line breaks.
    """
    if text.isascii():
        return text
    text = _EM_DASH.sub("-", _INVISIBLE.sub("", text)).translate(_SAME_CHARACTER)
    return unicodedata.normalize("NFC", "".join(map(_unified, text)).translate(_SAME_CHARACTER))


@lru_cache(maxsize=8192)
def _unified(character: str) -> str:
    if character.isspace():
        return "\n" if character in "\u2028\u2029\x85" else character if character.isascii() else " "
    mapping = unicodedata.decomposition(character)
    if mapping.partition(" ")[0] not in _SAME_MEANING:
        return character
    plain = unicodedata.normalize("NFKC", character)
    return character if " " in plain else plain


@lru_cache(maxsize=256)  # all rules normalise the same answer and references
def undecorate(text: str) -> str:
    r"""Returns an answer in plain characters, without the decoration around it; letter case stays.

    Removed are `\boxed{}`, `$..$`, `\(..\)`, `\[..\]`, `**..**`, `*..*`, backticks, `\text{}`, quotes, one full
    stop at the end, and extra white space. A decoration that doesn't enclose the whole answer stays, except bold type
    and `$..$` around a number or around its degree sign.
    """
    text = _plain_latex(" ".join(unify_characters(text).split()))
    for _ in range(_LAYERS):
        before = text
        text = _without_stop(_without_quotes(text.strip()))
        text = _inner(_without_quotes(text))
        if text == before:
            break
    return " ".join(text.split())


def unwrap(text: str) -> str:
    """Returns an answer in plain characters, without Markdown or LaTeX around it; quotes and a full stop stay.

    Used by rules of benchmarks that compare every character of an answer.
    """
    text = unify_characters(text).strip()
    for _ in range(_LAYERS):
        inner = _inner(text).strip()
        if inner == text:
            break
        text = inner
    return text


def _plain_latex(text: str) -> str:
    if not text.isascii():
        text = _FRACTION.sub(_spelt_fraction, text)
        text = _SUPERSCRIPT.sub(lambda run: f"^{{{_ascii(run[0])}}}", text)
        text = _SUBSCRIPT.sub(lambda run: f"_{{{_ascii(run[0])}}}", text)
        text = re.sub(r"(?<=\d)\s?º", "°", text)
    if "$" in text:
        text = _WITH_UNIT.sub(lambda match: match[1] or match[2], text)
    if "\\" in text or "∨" in text or "{,}" in text:
        text = _DEGREE.sub("°", re.sub(r"~(?=\\)", " ", text))
        for _ in range(_LAYERS):
            text, count = _TEXT.subn(r"\g<inner>", text)
            if not count:
                break
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return _SCRIPT.sub(r"\1{\2}", _EMPHASIS.sub(r"\1", text))


def _spelt_fraction(match: re.Match[str]) -> str:
    space = "" if match["whole"] is None else " "
    return space + unicodedata.normalize("NFKC", match["fraction"]).replace("⁄", "/")


def _ascii(run: str) -> str:
    return unicodedata.normalize("NFKC", run).replace("−", "-")


def _without_quotes(text: str) -> str:
    """Removes quotes around a text; a quote at the end that means inches, feet, minutes or a prime stays."""
    bare = text.lstrip(_QUOTES)
    if bare == text and re.search(r"\d['\"]+$|(?<![A-Za-z])[A-Za-z)]'+$", text):
        return text
    return bare.rstrip(_QUOTES)


def _without_stop(text: str) -> str:
    return text[:-1] if text.endswith((".", "。")) and not text.endswith("..") else text


def _inner(text: str) -> str:
    """Removes one decoration that encloses the whole text; returns other texts unchanged."""
    match = next((match for pattern in _WRAPPED if (match := pattern.fullmatch(text))), None)
    if match:
        return match["inner"]
    start = _BOX.match(text)
    if start and text.endswith("}"):
        depth = 1
        for place in range(start.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                return text[start.end() : place] if place == len(text) - 1 else text
    return text


@lru_cache(maxsize=256)
def fold(text: str) -> str:
    """Returns an answer without decoration and in lower case."""
    return unicodedata.normalize("NFC", undecorate(text).casefold())


@lru_cache(maxsize=256)
def text_key(text: str) -> str:
    """Returns the normal form of a text; texts with equal normal forms are equal answers.

    White space at punctuation, between a number and its unit, and between Chinese or Japanese characters doesn't count,
    and the name of a unit equals its symbol. White space that separates numbers stays: "1, 234" isn't "1,234", "3. 5"
    isn't "3.5" and "1 1/2" isn't "11/2".
    """
    text = fold(_MEGA.sub("mega", undecorate(text)) if "M" in text else text)
    if "\\" in text:
        text = _SYMBOL.sub(lambda match: _SYMBOLS.get(match[1], match[0]), text)
    text = _SIZE.sub("×", text.replace("、", ","))
    if not text.startswith(("[", "(", "{")):
        text = _THOUSANDS.sub("\0", text)  # a list such as "1, 234" must not become the number 1,234
    text = _DOT.sub(".", _DASH.sub("-", _TIGHT.sub(r"\1", text)))
    text = _UNIT.sub(lambda match: _UNITS[match[1]], _BEFORE_UNIT.sub("", _CJK_SPACE.sub("", text)))
    return text.replace("\0", ", ")
