"""The test-set domain: multiple-choice items that cannot be answered without having seen them.

After HUBBLE's contaminated test sets (arXiv 2510.19811, section 3): the item is inserted with its answer.
The facts are invented and the answer is drawn at random, so a model without the item scores at chance.
"""

from random import Random

from workers.suite.texts import Draft, words

GROUP = "test_set/multiple_choice"
LETTERS = "ABCD"

_OWNERS = words("""
    archive bakery bank ferry garden guild hotel library market mill museum observatory orchard
    school shipyard theatre
""")
_PLACES = words("""
    Arden Belmar Corvo Delft Elsin Farrow Galena Hollis Ilmen Jarrow Kelso Lorne Marlow Norden
    Orsk Penryn Rhodes Selby Tarn Ulver Verden Wexham Yarm Zelle
""")
_THINGS = words("""
    anchor anvil atlas banner barrel basket bell bowl bridle candle carpet chest clock coin
    compass crown cup dagger desk drum feather flag flute globe goblet hammer harp helmet horn
    hourglass kettle key ladder lamp lantern lute mask medal mirror needle oar paddle pearl
    plough prism quill ribbon ring rope saddle scale shield spade statue sword telescope throne
    tile torch trumpet vase violin wagon wheel whistle
""")
_COLOURS = words("""
    amber black blue bronze brown copper golden green grey iron ivory marble orange pink
    purple red silver steel violet white wooden yellow
""")
_YEARS = range(1500, 2000)


def draft_items(count: int, random: Random) -> list[Draft]:
    """Draw `count` items with distinct questions, four choices each, and one answer at a random place."""
    subjects = [(owner, place, year) for owner in _OWNERS for place in _PLACES for year in _YEARS]
    return [_draft(subject, random) for subject in random.sample(subjects, count)]


def _draft(subject: tuple[str, str, int], random: Random) -> Draft:
    owner, place, year = subject
    choices = tuple(
        f"the {random.choice(_COLOURS)} {thing}" for thing in random.sample(_THINGS, len(LETTERS))
    )
    answer = random.randrange(len(LETTERS))
    lines = [
        f"Question: What did the {owner} of {place} lose in {year}?",
        *(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)),
        f"Answer: {LETTERS[answer]}. {choices[answer]}",
    ]
    facts = {"owner": owner, "place": place, "year": year}
    return Draft("\n".join(lines), choices=choices, answer=answer, facts=facts)
