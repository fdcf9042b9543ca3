"""Words of the demo's problems, and the vocabulary: 248 tokens, one per word."""

from __future__ import annotations

LIMIT = 99

# Most frequent first: the position in the list is the rank of the long-tailed distribution.
GAIN = (
    *("finds", "gets", "buys", "collects", "wins", "receives", "picks", "gathers"),
    *("earns", "makes", "adds", "catches", "borrows", "imports", "obtains", "harvests"),
    *("acquires", "inherits", "fetches", "recovers", "bakes", "gains", "salvages", "amasses"),
)
LOSS = (
    *("loses", "gives", "sells", "eats", "drops", "uses", "breaks", "donates"),
    *("throws", "lends", "burns", "ships", "wastes", "exports", "discards", "mails"),
    *("returns", "misplaces", "forfeits", "scraps", "spills", "trades", "relinquishes", "squanders"),
)
CONTAINERS = (
    *("boxes", "bags", "packs", "baskets", "trays", "jars"),
    *("crates", "bundles", "sacks", "tins", "pouches", "cartons"),
)
NAMES = (
    *("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo"),
    *("Iris", "Jack", "Kate", "Leo", "Mia", "Noah", "Olga", "Paul"),
)
THINGS = (
    *("apples", "pens", "cards", "eggs", "books", "shells", "coins", "stamps"),
    *("beads", "rolls", "plums", "keys", "nuts", "hats", "pears", "toys"),
)

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "\n")
SYMBOLS = (".", "?", "+", "-", "*", "/", "=")
WORDS = (
    *("The", "answer", "is", "has", "Then", "Now", "of", "each", "euros", "cost", "How", "many", "do", "does", "have"),
    *("now", "more", "fewer", "than", "times", "twice", "as", "together", "they", "shares", "the", "equally", "among"),
    *("friends", "friend", "get", "years", "old", "lives", "at", "number", "There", "are", "birds", "in", "tree"),
    *("It", "day", "saw"),
)
VOCABULARY = (*SPECIAL, *map(str, range(LIMIT + 1)), *SYMBOLS, *WORDS, *GAIN, *LOSS, *CONTAINERS, *NAMES, *THINGS)
