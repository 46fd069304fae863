"""Lists the texts of the reading task, and assigns each to a split.

A text belongs to one split, whatever the seed: data sets drawn with different seeds never leak a test word into each
other's training rows. Texts that read as a text, their own or another one, after the image is turned or mirrored, such
as `689` or `TOM`, aren't used: their images have several right answers, or don't need the tool.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from string import digits

SPLITS = ("train", "val", "test")

_WORD_LIST = """
    ACE ACT ADD AGE AGO AID AIR ALE ALL AND ANT ANY APE APP APT ARC ARE ARK ARM ART ASH ASK ATE AWE AXE BAD BAG BAN BAR
    BAT BAY BED BEE BEG BEN BET BIG BIN BIT BOG BOW BOX BOY BUD BUG BUN BUS BUT BUY CAB CAN CAP CAR CAT COD COG CON COT
    COW CRY CUB CUP CUT DAB DAD DAY DEN DEW DIG DIM DIP DOG DOT DRY DUE DUG DUO EAR EAT EEL EGG ELF ELK ELM END ERA EVE
    EYE FAN FAR FAT FED FEE FEW FIG FIN FIR FIT FIX FLU FLY FOG FOR FOX FRY FUN FUR GAP GAS GEL GEM GET GIG GOT GUM GUT
    GUY GYM HAD HAS HAT HEN HER HEY HID HIP HIS HOG HOP HOT HUB HUG HUT ICE ILL INK INN ION ITS IVY JAM JAR JAW JAY JET
    JOB JOG JOY JUG KEY KID KIN KIT LAB LAD LAP LAW LAY LEG LET LID LIP LIT LOG LOT LOW MAD MAN MAP MAT MAY MEN MET MID
    MIX MOP MUD MUG NAP NET NEW NIL NOD NOR NOT NUT OAK OAR OAT ODD OFF OIL OLD ONE ORB ORE OUR OUT OWL OWN PAD PAL PAN
    PAR PAT PAW PAY PEA PEG PEN PET PIE PIG PIN PIT POD POP POT PRO PUB PUP PUT RAG RAM RAN RAP RAT RAW RAY RED RIB RID
    RIM RIP ROB ROD ROE ROT ROW RUB RUG RUN RYE SAD SAP SAT SAW SAY SEA SEE SET SEW SHE SHY SIP SIR SIT SKI SKY SLY SOY
    SPA SPY SUB SUM SUN TAB TAG TAN TAP TAR TAX TEA TEN THE TIE TIN TIP TON TOP TOY TRY TUB TUG TWO URN USE VAN VAT VET
    VIA WAR WAS WAX WAY WEB WET WHY WIG WIN YAM YEN YES YET ZIP
"""
LETTERS = "ADELNOPRSTY"
"""Letters of the words; few, so that a model of a few hundred thousand parameters learns them all."""
WORDS = tuple(word for word in _WORD_LIST.split() if set(word) <= set(LETTERS))
"""English words of three of the LETTERS, upper case."""

MIRROR_SAFE = "AHIMOTUVWXY018", "BCDEHIKOX0138", "HIMNOSWXZ01689"
"""Characters that still look like a character after a left-right mirror, a top-bottom mirror, a half turn."""


def reads_one_way(text: str) -> bool:
    """Return whether the text is unreadable in every image that is turned or mirrored."""
    return not any(set(text) <= set(safe) for safe in MIRROR_SAFE)


def split_of(text: str) -> str:
    """Return the split of a text by its hash: about 70 % train, 10 % val, 20 % test."""
    draw = hashlib.sha256(text.encode()).digest()[0] / 256
    return "train" if draw < 0.7 else "val" if draw < 0.8 else "test"


@cache
def number_words(split: str) -> tuple[str, ...]:
    """Return the numbers 000-999 of one split."""
    return tuple(_of_split(split, ("".join(triple) for triple in product(digits, repeat=3))))


@cache
def words(split: str) -> tuple[str, ...]:
    """Return the English words of one split."""
    return tuple(_of_split(split, WORDS))


@cache
def letter_strings() -> tuple[str, ...]:
    """Return the train texts of three letters that aren't words: a model that reads them knows letters, not words."""
    triples = ("".join(triple) for triple in product(LETTERS, repeat=3))
    return tuple(_of_split("train", (triple for triple in triples if triple not in WORDS)))


def _of_split(split: str, texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if reads_one_way(text) and split_of(text) == split)
